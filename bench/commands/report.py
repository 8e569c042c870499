"""The subcommand tinyvit-bench report: writes records as an HTML page, Markdown or CSV."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.errors import RequestError
from tinyvit.files.file_io import refuse_existing, write_atomically
from tinyvit.text.safe_text import print_lines

if TYPE_CHECKING:
    from tinyvit.bench.record import Record

HELP = "write a report from latency, accuracy and sensitivity records"
EXAMPLES = """\
  tinyvit-bench report latency.json accuracy.json
  tinyvit-bench report jetson.json pi.json -o report.md --overwrite"""
DEFAULT_OUTPUT = "report.html"
_SUFFIXES = (".html", ".md", ".csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand to its parser."""
    add = parser.add_argument
    add(
        "records",
        nargs="+",
        type=Path,
        metavar="RECORD",
        help="Records: files with the output of tinyvit-bench latency --json, accuracy --json or"
        " sensitivity --json. They may be from several devices.",
    )
    add(
        "-o",
        "--output",
        type=Path,
        default=Path(DEFAULT_OUTPUT),
        metavar="FILE",
        help=f"Report to write (default: {DEFAULT_OUTPUT}). The suffix determines the format: .html"
        " for an HTML page, .md for Markdown, .csv for only the summary table.",
    )
    add(
        "--title",
        default="Benchmark report",
        metavar="TEXT",
        help='Title of the HTML page (default: "Benchmark report").',
    )
    add("--overwrite", action="store_true", help="Replace the report if the file exists.")


def run(args: argparse.Namespace) -> int:
    """Write the report and print its path.

    Returns:
        Exit code 0.

    Raises:
        RequestError: The suffix of the report is unknown, the file exists, a record cannot be
            read, or the format cannot show what the records contain.
    """
    from tinyvit.bench.record import read_record

    suffix = args.output.suffix.lower()
    if suffix not in _SUFFIXES:
        cause = (
            f"-o {args.output} has the suffix {suffix}, which does not name a report format"
            if suffix
            else f"-o {args.output} has no suffix, but the suffix determines the format"
        )
        raise RequestError(
            cause,
            f"give a name that ends with {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}",
        )
    refuse_existing(args.output, args.overwrite)
    records = [read_record(path) for path in args.records]
    path = write_atomically(args.output, _format_report(records, suffix, args.title))
    print_lines(str(path))
    return 0


def _format_report(records: Sequence[Record], suffix: str, title: str) -> str:
    """Format the report as HTML, Markdown or CSV, depending on the suffix of its file."""
    from tinyvit.bench.report.page import format_page
    from tinyvit.bench.report.rows import make_rows
    from tinyvit.bench.report.text_formats import format_markdown, format_summary_csv

    rows = make_rows(records)
    if suffix == ".html":
        return format_page(records, rows, title)
    if suffix == ".md":
        return format_markdown(records, rows)
    if not rows:
        raise RequestError(
            "a .csv report contains only the summary of latencies and accuracies, and the records"
            " have neither",
            "give -o a name that ends with .html or .md",
        )
    return format_summary_csv(rows)
