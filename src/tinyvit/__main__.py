"""The command tinyvit, whose subcommands are the other commands: `tinyvit export` and so on.

`tinyvit export` is the same as `tinyvit-export`. Only the module of the requested subcommand is
imported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tinyvit.cli import make_parser, run_guarded
from tinyvit.command_parser import CommandParser
from tinyvit.text.safe_text import print_lines

PROGRAM = "tinyvit"

_EXAMPLES = """\
  tinyvit export --model demo -o demo.onnx
  tinyvit predict demo.onnx cat.jpg
  tinyvit list --min-top1 80 --max-mmacs 2000
  tinyvit completion bash >> ~/.bashrc"""

_COMPLETION = "completion"
_COMPLETION_HELP = "print a script with which a shell completes the commands and options"


@dataclass(frozen=True)
class Subcommand:
    """A subcommand of tinyvit.

    Attributes:
        help: A clause that says what the subcommand does.
        module: The module that defines it. It is a string, because modules of upper layers are
            not imported here, but found when they are needed.
        function: Function of the module that runs the subcommand. It takes the arguments, and the
            name of the program for messages.
        parser_function: Function of the module that takes the name of the program, and returns the
            parser.
        has_own_program: Whether the subcommand is also a program of its own, such as
            tinyvit-export.
    """

    help: str
    module: str
    function: str
    parser_function: str
    has_own_program: bool = True


SUBCOMMANDS = {
    "export": Subcommand(
        "export a checkpoint to files that run on edge devices",
        "tinyvit.export.cli",
        "main",
        "make_export_parser",
    ),
    "predict": Subcommand(
        "classify images, or compute their embeddings, with an exported file",
        "tinyvit.runtimes.cli",
        "predict",
        "make_predict_parser",
    ),
    "verify": Subcommand(
        "check that an exported file computes the right outputs on this machine",
        "tinyvit.runtimes.cli",
        "verify",
        "make_verify_parser",
    ),
    "inspect": Subcommand(
        "show the description in an exported file, or write a model card from it",
        "tinyvit.runtimes.cli",
        "inspect",
        "make_inspect_parser",
    ),
    "bench": Subcommand(
        "measure latency and accuracy, and report and compare the results",
        "tinyvit.bench.cli",
        "main",
        "make_bench_parser",
    ),
    "distill": Subcommand(
        "train a TinyViT from a teacher's predictions or from class labels",
        "tinyvit.distill.cli",
        "main",
        "make_distill_parser",
    ),
    "list": Subcommand(
        "list the architectures and the released checkpoints",
        "tinyvit.export.cli",
        "list_models",
        "make_list_parser",
        has_own_program=False,
    ),
}
"""Name -> subcommand."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        The exit code of the subcommand.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words and words[0] in SUBCOMMANDS:
        name, *rest = words
        program = f"{PROGRAM} {name}"
        run = _find_function(name, "function")
        if argv is not None:
            return int(run(rest, program))
        # Subcommands change settings of the process only if they get its own arguments.
        sys.argv[:] = [program, *rest]
        return int(run(None, program))
    arguments = _make_parser(_make_empty_parser).parse_args(words)
    return run_guarded(lambda: _print_completion(arguments))


def make_full_parser(program: str) -> CommandParser:
    """Make the parser of a program with all of its subcommands, for the completion of a shell.

    Args:
        program: "tinyvit", or the name of another program, such as "tinyvit-export".

    Returns:
        The parser. All modules of the program's subcommands are imported.
    """
    if program == PROGRAM:
        return _make_parser(_make_own_parser)
    return _make_own_parser(program.replace("-", " ", 1), program)


def list_programs() -> list[str]:
    """Return the names of all programs of this package."""
    names = [name for name, subcommand in SUBCOMMANDS.items() if subcommand.has_own_program]
    return [PROGRAM, *(f"{PROGRAM}-{name}" for name in names)]


def _make_parser(make_subparser: Callable[..., CommandParser]) -> CommandParser:
    """Make the parser of tinyvit.

    Args:
        make_subparser: Function that makes the parser of a subcommand from its prog.
    """
    parser = make_parser(
        PROGRAM,
        "Export, run, verify and measure TinyViT on edge devices.\n"
        "tinyvit COMMAND --help describes a command.",
        _EXAMPLES,
    )
    # argparse only calls the "class" of the subparsers, so a function can choose the parser.
    parser_class: Any = make_subparser
    subparsers = parser.add_subparsers(
        metavar="COMMAND", required=True, dest="command", parser_class=parser_class
    )
    for name, subcommand in SUBCOMMANDS.items():
        subparsers.add_parser(name, help=subcommand.help)
    _add_completion_arguments(subparsers.add_parser(_COMPLETION, help=_COMPLETION_HELP))
    return parser


def _make_empty_parser(prog: str, **_: Any) -> CommandParser:
    """Make the parser of a subcommand that is not imported."""
    return CommandParser(prog=prog)


def _make_own_parser(prog: str, shown_prog: str = "", **_: Any) -> CommandParser:
    """Make the parser that a subcommand itself uses; an empty one for "completion"."""
    name = prog.rpartition(" ")[2]
    if name not in SUBCOMMANDS:
        return CommandParser(prog=prog)
    parser: CommandParser = _find_function(name, "parser_function")(shown_prog or prog)
    return parser


def _find_function(name: str, attribute: str) -> Callable[..., Any]:
    """Import the module of a subcommand, and return one of its functions."""
    subcommand = SUBCOMMANDS[name]
    function: Callable[..., Any] = getattr(
        import_module(subcommand.module), getattr(subcommand, attribute)
    )
    return function


def _add_completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="The shell.")
    parser.add_argument(
        "program",
        nargs="?",
        choices=list_programs(),
        default=PROGRAM,
        metavar="PROGRAM",
        help=f"The program whose arguments are completed: %(choices)s (default: {PROGRAM}).",
    )


def _print_completion(arguments: argparse.Namespace) -> int:
    from tinyvit.completion import make_completion_script

    script = make_completion_script(make_full_parser(arguments.program), arguments.shell)
    print_lines(*script.splitlines())
    return 0


if __name__ == "__main__":
    sys.exit(main())
