"""Measures every change for speed or memory with the code before it and with the present code.

    python -m tinyvit.studies.before_after [-o docs/results] [--rows NAME ...] [--rounds N]
        [--calib-data DIR --val-data DIR] [--quick]

It must run in a complete clone of the repository, whose history has the earlier states. It writes a
Markdown page and a JSON record, named after the kind of machine, after each row; rows that are not
measured again are kept. No earlier state is left behind, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tinyvit.bench import machine
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.errors import RequestError
from tinyvit.progress import make_progress
from tinyvit.studies.before_after.inputs import QUICK, Plan
from tinyvit.studies.before_after.page import (
    BeforeAfterRecord,
    RowResult,
    format_page,
    make_record,
    read_rows,
)
from tinyvit.studies.before_after.rows import ROWS
from tinyvit.studies.before_after.taking_turns import FAILED, StudyOptions, measure_rows
from tinyvit.studies.earlier_records import read_earlier_items
from tinyvit.studies.figures import name_machine_kind
from tinyvit.studies.output_argument import add_output_argument

ROOT = Path(__file__).resolve().parents[2]
"""The working tree with the present code."""
_PROGRAM = "python -m tinyvit.studies.before_after"
_EXAMPLES = f"""\
  {_PROGRAM} --calib-data train/ --val-data val/ -o docs/results
  {_PROGRAM} --rows predict-large streams --rounds 9
  {_PROGRAM} --quick -o before-after/"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code, which is 1 if a row could not be measured that this machine can measure.
    """
    description = "Measure every change with the code before it and with the present code."
    parser = make_parser(_PROGRAM, description, _EXAMPLES)
    _add_arguments(parser)
    return run_guarded(partial(_run, parser.parse_args(argv)))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    names = [row.name for row in ROWS]
    add(
        "--rows",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"rows to measure: {', '.join(names)} (default: all)",
    )
    add(
        "--rounds",
        type=positive_int,
        metavar="N",
        help="runs of each state (default: 5 for short measurements, 1 to 3 for long ones)",
    )
    _add_data_arguments(parser)
    add("--quick", action="store_true", help="measure little, to try the program")
    add_output_argument(parser, "folder for the page and the record (default: docs/results)")


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name or count the pictures of long measurements."""
    add = parser.add_argument
    add(
        "--calib-data",
        type=Path,
        metavar="DIR",
        help="labeled photographs to calibrate with, for the rows processes and export-all",
    )
    add(
        "--val-data",
        type=Path,
        metavar="DIR",
        help="at least 1,000 labeled photographs in class folders, for the rows processes and"
        " export-all",
    )
    add(
        "--calibration-pictures",
        type=positive_int,
        metavar="N",
        help="pictures of the row calibration, 32 to 10,000 (default: 2,000)",
    )


def _run(args: argparse.Namespace) -> int:
    plan = QUICK if args.quick else Plan()
    if args.calibration_pictures is not None:
        plan = replace(plan, calibration_pictures=args.calibration_pictures)
    device = machine.read_device_info()
    path = args.output / f"{name_machine_kind(device)}-before-after.json"
    read = partial(read_rows, device=device, is_quick=args.quick)
    results = {row.name: row for row in read_earlier_items(path, read)}

    def report(result: RowResult) -> None:
        results[result.name] = result
        ordered = tuple(results[row.name] for row in ROWS if row.name in results)
        _write(BeforeAfterRecord(result.date, device, ordered, args.quick), path)
        if result.note:
            print(f"{result.name}: {result.note}", file=sys.stderr)

    options = StudyOptions(
        ROOT,
        plan,
        _find_folder(args.calib_data),
        _find_folder(args.val_data),
        rounds=args.rounds or (1 if args.quick else None),
    )
    rows = [row for row in ROWS if row.name in args.rows]
    measure_rows(rows, options, make_progress(), report)
    print(path.with_suffix(".md"))
    return int(any(results[row.name].note.startswith(FAILED) for row in rows))


def _find_folder(path: Path | None) -> Path | None:
    """Return the absolute path of a folder, because the measurements run elsewhere."""
    if path is None:
        return None
    if not path.is_dir():
        raise RequestError(f"{path} is not a folder", "give a folder of class folders")
    return path.resolve()


def _write(record: BeforeAfterRecord, path: Path) -> None:
    """Write the record, and the page beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(make_record(record), indent=1) + "\n")
    path.with_suffix(".md").write_text("\n".join(format_page(record)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
