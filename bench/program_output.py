"""Text that another program printed, before this package searches it."""

from __future__ import annotations

NUMBER = r"(\d{1,15}(?:\.\d{1,20})?(?:e[+-]?\d\d?)?)"
"""Pattern of a decimal number, such as "0.0199" or "1.5e+04"; its group 1 is the number. Every text
that matches can be converted to a finite float."""

MAX_LINE_LENGTH = 1000
"""Largest number of characters of a line that is searched. Programs print names from the files that
they run, and searching a pattern in a line of millions of characters can take hours."""


def remove_long_lines(output: str) -> str:
    """Remove the lines that are too long to contain a result.

    Args:
        output: What a program printed.

    Returns:
        The other lines.
    """
    lines = output.splitlines(keepends=True)
    return "".join(line for line in lines if len(line) <= MAX_LINE_LENGTH)
