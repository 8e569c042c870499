"""Measures how time, memory and file size grow with threads, images, classes and workers.

    python -m tinyvit.studies.scaling [-o docs/results] [--quick] [--part NAME ...]

The command writes a Markdown page, a JSON record and pictures, which are named after the kind of
machine. It takes less than 45 minutes on two cores that do nothing else, without the parts with
very many pictures, which run only when --part names them: each takes about half an hour more, and
5 GB of the disk. The end of the page, after a comment that says so, is written by hand, and kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tinyvit.bench import machine
from tinyvit.bench.latency.interference import detect_interference, take_snapshot
from tinyvit.bench.latency.process_times import adopt_orphans
from tinyvit.bench.record import current_time
from tinyvit.cli import make_parser, run_guarded
from tinyvit.errors import MissingDependencyError
from tinyvit.progress import Progress, make_progress
from tinyvit.studies.earlier_records import read_earlier_items
from tinyvit.studies.figures import name_machine_kind
from tinyvit.studies.output_argument import add_output_argument
from tinyvit.studies.scaling.curves import Part
from tinyvit.studies.scaling.long_parts import LONG_PARTS
from tinyvit.studies.scaling.network_parts import NETWORK_PARTS
from tinyvit.studies.scaling.page import (
    ScalingRecord,
    draw_part,
    format_page,
    make_record,
    name_picture,
    read_handwritten,
    read_parts,
)
from tinyvit.studies.scaling.picture_parts import PICTURE_PARTS
from tinyvit.studies.scaling.plan import FULL, QUICK, Budget, ScalingPlan

USUAL_PARTS = (*NETWORK_PARTS, *PICTURE_PARTS)
"""Names of the parts that are measured unless --part names others."""
PART_NAMES = (*USUAL_PARTS, *LONG_PARTS)
"""Names of all parts, in the order of the page."""
_PROGRAM = "python -m tinyvit.studies.scaling"
_EXAMPLES = f"""\
  {_PROGRAM} -o docs/results --pictures docs/images
  {_PROGRAM} --quick --part batch classes -o scaling/"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(_PROGRAM, "Measure how time, memory and file size grow.", _EXAMPLES)
    add = parser.add_argument
    add(
        "--part",
        nargs="+",
        choices=PART_NAMES,
        default=list(USUAL_PARTS),
        metavar="NAME",
        help=f"parts to measure: {', '.join(USUAL_PARTS)} (default: all of these), and"
        f" {', '.join(LONG_PARTS)}, each of which takes about half an hour and 5 GB of the disk",
    )
    add("--quick", action="store_true", help="measure a few small networks, to try the program")
    add_output_argument(parser, "folder for the page and the record (default: docs/results)")
    add(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="folder for the pictures (default: the folder images beside that of the page if it"
        " exists, else the folder of the page)",
    )
    return run_guarded(partial(_run, parser.parse_args(argv)))


def _run(args: argparse.Namespace) -> int:
    try:
        import matplotlib  # noqa: F401 (needed at the end, and checked before the measurements)
    except ImportError as error:
        raise MissingDependencyError.for_package("matplotlib", extra="bench") from error
    device = machine.read_device_info()
    stem = f"{name_machine_kind(device)}-scaling"
    record_path = args.output / f"{stem}.json"
    read = partial(read_parts, device=device, is_quick=args.quick)
    parts = {part.name: part for part in read_earlier_items(record_path, read)}
    plan = QUICK if args.quick else FULL
    for part in measure(plan, args.part, make_progress()):
        parts[part.name] = part
        ordered = tuple(parts[name] for name in PART_NAMES if name in parts)
        # After each part, because a later one may take an hour, and be interrupted.
        _write(ScalingRecord(device, ordered, args.quick), record_path, args.pictures)
    print(record_path.with_suffix(".md"))
    return 0


def measure(plan: ScalingPlan, names: Sequence[str], progress: Progress) -> Iterator[Part]:
    """Measure parts of the study.

    Args:
        plan: What each part varies.
        names: Names of parts, from `PART_NAMES`.
        progress: Receives messages.

    Yields:
        Each part as soon as it is measured.
    """
    budget = Budget(plan.total_seconds)
    with adopt_orphans(), tempfile.TemporaryDirectory() as folder:  # Ray leaves orphans.
        for name in PART_NAMES:
            if name in names:
                limited = replace(
                    plan,
                    part_seconds=min(plan.part_seconds, budget.remaining_s),
                    calibration_seconds=min(plan.calibration_seconds, budget.remaining_s),
                )
                yield _measure_part(name, limited, Path(folder), progress)


def _measure_part(name: str, plan: ScalingPlan, folder: Path, progress: Progress) -> Part:
    """Measure a part, and note what disturbed it."""
    date, before = current_time(), take_snapshot()
    if name in NETWORK_PARTS:
        part = NETWORK_PARTS[name].measure(name, plan, folder, progress)
    else:
        part = {**PICTURE_PARTS, **LONG_PARTS}[name](plan, folder, progress)
    disturbances = detect_interference(before, take_snapshot())
    return replace(part, date=date, notes=(*part.notes, *disturbances))


def _write(record: ScalingRecord, record_path: Path, pictures: Path | None) -> None:
    """Write the record, the pictures, and the page with its old part that is written by hand."""
    folder, stem = record_path.parent, record_path.stem
    if pictures is None:
        beside = folder.parent / "images"
        pictures = beside if beside.is_dir() else folder
    for needed in (folder, pictures):
        needed.mkdir(parents=True, exist_ok=True)
    for part in record.parts:
        if part.curves:
            (pictures / name_picture(stem, part)).write_bytes(draw_part(part))
    record_path.write_text(json.dumps(make_record(record), indent=1) + "\n")
    page = record_path.with_suffix(".md")
    handwritten = read_handwritten(page.read_text()) if page.exists() else ""
    relative = Path(os.path.relpath(pictures, folder)).as_posix()
    page.write_text(format_page(record, stem, relative, handwritten))


if __name__ == "__main__":
    sys.exit(main())
