"""Writing of text that may come from a hostile file into Markdown, without markup."""

from __future__ import annotations

from collections.abc import Sequence

from tinyvit.text.safe_text import escape_text

_ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "\\|`*_[]~$@"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
)
"""Replacements for characters of markup. GitHub typesets text between "$" as a formula, and makes
links of addresses that contain "@"."""

_LINK_STARTS = {"://": "\\://", "www.": "www\\.", "WWW.": "WWW\\."}
"""Parts of addresses of which GitHub and the Hugging Face hub make links, and their escapes."""


def escape_markdown(text: str) -> str:
    """Make text that Markdown shows as it is.

    The result is for the middle of a line, such as a cell of a table: characters that only have a
    meaning at the beginning of a line, such as "#", are not escaped.

    Args:
        text: Any text.

    Returns:
        One line of printable characters. White space, also line breaks, becomes single spaces.
    """
    escaped = escape_text(" ".join(text.split())).translate(_ESCAPES)
    for start, replacement in _LINK_STARTS.items():
        escaped = escaped.replace(start, replacement)
    return escaped


def format_markdown_row(cells: Sequence[str]) -> str:
    """Format a row of a table.

    Args:
        cells: Texts of the cells, which are escaped.

    Returns:
        One line of Markdown.
    """
    return f"| {' | '.join(map(escape_markdown, cells))} |"
