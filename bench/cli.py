"""tinyvit-bench: latency, accuracy, compare, device, report. Its subcommands are the files of commands/."""

from __future__ import annotations

import argparse
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module

from tinyvit.bench import commands
from tinyvit.cli import guarded, parser

_EXAMPLES = """\
  tinyvit-bench latency demo.onnx demo.int8.onnx --threads 2 --json > latency.json
  tinyvit-bench accuracy demo.onnx demo.int8.onnx --data val/ --json > accuracy.json
  tinyvit-bench report latency.json accuracy.json -o report.html"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    made = parser("tinyvit-bench", "Measure exported files: how fast they are, and how right.", _EXAMPLES)
    chosen = made.add_subparsers(metavar="COMMAND", required=True)
    for name in sorted(module.name for module in pkgutil.iter_modules(commands.__path__)):
        module = import_module(f"{commands.__name__}.{name}")
        one = chosen.add_parser(
            name,
            help=module.HELP,
            description=f"{module.HELP[0].upper()}{module.HELP[1:]}.",
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(one)
        one.set_defaults(run=module.run)
    args = made.parse_args(argv)
    return guarded(lambda: int(args.run(args)))


if __name__ == "__main__":
    sys.exit(main())
