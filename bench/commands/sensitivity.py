"""The subcommand tinyvit-bench sensitivity: measures how much error int8 causes in each layer."""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyvit.bench.arguments import add_record_arguments
from tinyvit.cli import positive_int
from tinyvit.errors import RequestError
from tinyvit.openmp import use_passive_waiting
from tinyvit.progress import make_progress
from tinyvit.text.safe_text import print_lines

HELP = "measure how much error int8 quantization causes in each layer of an .onnx file"
EXAMPLES = """\
  tinyvit-bench sensitivity demo.int8.onnx --reference demo.onnx --data photos/
  tinyvit-bench sensitivity demo.int8.onnx --reference demo.pth --data photos/ --limit 128
  tinyvit-bench sensitivity demo.int8.onnx --reference demo.onnx --json > sensitivity.json
  tinyvit-bench report sensitivity.json -o report.html

the columns of the table:
  share of error   squared error of the logits if only this unit (layer or attention module) is
                   quantized, as a share of that with all units quantized; the shares do not add up
                   to exactly 100%
  SNR, cosine      signal-to-noise ratio and cosine similarity of the unit's output, if only this
                   unit is quantized
  MACs             multiply-accumulates of the unit, as a share of those of all units"""
DEFAULT_ROWS = 20
"""Number of units in the printed table. The record contains all units."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand to its parser."""
    add = parser.add_argument
    add("file", metavar="FILE", help="An .onnx file of tinyvit-export --int8. It runs on the CPU.")
    add(
        "--reference",
        type=Path,
        required=True,
        metavar="FILE",
        help="The float32 .onnx file, or the checkpoint, from which the int8 file was made.",
    )
    add(
        "--data",
        type=Path,
        metavar="DATA",
        help="Images: a folder of images or of class folders, a .txt file of paths, or an .npz file"
        " of one array. The folders take turns; the choice depends only on the names of the images"
        " (default: the golden test patterns of the file, which are no photographs).",
    )
    add(
        "--limit",
        type=positive_int,
        metavar="N",
        help="Number of images of --data, at most 1024 (default: 64).",
    )
    add("--threads", type=positive_int, metavar="N", help="Number of CPU threads.")
    add(
        "--top",
        type=positive_int,
        default=DEFAULT_ROWS,
        metavar="N",
        help=f"Number of units in the printed table (default: {DEFAULT_ROWS}). --json prints all.",
    )
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure the sensitivity, and print a table or the record.

    Returns:
        Exit code 0.

    Raises:
        RequestError: Options contradict each other, or a file is of another kind.
        ArtifactError: A file is damaged.
    """
    from tinyvit.bench.report.sensitivity_lines import format_sensitivity_record
    from tinyvit.bench.sensitivity.inputs import DEFAULT_IMAGES, MAX_IMAGES
    from tinyvit.bench.sensitivity.suite import SensitivityOptions, record_sensitivity

    if args.limit is not None and args.data is None:
        raise RequestError("--limit is an option of --data", "add --data, or leave out --limit")
    if args.limit is not None and args.limit > MAX_IMAGES:
        raise RequestError(
            f"--limit {args.limit} is more than {MAX_IMAGES}",
            f"give 1 to {MAX_IMAGES}; {DEFAULT_IMAGES} are enough to order the layers",
        )
    use_passive_waiting()  # torch computes with a reference that is a checkpoint
    options = SensitivityOptions(
        reference=args.reference,
        data=args.data,
        limit=args.limit or DEFAULT_IMAGES,
        threads=args.threads,
        device_name=args.name,
    )
    record = record_sensitivity(args.file, options, make_progress(json_output=args.json))
    lines = [record.to_json()] if args.json else format_sensitivity_record(record, args.top)
    print_lines(*lines)
    return 0
