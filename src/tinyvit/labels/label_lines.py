"""Labels from lines of text, each of which has a name and possibly an index or a WordNet id.

Known forms are "cat", "0: cat", "0 cat", "0|cat", "cat,0", "n02123045 tabby", '"cat"' and "- cat".
If some lines have an index or a WordNet id beside a name and others do not, the text is refused,
because it is not clear whether the order of the classes is that of the lines.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import NamedTuple

from tinyvit.labels.imagenet import Label
from tinyvit.labels.label_construction import make_labels
from tinyvit.labels.label_decorations import remove_decorations, unquote
from tinyvit.labels.label_tables import WNID, is_title_row, parse_rows
from tinyvit.labels.line_checks import (
    INDEX_REMEDY,
    refuse_aligned_columns,
    refuse_columns,
    refuse_counts,
    refuse_other_content,
    refuse_other_formats,
    refuse_single_line,
    refuse_unknown_final_sign,
    refuse_unsorted_numbers,
)
from tinyvit.labels.unknown_keys import refuse_unknown_keys

_MARK = r"\s*(?:->|=>|[:=;|\t,])\s*"
"""Signs that separate an index from a name. They are rare in names, unlike the weak ones."""
_WEAK_MARK = r"(?:\s*[.)]\s*|\s+-\s+|\s+)"
"""Signs that can separate an index from a name but also occur in names."""

# An index or a WordNet id, which may be in quotes or in brackets.
_KEY = r"""(?P<quote>["']?)\[?(?P<key>\d{1,9}|n\d{8})\]?(?P=quote)"""
_KEY_FIRST = re.compile(rf"{_KEY}(?:(?P<mark>{_MARK})|{_WEAK_MARK})(?P<name>\S.*)")
# The index at the end of a line such as "cat,0".
_FINAL_KEY = re.compile(r"""(?P<quote>["']?)(?P<key>\d{1,9})(?P=quote)\Z""")
_MARKS = ("->", "=>", ":", "=", ";", "|", ",")
"""The signs of `_MARK` without the tab."""
_WORD_BEFORE_KEY = re.compile(r"(?:class|label|index|idx|id)[ _#]*(\d{1,9}\s*[:=]\s*\S.*)", re.I)
"""Matches lines such as "class 0: cat". The group begins with the index."""
_SIGN_BEFORE_NAME = re.compile(r"[:=>\u2013\u2014]|0+(?:[\s,;:]|\Z)")
"""Matches what is left before a name if the index and the sign after it were not read completely:
":" of "0::cat", or "0," of "7.0,cat"."""

_BLANKS = f"{string.whitespace}\u00a0\u3000\u200b\u200e\u200f\u2060\ufeff"
"""Spaces and invisible characters, which editors and web pages add around names."""

MAX_LINE_CHARACTERS = 2000
"""Longer lines are refused. They are not names, and take long to match."""


class _KeyedLine(NamedTuple):
    """A line that has a key (an index or a WordNet id) and a name.

    Attributes:
        key: The digits or the WordNet id.
        name: The rest of the line.
        is_marked: Whether a sign that is rare in names separates the key from the name.
    """

    key: str
    name: str
    is_marked: bool


def parse_lines(lines: Sequence[str]) -> tuple[Label, ...]:
    """Return labels from the lines of a text file.

    Args:
        lines: The lines. An empty one between others gives a label with an empty name, which the
            caller refuses.

    Returns:
        The labels in the order of the indices, or in that of the lines if there are none.

    Raises:
        ValueError: The lines are ambiguous or in no known form.
    """
    lines = [line.strip() for line in lines]
    refuse_other_formats(lines)
    refuse_single_line(lines)
    return parse_names(lines)


def parse_names(names: Sequence[str]) -> tuple[Label, ...]:
    """Return labels from texts, each of which has a name and possibly an index or a WordNet id.

    Args:
        names: The lines of a file, or the entries of a list.

    Returns:
        The labels in the order of the indices, or in that of the texts if there are none.

    Raises:
        ValueError: The texts are ambiguous or in no known form. The message calls them lines.
    """
    lines = [name.strip(_BLANKS) for name in names]
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise ValueError(f"line {number} has more than {MAX_LINE_CHARACTERS} characters")
    lines = remove_decorations(lines)
    prefixed = [_WORD_BEFORE_KEY.fullmatch(line) for line in lines]
    if all(prefixed):
        lines = [match[1] for match in prefixed if match]
    labels = _parse_keyed(lines)
    if labels is not None:
        return labels
    if len(lines) > 1 and _is_title_line(lines[0]):
        labels = _parse_keyed(lines[1:])
        if labels is not None:
            return labels
    refuse_columns(lines)
    refuse_aligned_columns(lines)
    refuse_other_content(lines)
    refuse_unknown_keys(lines)
    refuse_unsorted_numbers(lines)
    refuse_counts(lines)
    return make_labels(lines)


def _is_title_line(line: str) -> bool:
    """Return whether a line contains the titles of columns, such as "index;name"."""
    cells = re.split(rf"{_MARK}|\s+", line)
    return len(cells) > 1 and is_title_row(cells)


def _parse_keyed(lines: Sequence[str]) -> tuple[Label, ...] | None:
    """Return the labels of lines with keys; None if the lines have no keys.

    Raises:
        ValueError: Some lines seem to have keys but others do not, or the indices are not 0, 1,
            2, ...
    """
    keyed_first = [_match_key_first(line) for line in lines]
    if any(keyed_first):
        labels = _parse_key_first(lines, keyed_first)
        if labels is not None:
            return labels
    return _parse_key_last(lines, [_match_key_last(line) for line in lines])


def _match_key_first(line: str) -> _KeyedLine | None:
    """Return the key and the name of a line that begins with a key; None for another line."""
    match = _KEY_FIRST.fullmatch(line)
    return _KeyedLine(match["key"], match["name"], bool(match["mark"])) if match else None


def _match_key_last(line: str) -> _KeyedLine | None:
    """Return the index and the name of a line that ends with an index; None for another line."""
    match = _FINAL_KEY.search(line)
    if match is None:
        return None
    # A regular expression for the whole line would take quadratic time.
    before = line[: match.start()]
    text = before.rstrip()
    mark = next((mark for mark in _MARKS if text.endswith(mark)), "")
    name = text.removesuffix(mark).rstrip()
    if not name or (not mark and text == before):
        return None
    return _KeyedLine(match["key"], name, bool(mark) or "\t" in before[len(text) :])


def _parse_key_first(
    lines: Sequence[str], keyed: Sequence[_KeyedLine | None]
) -> tuple[Label, ...] | None:
    """Return the labels of lines that begin with keys.

    The result is None if some lines have no key, and the keys of others can be parts of names.

    Args:
        lines: All lines.
        keyed: The result of `_match_key_first` for each line.
    """
    rows = [line for line in keyed if line is not None]
    if len(rows) < len(lines):
        _refuse_mixture(lines, keyed)
        return None
    _refuse_folder_order(lines, rows)
    if len({_is_wnid(row) for row in rows}) > 1:
        raise ValueError("some lines begin with an index and others with a WordNet id")
    # The name of "0,n02123045,tabby" begins with another key.
    inner = [_match_key_first(row.name) for row in rows]
    if all(line and _is_wnid(line) != _is_wnid(row) for line, row in zip(inner, rows)):
        cells = [[row.key, line.key, line.name] for row, line in zip(rows, inner) if line]
    else:
        cells = [[row.key, row.name] for row in rows]
    refuse_columns([row[-1] for row in cells])
    is_marked = any(row.is_marked for row in rows)
    if len(rows) > 1 and len(cells[0]) < 3 and all(inner) and not is_marked:
        raise ValueError(
            f"its lines begin with two numbers (line 1: {lines[0][:40]!r}), and it is not clear"
            f" which is the index: {INDEX_REMEDY}"
        )
    if all(_SIGN_BEFORE_NAME.match(row[-1]) for row in cells):
        raise ValueError(
            f"the sign between the index and the name is unknown (line 1: {lines[0][:40]!r}):"
            f" {INDEX_REMEDY}"
        )
    refuse_aligned_columns([row[-1] for row in cells])
    refuse_other_content([unquote(row[-1]) for row in cells])
    return parse_rows([[*row[:-1], unquote(row[-1])] for row in cells], may_have_titles=False)


def _is_wnid(line: _KeyedLine) -> bool:
    return WNID.fullmatch(line.key) is not None


def _refuse_folder_order(lines: Sequence[str], rows: Sequence[_KeyedLine]) -> None:
    """Raise ValueError for names such as "0 cat", "10 fox", "2 dog", which are sorted as text.

    They can be the folders of a training set, whose order is that of the lines, or keyed names.
    """
    if any(row.is_marked or _is_wnid(row) for row in rows):
        return
    indices = [int(row.key) for row in rows]
    if indices != sorted(indices) and list(lines) == sorted(lines):
        raise ValueError(
            "its lines begin with numbers and are sorted as text (10 before 2), so they can be"
            f" names of folders in the order of the classes, or indices and names: {INDEX_REMEDY}"
        )


def _refuse_mixture(lines: Sequence[str], keyed: Sequence[_KeyedLine | None]) -> None:
    """Raise ValueError if some lines seem to have keys and others do not.

    This is so if a key is certain, or if more than half of the lines can have one. A row of titles
    is not counted.
    """
    first = 1 if len(lines) > 1 and _is_title_line(lines[0]) else 0
    rows = keyed[first:]
    count = sum(line is not None for line in rows)
    certain = next(
        (i for i, line in enumerate(rows, first) if line and _is_certain(line, len(rows))), None
    )
    if count == len(rows) or (certain is None and count <= len(rows) / 2):
        return
    example = next(i for i, line in enumerate(rows, first) if line) if certain is None else certain
    other = next(i for i, line in enumerate(rows, first) if line is None)
    raise ValueError(
        f"{count} of its {len(rows)} lines contain more than a name, an index or a WordNet id, such"
        f" as line {example + 1} ({lines[example][:40]!r}), but line {other + 1} does not:"
        f" {lines[other][:40]!r}"
    )


def _is_certain(line: _KeyedLine, line_count: int) -> bool:
    """Return whether a line certainly has a key, not just a number that is a part of the name.

    Numbers are a part of the name in "Blade Runner: 2049" and "1,3-butadiene".
    """
    if _is_wnid(line):
        return True
    return line.is_marked and int(line.key) <= line_count and not line.name[0].isdigit()


def _parse_key_last(
    lines: Sequence[str], keyed: Sequence[_KeyedLine | None]
) -> tuple[Label, ...] | None:
    """Return the labels of lines that end with indices.

    The result is None if some lines have no index, or if the numbers can be parts of names.

    Args:
        lines: All lines.
        keyed: The result of `_match_key_last` for each line.
    """
    rows = [line for line in keyed if line is not None]
    if not all(line and line.is_marked for line in keyed):
        _refuse_mixture(lines, [line if line and line.is_marked else None for line in keyed])
    if len(rows) < len(lines):
        return None
    names = [unquote(row.name) for row in rows]
    if len(rows) > 1 and len(set(names)) == 1:
        return None  # such as "Class: 0", "Class: 1"
    if not all(row.is_marked for row in rows):
        # "class 0", "class 1" and "Boeing 737" are names; "cat 0", "dog 1" are not.
        first_index = min(int(row.key) for row in rows)
        indices = {int(row.key) for row in rows}
        is_numbering = indices == set(range(first_index, first_index + len(rows)))
        if first_index > 1 or not is_numbering or len(set(names)) < len(names) or len(rows) == 1:
            return None
    refuse_columns(names)
    refuse_aligned_columns(names)
    refuse_unknown_final_sign(names)
    return parse_rows([[row.key, name] for row, name in zip(rows, names)], may_have_titles=False)
