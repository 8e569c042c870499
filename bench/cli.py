"""The command tinyvit-bench. Each module of `tinyvit.bench.commands` is one of its subcommands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tinyvit.bench import commands
from tinyvit.cli import make_subcommand_parser, run_subcommand
from tinyvit.command_parser import CommandParser

_EXAMPLES = """\
  tinyvit-bench latency demo.onnx demo.int8.onnx --threads 2 --json > latency.json
  tinyvit-bench accuracy demo.onnx demo.int8.onnx --data val/ --json > accuracy.json
  tinyvit-bench report latency.json accuracy.json -o report.html"""


def main(argv: Sequence[str] | None = None, prog: str = "tinyvit-bench") -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.
        prog: Name of the program in messages.

    Returns:
        The exit code.
    """
    return run_subcommand(make_bench_parser(prog), argv)


def make_bench_parser(prog: str) -> CommandParser:
    """Make the parser of the command, with all of its subcommands.

    Args:
        prog: Name of the program in messages.
    """
    return make_subcommand_parser(
        prog,
        description="Measure the latency and accuracy of artifacts (exported model files), and"
        " report and compare the results.",
        examples=_EXAMPLES,
        package=commands,
    )


if __name__ == "__main__":
    sys.exit(main())
