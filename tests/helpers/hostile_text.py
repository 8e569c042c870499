"""Text that acts on a terminal, a browser or a spreadsheet if it is not escaped."""

from __future__ import annotations

ESCAPES = "\x1b[2J\x1b]0;t\x07\x9b1m\r\b\x7f\x00"
"""Control characters of C0 and C1, and DEL: they clear the screen, set the title, and so on."""

INVISIBLE = "\u202e\u2066\u200f\u2028\u2029\ufeff\U000e0041"
"""Characters that reverse the direction of text, break lines, or are not shown."""

SURROGATES = "\ud800\udcff"
"""Half a character from JSON, and a byte of a file name that is not UTF-8."""

MARKUP = "<b>&amp;|`*_[x](y)$\\frac{a}{$"
"""Markup of HTML, Markdown and TeX; the formula is not complete."""

HOSTILE_TEXT = f"a{ESCAPES}{INVISIBLE}{SURROGATES}{MARKUP}\nb"


def has_control_characters(text: str) -> bool:
    """Return whether text has any character, other than "\\n", that a terminal does not show."""
    return not text.replace("\n", "").isprintable()
