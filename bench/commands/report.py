"""tinyvit-bench report: records become a page, Markdown or a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyvit.errors import RequestError
from tinyvit.files import refuse_existing, write_atomically

HELP = "make a page of what latency and accuracy printed with --json"
EXAMPLES = """\
  tinyvit-bench report latency.json accuracy.json -o report.html
  tinyvit-bench report jetson.json pi.json -o report.md --overwrite"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See the package."""
    parser.add_argument(
        "records",
        nargs="+",
        type=Path,
        metavar="RECORD",
        help="files of records, of one device or of many",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="what to write: .html, .md, or .csv (the summary)",
    )
    parser.add_argument("--title", default="Benchmark report", help="of the page")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def run(args: argparse.Namespace) -> int:
    """See the package."""
    from tinyvit.bench.record import read_record
    from tinyvit.bench.report.page import page
    from tinyvit.bench.report.rows import make_rows
    from tinyvit.bench.report.tables import comma_separated, markdown

    suffix = args.output.suffix.lower()
    if suffix not in (".html", ".md", ".csv"):
        raise RequestError(
            f"a report cannot be a {suffix or 'file without a suffix'}",
            "give -o a name that ends with .html, .md or .csv",
        )
    refuse_existing(args.output, args.overwrite)
    records = [read_record(path) for path in args.records]
    found = make_rows(records)
    text = {
        ".html": lambda: page(records, found, args.title),
        ".md": lambda: markdown(records, found),
        ".csv": lambda: comma_separated(found),
    }[suffix]()
    print(write_atomically(args.output, text))
    return 0
