"""tinyvit-bench compare: two records, for a user's own CI."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

HELP = "compare two records; exit code 1 where the second is significantly worse"
EXAMPLES = """\
  tinyvit-bench compare main.json branch.json --max-regress 3%
  tinyvit-bench compare float32.json int8.json --max-drop 0.5"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See the package."""
    parser.add_argument(
        "before",
        type=Path,
        metavar="BEFORE",
        help="a record that latency or accuracy printed with --json",
    )
    parser.add_argument(
        "after", type=Path, metavar="AFTER", help="one of the same kind, device and artifacts"
    )
    parser.add_argument(
        "--max-regress",
        type=_share,
        default=0.03,
        metavar="P%",
        help="how much slower is fine (3%%)",
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="how much less top-1 is fine (0.5)",
    )
    parser.add_argument(
        "--across-devices", action="store_true", help="compare records of different devices"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )


def _share(text: str) -> float:
    try:
        value = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        value = -1
    if not 0 <= value < 10:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage, such as 3%")
    return value


def run(args: argparse.Namespace) -> int:
    """Exit code 1 where anything regressed."""
    from tinyvit.bench.compare import compare_records
    from tinyvit.bench.record import read_record

    found = compare_records(
        read_record(args.before),
        read_record(args.after),
        args.max_regress,
        args.max_drop,
        args.across_devices,
    )
    if args.json:
        print(json.dumps(asdict(found)))
    else:
        print("| artifact | before | after | change (95% interval) | |\n|---|---|---|---|---|")
        for one in found.changes:
            unit, digits = (" ms", 3) if one.kind == "latency" else ("%", 2)
            interval = f"{one.value:+.{digits}f} ({one.low:+.{digits}f} to {one.high:+.{digits}f})"
            change = interval.replace("+", "") if one.kind == "latency" else f"{interval} points"
            verdict = "REGRESSION" if one.is_regression else "fine"
            print(
                f"| {one.artifact} | {one.before:.2f}{unit} | {one.after:.2f}{unit} | {change} | {verdict} |"
            )
        print(
            "".join(f"not compared, in one record only: {name}\n" for name in found.unmatched),
            end="",
        )
    return 1 if any(one.is_regression for one in found.changes) else 0
