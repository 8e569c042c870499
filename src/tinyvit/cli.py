"""What the commands share: exit codes, error lines, --version.

Exit 0: done. 1: refused or failed, one line on stderr says why. 2: the command line was not understood. 143: SIGTERM.
With TINYVIT_DEBUG=1 set, an error's traceback comes before its line.
"""

from __future__ import annotations

import argparse
import os
import pkgutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from tinyvit import __version__
from tinyvit.errors import TinyViTError
from tinyvit.files import explain_os_error

DEBUG = "TINYVIT_DEBUG"


def make_parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser with --version, and with `examples` shown as typed at the end of --help."""
    made = argparse.ArgumentParser(prog=prog, description=description, **_shown(examples))
    made.add_argument("--version", action="version", version=f"{prog} {__version__}")
    return made


def run_subcommand(
    prog: str, description: str, examples: str, folder: ModuleType, argv: Sequence[str] | None
) -> int:
    """A command whose subcommands are the modules of the package `folder`; returns its exit code.

    Each module has HELP, EXAMPLES, add_arguments(parser) and run(namespace) -> exit code; "save_logits.py" is called "save-logits".
    """
    made = make_parser(prog, description, examples)
    chosen = made.add_subparsers(metavar="COMMAND", required=True)
    for name in sorted(module.name for module in pkgutil.iter_modules(folder.__path__)):
        module = import_module(f"{folder.__name__}.{name}")
        said = f"{module.HELP[0].upper()}{module.HELP[1:]}."
        one = chosen.add_parser(
            name.replace("_", "-"), help=module.HELP, description=said, **_shown(module.EXAMPLES)
        )
        module.add_arguments(one)
        one.set_defaults(run=module.run)
    args = made.parse_args(argv)
    return run_guarded(lambda: int(args.run(args)))


@contextmanager
def explain_interrupt(left: str) -> Iterator[None]:
    """Say what an interrupted command leaves, where that is something."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        stopped.args = (left,)
        raise


def positive_int(text: str) -> int:
    """A whole number from 1, for argparse's `type`."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return value


def _shown(examples: str) -> dict[str, Any]:
    return {
        "epilog": f"examples:\n{examples}",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def run_guarded(command: Callable[[], int]) -> int:
    """Run `command`; turn every error, Ctrl-C, SIGTERM and a closed pipe into a line and an exit code. The line of a KeyboardInterrupt
    is its first argument where the command has given it one."""
    try:
        with _sigterm_raises():
            code = command()
            sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
            return code
    except BrokenPipeError:
        _flush_or_drop()
        return 1
    except KeyboardInterrupt as stopped:
        terminated = isinstance(stopped, _Terminated)
        left = stopped.args[0] if stopped.args else "nothing was left behind"
        print(f"{'terminated' if terminated else 'interrupted'}: {left}", file=sys.stderr)
        return 128 + signal.SIGTERM if terminated else 1
    except Exception as error:
        _flush_or_drop()
        if os.environ.get(DEBUG):
            traceback.print_exc()
        print(f"error: {_told(error)}", file=sys.stderr)
        return 1


class _Terminated(KeyboardInterrupt):
    """SIGTERM came. To whatever runs it is Ctrl-C, so that it cleans up as it does then."""


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Raise _Terminated where SIGTERM would end the process at once; a handler that a program has set stays."""
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )

    def stop(*_: object) -> None:
        signal.signal(
            signal.SIGTERM, signal.SIG_IGN
        )  # a second one must not break off the cleaning up
        raise _Terminated

    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _told(error: Exception) -> TinyViTError:
    """The error itself where it is this package's, else one that says what it means to the reader."""
    if isinstance(error, TinyViTError):
        return error
    if isinstance(error, OSError) and error.strerror:
        reason, remedy = explain_os_error(error)
        return TinyViTError(
            f"{error.filename or 'a file'} cannot be read or written ({reason})", remedy
        )
    first = next(iter(str(error).splitlines()), "")
    what = f"unexpected {type(error).__name__}" + (f": {first}" if first else "")
    return TinyViTError(what, f"report this with the output of the same command with {DEBUG}=1 set")


def _flush_or_drop() -> None:
    """Write what waits for stdout; let go of what cannot be written, or the interpreter tries again at its end, and complains."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
