"""Measures what embeddings, feature maps and MobileSAM's encoder take, beside the stock export.

    python -m tinyvit.studies.encoders --calib-data DIR [--mobile-sam FILE --mobile-sam-stock FILE]

The command exports the demo model with the outputs "embedding" and "features", and the image
encoder of a MobileSAM, in float32 and int8 to the given targets, and writes one Markdown page. The
stock export of the first two is timm's model, exported by torch.onnx.export. The stock export of
MobileSAM is an ONNX file that its own code exported; docs/how-to/reproduce-our-tables.md has the
commands.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tinyvit.bench import machine
from tinyvit.bench.record import PACKAGE_VERSION, current_time
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.image_sizes import ImageSize
from tinyvit.nn.timm_models import export_with_torch, make_timm_model
from tinyvit.outputs import make_output_request
from tinyvit.progress import Progress, make_progress
from tinyvit.studies.encoder_rows import (
    STOCK_ENGINES,
    EncoderFile,
    format_table,
    measure_files,
)
from tinyvit.studies.figures import name_machine_kind, run_shown_export
from tinyvit.studies.figures_page import SUFFIXES, describe_device
from tinyvit.studies.output_argument import add_output_argument

_VARIANT: Final = "tiny_vit_5m_224"
"""The variant of the demo model."""
_OUTPUTS: Final = ("embedding", "features")
"""The outputs of the demo model that are measured."""
_SAM_SIZE: Final = 1024
"""Default image size of MobileSAM's encoder in pixels."""
_PROGRAM = "python -m tinyvit.studies.encoders"
_EXAMPLES = f"""\
  {_PROGRAM} --calib-data photos/
  {_PROGRAM} --calib-data photos/ --mobile-sam mobile_sam.pt --mobile-sam-stock stock.onnx"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(
        _PROGRAM,
        "Measure embeddings, feature maps and MobileSAM's encoder beside the stock export.",
        _EXAMPLES,
    )
    _add_arguments(parser)
    args = parser.parse_args(argv)
    return run_guarded(lambda: _run(args))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--calib-data", type=Path, required=True, metavar="DIR", help="Images for int8.")
    add("--calib-count", type=positive_int, metavar="N", help="Number of calibration images.")
    add(
        "--target",
        nargs="+",
        choices=list(SUFFIXES),
        default=list(SUFFIXES),
        help="Targets to export to (default: all that run on a CPU).",
    )
    add("--img-size", type=int, default=224, help="Size of the demo model's images (default: 224).")
    _add_mobile_sam_arguments(parser)
    add("--rounds", type=positive_int, default=20, metavar="N", help="Timing rounds (default: 20).")
    add(
        "--artifacts",
        type=Path,
        metavar="DIR",
        help="Folder for the exported files. Files that it contains are used again (default: a"
        " temporary folder).",
    )
    add_output_argument(parser, "Folder for the page (default: docs/results).")


def _add_mobile_sam_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--mobile-sam", type=Path, metavar="FILE", help="Checkpoint of a MobileSAM.")
    add(
        "--mobile-sam-stock",
        type=Path,
        metavar="FILE",
        help="ONNX file of the same encoder at the same size, exported by MobileSAM's code.",
    )
    add(
        "--mobile-sam-size",
        type=int,
        default=_SAM_SIZE,
        help=f"Size of MobileSAM's images (default: {_SAM_SIZE}).",
    )
    add(
        "--mobile-sam-target",
        nargs="+",
        choices=list(SUFFIXES),
        help="Targets to export MobileSAM's encoder to (default: those of --target).",
    )


def _run(args: argparse.Namespace) -> int:
    progress = make_progress()
    device, date = machine.read_device_info(), current_time()
    lines = [
        f"# Encoders on {device.architecture}, {device.cpu}",
        "",
        f"{describe_device(device)}; {date}; {PACKAGE_VERSION}.",
        "",
        f"This page is written by `{_PROGRAM}`. All times are of one thread, and all files of a"
        " table",
        "take turns in one process. A ratio is the median over the rounds, with its 95% interval:"
        " the file's",
        "time divided by that of the stock export, in OpenVINO for .xml files and otherwise in"
        " onnxruntime.",
        "Other work on the machine changes times more than ratios.",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.artifacts or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for title, files in _prepare_tables(args, folder, progress):
            rows = measure_files(files, args.rounds, progress)
            lines += ["", f"## {title}", "", *format_table(rows)]
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / f"{name_machine_kind(device)}-encoders.md"
    path.write_text("\n".join(lines) + "\n")
    print(path)
    return 0


def _prepare_tables(
    args: argparse.Namespace, folder: Path, progress: Progress
) -> list[tuple[str, list[EncoderFile]]]:
    """Export all files, and return the title and the files of each table, the stock ones first."""
    tables = []
    for kind in _OUTPUTS:
        stock = folder / f"stock.{kind}.onnx"
        if not stock.is_file():
            progress.message(f"exporting timm's model with the output {kind}")
            _export_stock(kind, args.img_size, stock)
        options = ("--model", "demo", "--output", kind, "--img-size", str(args.img_size))
        own = _export_targets(args, args.target, options, folder / kind)
        title = f"Output {kind}, TinyViT-5M, {args.img_size} pixels"
        tables.append((title, _list_files(stock, own)))
    if args.mobile_sam is not None:
        size = str(args.mobile_sam_size)
        sam_options = ("--checkpoint", str(args.mobile_sam), "--img-size", size)
        targets = args.mobile_sam_target or args.target
        own = _export_targets(args, targets, sam_options, folder / "mobile_sam")
        title = f"MobileSAM's image encoder, {size} pixels"
        tables.append((title, _list_files(args.mobile_sam_stock, own)))
    return tables


def _list_files(stock: Path | None, own: Sequence[Path]) -> list[EncoderFile]:
    """List the stock file in each engine that is compared with it, and the project's files."""
    files = [EncoderFile(path) for path in own]
    if stock is None:
        return files
    has_openvino = any(path.suffix == ".xml" for path in own)
    engines = STOCK_ENGINES if has_openvino else STOCK_ENGINES[:1]
    return [*(EncoderFile(stock, engine, is_stock=True) for engine in engines), *files]


def _export_stock(kind: str, img_size: ImageSize, path: Path) -> None:
    """Export timm's model with random weights and an output, by torch.onnx.export."""
    model = make_timm_model(_VARIANT, make_output_request(kind))
    export_with_torch(model, img_size, path)


def _export_targets(
    args: argparse.Namespace, targets: Sequence[str], options: Sequence[str], stem: Path
) -> list[Path]:
    """Export a network in float32 and int8 to every target whose file does not exist yet.

    The recipe of int8 is calibrated for the first target, and used for the others.

    Args:
        args: The arguments of the command.
        targets: Names of the targets.
        options: Options of tinyvit-export that select the network.
        stem: Path of each file without its precision and suffix.

    Returns:
        The files: all of float32, then all of int8.
    """
    calibration = ["--int8", "--calib-data", str(args.calib_data)]
    calibration += ["--recipe", f"{stem}.recipe.json"]
    if args.calib_count is not None:
        calibration += ["--calib-count", str(args.calib_count)]
    paths = []
    for precision, more in (("", ()), (".int8", tuple(calibration))):
        for target in targets:
            path = Path(f"{stem}{precision}{SUFFIXES[target]}")
            if not path.exists():
                run_shown_export([*options, *more, "--target", target, "-o", str(path)])
            paths.append(path)
    return paths


if __name__ == "__main__":
    sys.exit(main())
