"""Removes the signs around the names in lines of text: bullets, quotes and commas at the end.

Signs are removed if all lines have them. If only some lines have them, the text is refused, because
they may be a part of the names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Strings of Python can have the prefix u or b.
_DOUBLE_QUOTED = re.compile(r'[ub]?"((?:[^"]|"")*)"', re.IGNORECASE)
_SINGLE_QUOTED = re.compile(r"[ub]?'((?:[^'\\]|\\.)*)'", re.IGNORECASE)
_CLOSING_QUOTES = {
    '"': '"',
    "`": "`",
    "*": "*",  # as in Markdown, like "**"
    "**": "**",
    "\u201c": "\u201d",
    "\u201d": "\u201d",
    "\u201e": "\u201c\u201d",
    "\u2018": "\u2019",
    "\u2019": "\u2019",
    "\u201a": "\u2018\u2019",
    "\u00ab": "\u00bb",
    "\u00bb": "\u00ab",
    "\u2039": "\u203a",
    "\u203a": "\u2039",
    "\u300c": "\u300d",
    "\u300e": "\u300f",
}
"""For each opening quote, the quotes that can close it."""
_ALL_CLOSING_QUOTES = frozenset("".join(_CLOSING_QUOTES.values()) + "'")
_QUOTES_TO_CLOSE = '"`\u201c\u201e\u00ab\u300c\u300e'
"""A name that begins with one of these quotes must also contain a quote that closes it."""

_BULLET_SIGNS = "\u2022\u2023\u25e6\u2043\u00b7\u2013\u2014"
# Most bullets need a space after them. Before a letter or a quote, some do not need one.
_BULLET = re.compile(
    rf"""(?:(?:->|=>|[-*+>{_BULLET_SIGNS}])\s+|[->*{_BULLET_SIGNS}](?=[^\W\d]|["'`]))(\S.*)"""
)
# The box of a list of tasks in Markdown.
_CHECKBOX = re.compile(r"\[[ xX]?\]\s+(\S.*)")


def remove_decorations(lines: Sequence[str]) -> list[str]:
    """Return lines of text without the signs around the names.

    Args:
        lines: The lines, without spaces at their ends.

    Raises:
        ValueError: Only some lines have a sign, or a quote is not closed.
    """
    plain = _remove_quotes(_remove_final_signs(lines))
    without_bullets = _remove_bullets(plain)
    if without_bullets != plain:
        plain = _remove_quotes(_remove_checkboxes(without_bullets))
    for number, line in enumerate(plain, 1):
        if line and line[0] in _QUOTES_TO_CLOSE and not _has_closing_quote(line):
            raise ValueError(f"line {number} has a quote at one end only: {line[:40]!r}")
    return plain


def unquote(text: str) -> str:
    """Return a text without the quotes around it, which may be Python's, Markdown's or typographic.

    Args:
        text: The text, with or without quotes.
    """
    if not text or text[-1] not in _ALL_CLOSING_QUOTES:
        return text
    if match := _DOUBLE_QUOTED.fullmatch(text):
        return match[1].replace('""', '"').strip()
    if match := _SINGLE_QUOTED.fullmatch(text):
        return re.sub(r"\\(.)", r"\1", match[1]).strip()
    for length in (2, 1):
        closing = _CLOSING_QUOTES.get(text[:length], "")
        end = text[-length:]
        inner = text[length:-length]
        is_closed = end == closing if length == 2 else end != "" and end in closing
        # Quotes within the text show that the first and the last one do not belong together.
        if is_closed and inner and text[0] not in inner and end[0] not in inner:
            return inner.strip()
    return text


def _has_closing_quote(line: str) -> bool:
    return any(sign in line[1:] for sign in _CLOSING_QUOTES[line[0]])


def _remove_final_signs(lines: Sequence[str]) -> list[str]:
    """Remove "," or ";" at the end of the lines if all lines but the last one end with it."""
    for sign in (",", ";"):
        ends_with_sign = [line.endswith(sign) for line in lines]
        if not any(ends_with_sign):
            continue
        # As in a list of Python or JSON, the last line may have no comma.
        if not all(ends_with_sign[:-1]):
            with_sign, without_sign = ends_with_sign.index(True), ends_with_sign.index(False)
            raise ValueError(
                f"line {with_sign + 1} ends with {sign!r} and line {without_sign + 1} does not"
            )
        return [line.removesuffix(sign).rstrip() for line in lines]
    return list(lines)


def _remove_quotes(lines: Sequence[str]) -> list[str]:
    """Remove the quotes around all lines; raise ValueError if only some lines are quoted."""
    unquoted = [unquote(line) for line in lines]
    is_quoted = [before != after for before, after in zip(lines, unquoted)]
    if len(set(is_quoted)) < 2:
        return unquoted
    quoted, plain = is_quoted.index(True) + 1, is_quoted.index(False) + 1
    raise ValueError(f"line {quoted} is in quotes and line {plain} is not")


def _remove_bullets(lines: Sequence[str]) -> list[str]:
    """Remove the bullets, such as "- ", before all lines.

    Raises:
        ValueError: Only some lines have a bullet.
    """
    matches = [_BULLET.fullmatch(line) for line in lines]
    if not any(matches):
        return list(lines)
    for number, (line, match) in enumerate(zip(lines, matches), 1):
        if match is None:
            raise ValueError(
                f"line {number} does not begin with a bullet, but others do: {line[:40]!r}"
            )
    return [match[1].strip() for match in matches if match]


def _remove_checkboxes(lines: Sequence[str]) -> list[str]:
    """Remove the "[ ]" or "[x]" before the lines, as in lists of tasks, if all lines have it."""
    matches = [_CHECKBOX.fullmatch(line) for line in lines]
    return [match[1] for match in matches if match] if all(matches) else list(lines)
