"""Reads and writes TOML. Python has a reader from version 3.11 on, and no writer."""

from __future__ import annotations

import re
import sys
from typing import Any

from tinyvit.errors import MissingDependencyError
from tinyvit.nesting_limits import MAX_DEPTH, check_depth

if sys.version_info >= (3, 11):
    import tomllib
else:
    try:
        import tomli as tomllib
    except ImportError as error:
        raise MissingDependencyError.for_package("tomli", extra="train") from error


_LONG_KEY = re.compile(
    rf"""(?<![\w.-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{MAX_DEPTH}}}"""
)
"""Matches a key of too many parts, such as "a.a.a...". Python's reader takes quadratic time for
them."""

_MAX_LINE_PERIODS = 500
"""Largest number of periods in a line. Keys are within a line, and `_LONG_KEY` finds none whose
parts contain escaped quotes."""


def parse_toml(text: str) -> dict[str, Any]:
    """Read the tables of a TOML file.

    Args:
        text: The text of the file.

    Returns:
        The tables and values, by name.

    Raises:
        ValueError: The text is not TOML, or is nested deeper than JSON files may be.
    """
    if _LONG_KEY.search(text):
        raise ValueError(f"it has a key of more than {MAX_DEPTH} parts")
    if any(line.count(".") > _MAX_LINE_PERIODS for line in text.split("\n")):
        raise ValueError(f"it has a line with more than {_MAX_LINE_PERIODS} periods")
    try:
        tables = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    check_depth(tables)
    return tables


def format_toml(tables: dict[str, Any]) -> str:
    """Write tables as TOML.

    Args:
        tables: The tables, by name.

    Returns:
        The text of the TOML file.

    Raises:
        MissingDependencyError: tomli_w is not installed.
    """
    try:
        import tomli_w
    except ImportError as error:
        raise MissingDependencyError.for_package("tomli_w", extra="train") from error
    return tomli_w.dumps(tables)
