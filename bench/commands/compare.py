"""The subcommand tinyvit-bench compare: finds regressions between two benchmark records."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

from tinyvit.bench.record import Record
from tinyvit.errors import RequestError
from tinyvit.text.safe_text import print_lines

HELP = "compare two records, and exit with code 1 if the second one is significantly worse"
EXAMPLES = """\
  tinyvit-bench compare main.json branch.json --max-regress 3%
  tinyvit-bench compare old.json new.json --max-drop 0.5
  tinyvit-bench compare old.json new.json --match demo.onnx=demo.int8.onnx

A record of accuracy does not contain the predictions for single images, so the interval of a change
is wide. To compare two files on the same images, give both to tinyvit-bench accuracy: it compares
their predictions image by image and detects much smaller differences.

exit codes:
  0  no change is a regression; inconclusive changes do not count as regressions
  1  a change is a regression, or the records cannot be compared
  2  an option is wrong"""


DEFAULT_MAX_REGRESS, DEFAULT_MAX_DROP = 0.03, 0.5
"""Allowed increase of the latency, as a fraction, and allowed loss of accuracy, in points."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand to its parser."""
    add = parser.add_argument
    add(
        "before",
        type=Path,
        metavar="BEFORE",
        help="Baseline record: a file with the output of tinyvit-bench latency --json or"
        " accuracy --json.",
    )
    add(
        "after",
        type=Path,
        metavar="AFTER",
        help="Record to check for regressions. It must be of the same kind (latency or accuracy)"
        " and device, and the artifacts must have the same file names, unless each record is of"
        " one file. If a record has several files of one name, these must have the same paths.",
    )
    add(
        "--match",
        nargs="+",
        type=_parse_match,
        default=[],
        metavar="BEFORE=AFTER",
        help="Compare the artifact with the file name BEFORE in the first record with the one with"
        " the file name AFTER in the second record.",
    )
    add(
        "--max-regress",
        type=_parse_percentage,
        metavar="PERCENT",
        help="Allowed increase of the latency in percent, with or without the percent sign: 3 is"
        " 3%%, and 0.03 is 0.03%% (default: 3%%). A change is a regression if its whole 95%%"
        " interval is above the limit.",
    )
    add(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="Allowed loss of top-1 accuracy, in percentage points (default: 0.5). A change is"
        " a regression if its whole 95%% interval is a loss above the limit.",
    )
    add(
        "--across-devices",
        action="store_true",
        help="Compare records even if they are from different devices.",
    )
    add("--json", action="store_true", help="Print one JSON object instead of a table.")


def run(args: argparse.Namespace) -> int:
    """Compare the records and print the changes.

    Returns:
        Exit code 1 if there is a regression, otherwise 0, even if changes are inconclusive.

    Raises:
        RequestError: A file is not a record, or the records cannot be compared.
    """
    from tinyvit.bench.compare import compare_records
    from tinyvit.bench.record import read_record
    from tinyvit.bench.report.console import format_comparison

    record_before = read_record(args.before)
    _refuse_other_limit(record_before, args)
    comparison = compare_records(
        record_before,
        read_record(args.after),
        max_regress=DEFAULT_MAX_REGRESS if args.max_regress is None else args.max_regress,
        max_drop=DEFAULT_MAX_DROP if args.max_drop is None else args.max_drop,
        across_devices=args.across_devices,
        names={after: before for before, after in args.match},
    )
    if args.json:
        print_lines(json.dumps(asdict(comparison)))
    else:
        print_lines(*format_comparison(comparison))
    return 1 if any(change.is_regression for change in comparison.changes) else 0


def _refuse_other_limit(record: Record, args: argparse.Namespace) -> None:
    """Raise RequestError if a limit was given that records of this kind do not have."""
    limits = {
        "latency": ("--max-drop", args.max_drop, "--max-regress"),
        "accuracy": ("--max-regress", args.max_regress, "--max-drop"),
    }
    option, value, right_option = limits.get(record.kind, ("", None, ""))
    if value is not None:
        raise RequestError(
            f"{option} has no effect on records of {record.kind}", f"use {right_option}"
        )


def _parse_match(text: str) -> tuple[str, str]:
    """Convert "a.onnx=b.onnx" to the two file names."""
    before, separator, after = text.partition("=")
    if not (before and separator and after):
        raise argparse.ArgumentTypeError(f"{text!r} is not BEFORE=AFTER, two file names")
    return before, after


def _parse_percentage(text: str) -> float:
    """Convert "3%" or "3" to the fraction 0.03."""
    try:
        fraction = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        fraction = math.nan
    if not 0 <= fraction <= 10:  # also true for NaN
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0% to 1000%")
    return fraction
