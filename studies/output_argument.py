"""The option --output of studies that write a page."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_output_argument(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add the option -o or --output, which names a folder and is docs/results by default.

    Args:
        parser: The parser of the study.
        help_text: What is written into the folder, and the default.
    """
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("docs/results"),
        metavar="DIR",
        help=help_text,
    )
