"""Makes checkpoints that are hard to quantize, and compares how quantizers do on them.

    python -m tinyvit.studies.hard_checkpoints CHECKPOINT --train-data DIR --val-data DIR -o FOLDER

Each member of the hard set is made from one checkpoint, either by changes that keep what the
network computes (`rescaling`), or by a fine-tuning that keeps its answers (`finetuning`). The table
has a row for each member and quantizer: onnxruntime's `quantize_static` with its defaults (weights
with one scale per tensor) and with one scale per channel, NNCF if it is installed, and our own
quantizer with and without the budget search. A member is hard if a default loses more than 10
points of top-1 accuracy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from tinyvit.bench.machine import describe_cpu
from tinyvit.bench.report.console import format_table_row
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.files.file_io import write_atomically
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.progress import make_progress
from tinyvit.quant.images.calibration_data import read_calibration_set
from tinyvit.studies.hard_checkpoints.members import MEMBER_NAMES, MemberMaker
from tinyvit.studies.hard_checkpoints.quantizers import (
    QUANTIZERS,
    CheckpointComparison,
    QuantizationResult,
    QuantizerConfig,
)

HARD_LOSS = 10.0
"""Percentage points of top-1 that a default must lose for a member to be hard."""
_COLUMNS = (
    "member",
    "quantizer",
    "top-1 float32",
    "top-1 int8",
    "loss",
    "worse / better",
    "agreement",
    "work in integers",
    "note",
)
_TABLE_HEAD = f"{format_table_row(_COLUMNS)}\n{'|---' * len(_COLUMNS)}|"
_EXAMPLES = """\
  python -m tinyvit.studies.hard_checkpoints demo.safetensors --train-data train --val-data val \\
      -o hard/
  python -m tinyvit.studies.hard_checkpoints demo.safetensors --train-data train --val-data val \\
      --members values massive-tokens --img-size 128 --steps 100 -o hard/"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.hard_checkpoints",
        "Make checkpoints that are hard to quantize, and compare how quantizers do on them.",
        _EXAMPLES,
    )
    _add_arguments(parser)
    options = parser.parse_args(argv)
    return run_guarded(lambda: _run(options))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="the checkpoint to make the set from"
    )
    parser.add_argument(
        "--train-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="images for fine-tuning and for calibration",
    )
    parser.add_argument(
        "--val-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="other images for measuring accuracy, in folders named by WordNet id or label",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder for the checkpoints of the members and the table (table.md)",
    )
    parser.add_argument(
        "--members",
        nargs="+",
        choices=MEMBER_NAMES,
        default=list(MEMBER_NAMES),
        metavar="NAME",
        help=f"members to make (default: all of {', '.join(MEMBER_NAMES)})",
    )
    _add_sizes(parser)


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the options that determine how much is computed."""
    parser.add_argument(
        "--img-size",
        type=positive_int,
        metavar="S",
        help="image size of the members in pixels (default: that of the checkpoint)",
    )
    parser.add_argument(
        "--steps",
        type=positive_int,
        default=300,
        metavar="N",
        help="optimization steps of each fine-tuning (default: 300)",
    )
    parser.add_argument(
        "--calib-count",
        type=positive_int,
        default=256,
        metavar="N",
        help="images for calibration, and for fine-tuning (default: 256)",
    )
    parser.add_argument(
        "--targets",
        nargs="+",
        default=["onnx"],
        metavar="TARGET",
        help="export targets of our own quantizer (default: onnx)",
    )
    parser.add_argument(
        "--quantizers",
        choices=QUANTIZERS,
        default="all",
        metavar="NAME",
        help="all, others (of other projects) or own (default: all)",
    )
    parser.add_argument(
        "--reuse",
        action="store_true",
        help="use the checkpoints that an earlier run with the same options wrote to the folder",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of all random numbers (default: 0)"
    )


def _run(options: argparse.Namespace) -> int:
    """Make the members, and print the rows of the table as soon as they are measured."""
    checkpoint = load_checkpoint(options.checkpoint)
    if options.img_size is not None:
        checkpoint = checkpoint.at_size(options.img_size, "scaled")
    progress = make_progress()
    pixels = read_calibration_set(
        options.train_data, checkpoint.preprocess, options.calib_count
    ).pixels[:]
    images = torch.from_numpy(checkpoint.preprocess.normalize(pixels))
    maker = MemberMaker(checkpoint, images, options.steps, options.seed, progress)
    config = QuantizerConfig(
        options.train_data,
        options.val_data,
        options.calib_count,
        tuple(options.targets),
        quantizers=options.quantizers,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    lines = [f"{describe_cpu()}; {checkpoint.img_size} pixels\n", _TABLE_HEAD]
    print("\n".join(lines), flush=True)
    for name in options.members:
        path = options.output / f"{name}.safetensors"
        if not (options.reuse and path.is_file()):
            maker.save(name, path)
        results = []
        with tempfile.TemporaryDirectory() as folder:
            for result in CheckpointComparison(path, config, Path(folder), progress).run():
                results.append(result)
                lines.append(make_row(name, result))
                print(lines[-1], flush=True)
        if options.quantizers != "own":
            lines.append(make_verdict_row(name, results))
            print(lines[-1], flush=True)
        table = "\n".join(lines) + "\n"
        write_atomically(options.output / "table.md", table)
    return 0


def make_row(member: str, result: QuantizationResult) -> str:
    """Return the row of a result in the Markdown table.

    Args:
        member: Name of the member.
        result: The result of one quantizer.
    """
    comparison = result.comparison
    if comparison is None or result.loss is None:
        return format_table_row((member, result.quantizer, *[""] * 6, result.note))
    return format_table_row(
        (
            member,
            result.quantizer,
            f"{comparison.reference_top1:.1f}%",
            f"{comparison.top1:.1f}%",
            f"{result.loss:.1f}",
            f"{comparison.worse} / {comparison.better}",
            f"{comparison.agreement:.1f}%",
            f"{result.integer_share:.1%}",
            result.note,
        )
    )


def make_verdict_row(member: str, results: Sequence[QuantizationResult]) -> str:
    """Return the row that says whether a member is hard.

    Args:
        member: Name of the member.
        results: The results of all quantizers on it.
    """
    losses = [result.loss for result in results if result.is_default and result.loss is not None]
    largest_loss = max(losses, default=0.0)
    verdict = "hard" if largest_loss > HARD_LOSS else "not hard"
    note = f"{verdict}: a default loses {largest_loss:.1f} points"
    return format_table_row((member, *[""] * 7, note))


if __name__ == "__main__":
    sys.exit(main())
