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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from types import ModuleType

from tinyvit import __version__
from tinyvit.command_parser import CommandParser
from tinyvit.errors import TinyViTError
from tinyvit.files.file_io import explain_os_error
from tinyvit.privacy import use_temporary_caches
from tinyvit.processes.stop_signals import Terminated, catch_stop_signals, restore_interrupt
from tinyvit.progress import end_progress
from tinyvit.text.safe_text import print_error, print_lines, print_traceback

_DEBUG_VARIABLE = "TINYVIT_DEBUG"

_SIGTERM_EXIT_CODE = 128 + signal.SIGTERM
"""143. A shell reports 128 plus the number of the signal for a process that a signal ended."""


def make_parser(prog: str, description: str, examples: str) -> CommandParser:
    """Create the parser of a command, with the option --version.

    Args:
        prog: Name of the command.
        description: A sentence that describes what the command does.
        examples: Example commands, one per line; --help prints them at the end.

    Returns:
        A parser with no arguments other than --help and --version.
    """
    parser = CommandParser(
        prog=prog,
        description=description,
        epilog=_format_examples(examples, prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{prog} {__version__}")
    return parser


def make_subcommand_parser(
    prog: str, description: str, examples: str, package: ModuleType
) -> CommandParser:
    """Create the parser of a command whose subcommands are the modules of a package.

    Each module defines `HELP` (a clause without a period), `EXAMPLES` (example commands, one per
    line), `add_arguments(parser)` and `run(namespace)`, which returns the exit code. The module
    `save_logits`, for example, is the subcommand "save-logits".

    Args:
        prog: Name of the command.
        description: A sentence that describes what the command does.
        examples: Example commands, one per line.
        package: The package of the subcommands. All of its modules are imported.

    Returns:
        The parser. Its result has the attribute `run`, the function of the chosen subcommand.
    """
    parser = make_parser(prog, description, examples)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        module = import_module(f"{package.__name__}.{name}")
        subparser = subparsers.add_parser(
            name.replace("_", "-"),
            help=module.HELP,
            description=f"{module.HELP[0].upper()}{module.HELP[1:]}.",
            epilog=_format_examples(module.EXAMPLES, prog),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def run_subcommand(parser: CommandParser, argv: Sequence[str] | None) -> int:
    """Run the subcommand that the arguments name.

    Args:
        parser: The parser that `make_subcommand_parser` created.
        argv: Arguments without the program name; None for those of the process.

    Returns:
        The exit code.
    """
    namespace = parser.parse_args(argv)

    def run_chosen_subcommand() -> int:
        return int(namespace.run(namespace))

    return run_guarded(run_chosen_subcommand)


@contextmanager
def explain_interrupt(make_message: Callable[[], str]) -> Iterator[None]:
    """Add a message to any KeyboardInterrupt in the block, for example how to continue.

    Args:
        make_message: Function that describes what the interrupted command leaves behind and what
            the user can do with that. It is called after the interruption. `run_guarded` prints the
            message after "interrupted: ".

    Yields:
        Nothing.
    """
    try:
        with restore_interrupt():
            yield
    except KeyboardInterrupt as interrupt:
        interrupt.args = (make_message(),)
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
    _replace_closed_streams()
    try:
        with catch_stop_signals(), restore_interrupt(), use_temporary_caches():
            try:
                exit_code = command()
            finally:
                end_progress()
            # If the disk is full or the pipe is closed, flushing here raises an error that can
            # still be reported. Without this, the interpreter would flush at exit, too late.
            sys.stdout.flush()
            return exit_code
    except BrokenPipeError:
        _flush_or_discard_output()
        return 1
    except KeyboardInterrupt as interrupt:
        is_terminated = isinstance(interrupt, Terminated)
        message = interrupt.args[0] if interrupt.args else "nothing was left behind"
        reason = "terminated" if is_terminated else "interrupted"
        print_lines(f"{reason}: {message}", stream=sys.stderr)
        return _SIGTERM_EXIT_CODE if is_terminated else 1
    except Exception as error:
        _flush_or_discard_output()
        if os.environ.get(_DEBUG_VARIABLE):
            print_traceback()
        print_error(explain_error(error))
        return 1


def _replace_closed_streams() -> None:
    """Open the null device for each standard stream that the process was started without.

    A shell closes them with `>&-`. Python then sets `sys.stdout` to None, and the next file that
    the process opens gets the descriptor 1, to which native code prints.
    """
    for descriptor in range(3):
        with suppress(OSError):
            os.fstat(descriptor)
            continue
        # `os.open` uses the lowest free descriptor, which is this one.
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            null = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the end)
            setattr(sys, name, null)


def explain_error(error: Exception) -> TinyViTError:
    """Return a TinyViTError unchanged, or a TinyViTError that explains any other error.

    Args:
        error: The error.
    """
    if isinstance(error, TinyViTError):
        return error
    if isinstance(error, OSError) and error.strerror:
        reason, remedy = explain_os_error(error)
        return TinyViTError(
            f"{error.filename or 'a file'} cannot be read or written ({reason})", remedy
        )
    if isinstance(error, MemoryError):
        return TinyViTError(
            "the memory of this machine, or the limit on that of this process, is not sufficient",
            "use smaller files, images or batches, or a machine with more memory",
        )
    first_line = next(iter(str(error).splitlines()), "")
    cause = f"unexpected {type(error).__name__}" + (f": {first_line}" if first_line else "")
    return TinyViTError(
        cause,
        f"report this with the output of the same command with {_DEBUG_VARIABLE}=1 set",
    )


def _flush_or_discard_output() -> None:
    """Flush standard output. If that fails, discard the output that cannot be written.

    Without this, the interpreter would try to write the output again at exit and print a second
    error.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _format_examples(examples: str, prog: str) -> str:
    """Return the last part of a help text, which lists example commands.

    A program with two names, such as "tinyvit-export" and "tinyvit export", has the name in them
    with which it was started.
    """
    return f"examples:\n{examples.replace(prog.replace(' ', '-'), prog)}"
