"""Labels from lines of text, each of which has a name and possibly an index or a WordNet id.

Known forms are "cat", "0: cat", "0 cat", "0|cat", "cat,0", "n02123045 tabby", '"cat"' and "- cat".
The form must be the same in all lines; if some lines look like names and others do not, the text is
refused, because names such as "2 dogs" cannot be distinguished from an index and a name then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tinyvit.labels.imagenet import Label
from tinyvit.labels.label_tables import WNID, is_title_row, make_labels, parse_rows

_MARK = r"\s*(?:->|=>|[:=;|\t,])\s*"
"""Signs that separate an index from a name. They are rare in names, unlike the weak ones."""
_WEAK_MARK = r"(?:\s*[.)]\s*|\s+-\s+|\s+)"

_KEY = r"""(?P<quote>["']?)\[?(?P<key>\d{1,9}|n\d{8})\]?(?P=quote)"""
_KEY_FIRST = re.compile(rf"{_KEY}(?:(?P<mark>{_MARK})|{_WEAK_MARK})(?P<name>\S.*)")
_FINAL_KEY = re.compile(r"""(?P<quote>["']?)(?P<key>\d{1,9})(?P=quote)\Z""")
_MARKS = ("->", "=>", ":", "=", ";", "|", ",")
_DOUBLE_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_SINGLE_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'")
_WORD_BEFORE_KEY = re.compile(r"(?:class|label|index|idx|id)[ _#]*(\d{1,9}\s*[:=]\s*\S.*)", re.I)
_BULLET = re.compile(r"[-*+\u2022]\s+(\S.*)")
_KEY_ALONE = re.compile(r"(?:\d{1,9}|n\d{8})\s*[:=|]")
_TITLES = frozenset(
    ("name", "names", "label", "labels", "class", "classes", "class_name", "class_names")
)
"""Titles of a column, in lower case, that are unlikely to be names of classes."""
_SIGN_BEFORE_NAME = re.compile(r"[:=>\u2013\u2014]|0+(?:[\s,;:]|\Z)")
_COLUMN_SIGNS = ("\t", ";", "|")

MAX_LINE_CHARACTERS = 2000
"""Longer lines are refused. They are not names, and take long to match."""


class _KeyedLine(NamedTuple):
    """A line that has a key (an index or a WordNet id) and a name.

    Attributes:
        key: The digits or the WordNet id.
        name: The rest of the line.
        is_marked: Whether a sign that is rare in names separates the two.
    """

    key: str
    name: str
    is_marked: bool


def parse_lines(lines: Sequence[str]) -> tuple[Label, ...]:
    """Return labels from lines of text.

    Args:
        lines: The lines. An empty one between others gives a label with an empty name, which the
            caller refuses.

    Returns:
        The labels in the order of the indices, or in that of the lines if there are none.

    Raises:
        ValueError: The lines are ambiguous or in no known form.
    """
    lines = [line.strip() for line in lines]
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise ValueError(f"line {number} has more than {MAX_LINE_CHARACTERS} characters")
    _refuse_other_formats(lines)
    lines = _remove_bullets(_remove_quotes(_remove_final_signs(lines)))
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
    _refuse_columns(lines)
    _refuse_other_content(lines)
    _refuse_unsorted_numbers(lines)
    return make_labels(lines)


def _refuse_unsorted_numbers(lines: Sequence[str]) -> None:
    """Raise ValueError if the numbers within the lines are indices in another order."""
    numbers = [{int(digits) for digits in re.findall(r"[0-9]{1,9}", line)} for line in lines]
    if any(len(found) != 1 for found in numbers):
        return
    indices = [found.pop() for found in numbers]
    first = min(indices, default=0)
    expected = list(range(first, first + len(indices)))
    if first <= 1 and indices != expected and sorted(indices) == expected:
        raise ValueError(
            f"each line contains one number, and these are {first} to {expected[-1]} in another"
            " order, so they seem to be indices: write index,name in a .csv file or use JSON"
        )


def _refuse_other_formats(lines: Sequence[str]) -> None:
    """Raise ValueError for files that are often saved as a file of labels by mistake."""
    first = lines[0] if lines else ""
    if first.startswith("<"):
        raise ValueError("it is a web page or XML")
    if first.startswith("version https://git-lfs"):
        raise ValueError("it is a pointer of Git LFS, and the file itself was not downloaded")
    for number, line in enumerate(lines, 1):
        if line and not re.search(r"\w", line):
            raise ValueError(f"line {number} contains no letter or digit: {line[:40]!r}")
        if re.fullmatch(r"\w+\s*\{", line):
            raise ValueError(f"line {number} begins a block ({line[:40]!r}), not a name")
    if first.startswith("#") and not all(line.startswith("#") for line in lines):
        raise ValueError("line 1 begins with #, so it is a comment and not a name")


def _refuse_other_content(lines: Sequence[str]) -> None:
    """Raise ValueError for a line that is not a name alone."""
    if len(lines) > 1 and lines[0].lower() in _TITLES:
        raise ValueError(f"line 1 ({lines[0]}) seems to be the title of the names: remove it")
    for number, line in enumerate(lines, 1):
        if _KEY_ALONE.fullmatch(line):
            raise ValueError(f"line {number} has an index without a name")
        is_code = re.search(r"[{}]|=\s*[\[(]", line) is not None
        is_quoted = len(line) > 1 and line[0] == line[-1] and line[0] in "\"'"
        if is_code or is_quoted:
            raise ValueError(f"line {number} contains more than a name: {line[:40]!r}")


def _remove_final_signs(lines: list[str]) -> list[str]:
    """Remove "," or ";" at the end of the lines if all lines but the last one end with it."""
    for sign in (",", ";"):
        if len(lines) > 1 and all(line.endswith(sign) for line in lines[:-1]):
            return [line.removesuffix(sign).rstrip() for line in lines]
    return lines


def _remove_quotes(lines: list[str]) -> list[str]:
    """Remove the quotes around all lines; raise ValueError if only some lines are quoted."""
    unquoted = [_unquote(line) for line in lines]
    quoted = [number for number, line in enumerate(lines, 1) if unquoted[number - 1] != line]
    if not quoted or len(quoted) == len(lines):
        return unquoted
    plain = next(number for number in range(1, len(lines) + 1) if number not in set(quoted))
    raise ValueError(f"line {quoted[0]} is in quotes and line {plain} is not")


def _unquote(text: str) -> str:
    if match := _DOUBLE_QUOTED.fullmatch(text):
        return match[1].replace('""', '"').strip()
    if match := _SINGLE_QUOTED.fullmatch(text):
        return re.sub(r"\\(.)", r"\1", match[1]).strip()
    return text


def _remove_bullets(lines: list[str]) -> list[str]:
    """Remove the "- " before all lines, as in YAML; raise ValueError if only some have it."""
    matches = [_BULLET.fullmatch(line) for line in lines]
    if not any(matches):
        return lines
    for number, (line, match) in enumerate(zip(lines, matches), 1):
        if match is None:
            raise ValueError(f"line {number} does not begin with a bullet, but others do: {line!r}")
    return _remove_quotes([match[1].strip() for match in matches if match])


def _is_title_line(line: str) -> bool:
    """Return whether a line contains the titles of columns, such as "index;name"."""
    cells = re.split(rf"{_MARK}|\s+", line)
    return len(cells) > 1 and is_title_row(cells)


def _parse_keyed(lines: Sequence[str]) -> tuple[Label, ...] | None:
    """Return the labels of lines with keys; None if the lines have no keys.

    Raises:
        ValueError: Most lines have keys but others do not, or the keys are not 0, 1, 2, ...
    """
    keyed_first = [_match_key_first(line) for line in lines]
    if any(keyed_first):
        labels = _parse_key_first(lines, keyed_first)
        if labels is not None:
            return labels
    return _parse_key_last(lines, [_match_key_last(line) for line in lines])


def _match_key_first(line: str) -> _KeyedLine | None:
    match = _KEY_FIRST.fullmatch(line)
    return _KeyedLine(match["key"], match["name"], bool(match["mark"])) if match else None


def _match_key_last(line: str) -> _KeyedLine | None:
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
    rows = [line for line in keyed if line is not None]
    if len(rows) < len(lines):
        _refuse_mixture(lines, keyed)
        return None
    if len({_is_wnid(row) for row in rows}) > 1:
        raise ValueError("some lines begin with an index and others with a WordNet id")
    # The name of "0,n02123045,tabby" begins with another key.
    inner = [_match_key_first(row.name) for row in rows]
    if all(line and _is_wnid(line) != _is_wnid(row) for line, row in zip(inner, rows)):
        cells = [[row.key, line.key, line.name] for row, line in zip(rows, inner) if line]
    else:
        cells = [[row.key, row.name] for row in rows]
    _refuse_columns([row[-1] for row in cells])
    if all(_SIGN_BEFORE_NAME.match(row[-1]) for row in cells):
        raise ValueError(
            f"the sign between the index and the name is unknown (line 1: {lines[0][:40]!r}):"
            " write index,name in a .csv file or use JSON"
        )
    _refuse_other_content([_unquote(row[-1]) for row in cells])
    return parse_rows([[*row[:-1], _unquote(row[-1])] for row in cells], may_have_titles=False)


def _is_wnid(line: _KeyedLine) -> bool:
    return WNID.fullmatch(line.key) is not None


def _refuse_mixture(lines: Sequence[str], keyed: Sequence[_KeyedLine | None]) -> None:
    """Raise ValueError if more than half of the lines, but not all, have keys.

    A row of titles is not counted.
    """
    without_titles = keyed[1:] if len(lines) > 1 and _is_title_line(lines[0]) else keyed
    count = sum(line is not None for line in without_titles)
    if len(without_titles) / 2 < count < len(without_titles):
        number = next(i for i, line in enumerate(keyed, 1) if line is None)
        raise ValueError(
            f"{count} lines contain more than a name, an index or a WordNet id, but line {number}"
            f" does not: {lines[number - 1][:40]!r}"
        )


def _parse_key_last(
    lines: Sequence[str], keyed: Sequence[_KeyedLine | None]
) -> tuple[Label, ...] | None:
    rows = [line for line in keyed if line is not None]
    if not all(line and line.is_marked for line in keyed):
        _refuse_mixture(lines, [line if line and line.is_marked else None for line in keyed])
    if len(rows) < len(lines):
        return None
    names = [_unquote(row.name) for row in rows]
    if len(rows) > 1 and len(set(names)) == 1:
        return None  # such as "Class: 0", "Class: 1"
    if not all(row.is_marked for row in rows):
        # "class 0", "class 1" and "Boeing 737" are names; "cat 0", "dog 1" are not.
        first_index = min(int(row.key) for row in rows)
        indices = {int(row.key) for row in rows}
        is_numbering = indices == set(range(first_index, first_index + len(rows)))
        if first_index > 1 or not is_numbering or len(set(names)) < len(names) or len(rows) == 1:
            return None
    _refuse_columns(names)
    _refuse_unknown_final_sign(names)
    return parse_rows([[row.key, name] for row, name in zip(rows, names)], may_have_titles=False)


def _refuse_columns(names: Sequence[str]) -> None:
    """Raise ValueError if the names seem to consist of several columns."""
    for sign in _COLUMN_SIGNS:
        if any(sign in name for name in names) and (
            sign == "\t" or all(sign in name for name in names)
        ):
            raise ValueError(
                f"its lines contain more than a name: {sign!r} separates several columns, of which"
                " none has only the indices 0, 1, 2, ..."
            )


def _refuse_unknown_final_sign(names: Sequence[str]) -> None:
    """Raise ValueError if all names end with a part of a sign, as in "cow::2"."""
    if names and all(name.endswith((":", "=", ">", "\u2013", "\u2014")) for name in names):
        raise ValueError(
            f"the sign between the name and the index is unknown (name 1: {names[0][:40]!r}):"
            " write index,name in a .csv file or use JSON"
        )
