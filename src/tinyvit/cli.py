"""Code that all commands share: parsers, exit codes, error messages and signal handling.

Exit codes: 0 for success; 1 for an error, which one line on standard error explains; 2 for a wrong
command line; 143 after SIGTERM. If TINYVIT_DEBUG=1 is set in the environment, the traceback of an
error is printed before its line.
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

_DEBUG_VARIABLE = "TINYVIT_DEBUG"


def make_parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Create the parser of a command, with the option --version.

    Args:
        prog: Name of the command.
        description: A sentence that describes what the command does.
        examples: Example commands, one per line; --help prints them at the end.

    Returns:
        A parser with no arguments other than --help and --version.
    """
    parser = argparse.ArgumentParser(
        prog=prog, description=description, **_examples_epilog(examples)
    )
    parser.add_argument("--version", action="version", version=f"{prog} {__version__}")
    return parser


def run_subcommand(
    prog: str, description: str, examples: str, package: ModuleType, argv: Sequence[str] | None
) -> int:
    """Run a command whose subcommands are the modules of a package.

    Each module has `HELP` (a clause without a period), `EXAMPLES`, `add_arguments(parser)` and
    `run(namespace)`, which returns the exit code. The module `save_logits` implements the
    subcommand "save-logits".

    Args:
        prog: Name of the command.
        description: A sentence that describes what the command does.
        examples: Example commands, one per line.
        package: The package of the subcommands. All of its modules are imported.
        argv: Arguments without the program name; None for those of the process.

    Returns:
        The exit code.
    """
    parser = make_parser(prog, description, examples)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        module = import_module(f"{package.__name__}.{name}")
        subparser = subparsers.add_parser(
            name.replace("_", "-"),
            help=module.HELP,
            description=f"{module.HELP[0].upper()}{module.HELP[1:]}.",
            **_examples_epilog(module.EXAMPLES),
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    namespace = parser.parse_args(argv)
    return run_guarded(lambda: int(namespace.run(namespace)))


@contextmanager
def explain_interrupt(message: str) -> Iterator[None]:
    """Add a message to any KeyboardInterrupt in the block, for example how to continue.

    Args:
        message: Description of what the interrupted command leaves behind and what the user can do
            with it. `run_guarded` prints it after "interrupted: ".

    Yields:
        Nothing.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.args = (message,)
        raise


def positive_int(text: str) -> int:
    """Parse a whole number of at least 1. Use this function as `type` of an argparse argument.

    Args:
        text: The argument as the user typed it.

    Returns:
        The number.

    Raises:
        argparse.ArgumentTypeError: The text is not a whole number of at least 1.
    """
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def run_guarded(command: Callable[[], int]) -> int:
    """Run a command and turn any error or interruption into one line of text and an exit code.

    Args:
        command: Function that runs the command and returns its exit code. Ctrl-C and SIGTERM raise
            KeyboardInterrupt in it, so that it can clean up (see `explain_interrupt`).

    Returns:
        The exit code of the command; 1 after an error, Ctrl-C or a closed pipe; 143 after SIGTERM.
    """
    try:
        with _raise_on_sigterm():
            code = command()
            # If the disk is full or the pipe is closed, flushing here raises an error that can
            # still be reported. At interpreter exit it could not.
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        _flush_or_discard_output()
        return 1
    except KeyboardInterrupt as interrupt:
        is_terminated = isinstance(interrupt, _Terminated)
        message = interrupt.args[0] if interrupt.args else "nothing was left behind"
        print(f"{'terminated' if is_terminated else 'interrupted'}: {message}", file=sys.stderr)
        return 128 + signal.SIGTERM if is_terminated else 1
    except Exception as error:
        _flush_or_discard_output()
        if os.environ.get(_DEBUG_VARIABLE):
            traceback.print_exc()
        print(f"error: {_explain_error(error)}", file=sys.stderr)
        return 1


class _Terminated(KeyboardInterrupt):
    """Raised when the process receives SIGTERM, so that commands clean up as after Ctrl-C."""


@contextmanager
def _raise_on_sigterm() -> Iterator[None]:
    """Raise _Terminated on SIGTERM, unless the program has installed its own handler."""
    has_default_handler = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )

    def raise_terminated(*_: object) -> None:
        # A second signal must not interrupt the cleanup.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Terminated

    if has_default_handler:
        signal.signal(signal.SIGTERM, raise_terminated)
    try:
        yield
    finally:
        if has_default_handler:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _explain_error(error: Exception) -> TinyViTError:
    """Return a TinyViTError unchanged, or a TinyViTError that explains any other error."""
    if isinstance(error, TinyViTError):
        return error
    if isinstance(error, OSError) and error.strerror:
        reason, remedy = explain_os_error(error)
        return TinyViTError(
            f"{error.filename or 'a file'} cannot be read or written ({reason})", remedy
        )
    first_line = next(iter(str(error).splitlines()), "")
    cause = f"unexpected {type(error).__name__}" + (f": {first_line}" if first_line else "")
    return TinyViTError(
        cause,
        f"report this with the output of the same command with {_DEBUG_VARIABLE}=1 set",
    )


def _flush_or_discard_output() -> None:
    """Flush standard output, or discard output that cannot be written.

    Otherwise the interpreter would try to write it again at exit and print a second error.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _examples_epilog(examples: str) -> dict[str, Any]:
    """Return the parser arguments with which --help ends with the examples, unchanged."""
    return {
        "epilog": f"examples:\n{examples}",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
