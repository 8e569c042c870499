"""tinyvit-bench: latency, accuracy, compare, device, report. Its subcommands are the files of commands/."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tinyvit.bench import commands
from tinyvit.cli import run_subcommand

_EXAMPLES = """\
  tinyvit-bench latency demo.onnx demo.int8.onnx --threads 2 --json > latency.json
  tinyvit-bench accuracy demo.onnx demo.int8.onnx --data val/ --json > accuracy.json
  tinyvit-bench report latency.json accuracy.json -o report.html"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_subcommand(
        "tinyvit-bench",
        "Measure exported files: how fast they are, and how right.",
        _EXAMPLES,
        commands,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
