"""Recognizes lines of text that are no labels, or whose form is unknown, and refuses them."""

from __future__ import annotations

import re
from collections.abc import Sequence

INDEX_REMEDY = "write index,name in a .csv file or use JSON"
"""The end of error messages about lines whose indices or columns are not clear."""

_KEY_ALONE = re.compile(r"(?:\d{1,9}|n\d{8})\s*[:=|]")
"""Matches an index or a WordNet id with a sign after it, but without a name."""
_IMAGE_PATH = re.compile(r"\S\.(?:jpe?g|png|bmp|webp|tiff?|gif)\Z", re.IGNORECASE)
_TITLES = frozenset(
    ("name", "names", "label", "labels", "class", "classes", "class_name", "class_names")
)
"""Titles of a column, in lower case, that are unlikely to be names of classes."""
_COMMENT_SIGNS = ("#", "//", "%", ";")
"""Signs with which a line of comment begins."""
_FINAL_COMMENT = re.compile(r"\s(?:#|//)\s")
"""Matches the sign before a comment at the end of a line."""
_COLUMN_SIGNS = ("\t", ";", "|")
"""Signs that may separate columns."""
_WIDE_SPACE = re.compile(r"\S {2,}\S")
"""Matches several spaces inside a line, which may separate columns that are aligned."""
_MIN_COUNTS = 3
"""Fewest numbers whose order shows that they are counts."""
_FINAL_NUMBER = re.compile(r"(.*[^\W\d])[\s:=,(]+([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*%?\)?")
"""Matches a line that ends with a number or a percentage. Group 1 is the name, 2 is the number."""


def refuse_other_formats(lines: Sequence[str]) -> None:
    """Raise ValueError for a file that is not a list of labels alone.

    Such files are web pages, pointers of Git LFS, code, and lists that also contain comments or
    the number of their lines.

    Args:
        lines: All lines of the file, without spaces at their ends.
    """
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
    for sign in _COMMENT_SIGNS:
        if first.startswith(sign) and not all(line.startswith(sign) for line in lines):
            raise ValueError(f"line 1 begins with {sign}, so it is a comment and not a name")
    if len(lines) > 1 and all(_FINAL_COMMENT.search(line) for line in lines):
        raise ValueError(f"its lines end with comments: {first[:40]!r}")
    is_count = len(lines) > 1 and first.isdecimal() and int(first[:9]) == len(lines) - 1
    if is_count and not lines[1][:1].isdecimal():
        raise ValueError(f"line 1 ({first}) is the number of the other lines: remove it")


def refuse_single_line(lines: Sequence[str]) -> None:
    """Raise ValueError for a file in which all names seem to be in one line.

    Args:
        lines: All lines of the file.
    """
    if len(lines) == 1 and lines[0].count(",") > 1 and not re.search(r"\d", lines[0]):
        raise ValueError("its only line has several commas: write one name per line")


def refuse_other_content(lines: Sequence[str]) -> None:
    """Raise ValueError for a line that is not a name alone.

    Args:
        lines: The lines, without quotes and bullets.
    """
    if len(lines) > 1 and lines[0].lower() in _TITLES:
        raise ValueError(f"line 1 ({lines[0]}) seems to be the title of the names: remove it")
    if lines and re.search(r"\bdtype: \w+\Z", lines[-1]):
        raise ValueError(f"its last line was printed by pandas and is no name: {lines[-1][:40]!r}")
    if all(map(_IMAGE_PATH.search, lines)):
        raise ValueError(f"its lines are paths of images: {lines[0][:40]!r}")
    for number, line in enumerate(lines, 1):
        if _KEY_ALONE.fullmatch(line):
            raise ValueError(f"line {number} has an index without a name")
        is_code = re.search(r"[{}]|[=(]\s*[\[(]", line) is not None
        is_quoted = len(line) > 1 and line[0] == line[-1] and line[0] in "\"'"
        if is_code or is_quoted:
            raise ValueError(f"line {number} contains more than a name: {line[:40]!r}")


def refuse_unsorted_numbers(lines: Sequence[str]) -> None:
    """Raise ValueError if the numbers within the lines seem to be indices that are not sorted.

    Args:
        lines: The lines, without quotes and bullets.
    """
    numbers = [{int(digits) for digits in re.findall(r"[0-9]{1,9}", line)} for line in lines]
    if any(len(line_numbers) != 1 for line_numbers in numbers):
        return
    indices = [line_numbers.pop() for line_numbers in numbers]
    first = min(indices, default=0)
    expected = list(range(first, first + len(indices)))
    if first <= 1 and indices != expected and sorted(indices) == expected:
        raise ValueError(
            f"each line contains one number, and these are {first} to {expected[-1]} in another"
            f" order, so they seem to be indices: {INDEX_REMEDY}"
        )


def refuse_counts(lines: Sequence[str]) -> None:
    """Raise ValueError if the lines end with numbers of images or percentages, the largest first.

    Programs that count the images of each class often sort the classes in this way.

    Args:
        lines: The lines, without quotes and bullets.
    """
    matches = [_FINAL_NUMBER.fullmatch(line) for line in lines]
    names = {match[1] for match in matches if match}
    if len(lines) < _MIN_COUNTS or len(names) < len(lines) or not all(matches):
        return
    numbers = [float(match[2]) for match in matches if match]
    if numbers == sorted(numbers, reverse=True):
        raise ValueError(
            f"its lines end with numbers, the largest first (line 1: {lines[0][:40]!r}), so they"
            " seem to be sorted by these numbers: write index,name in a .csv file"
        )


def refuse_columns(names: Sequence[str]) -> None:
    """Raise ValueError if the names seem to consist of several columns.

    Args:
        names: The lines, or the parts of them that should be names.
    """
    for sign in _COLUMN_SIGNS:
        # No name contains a tab, but single names may contain ";" or "|".
        if any(sign in name for name in names) and (
            sign == "\t" or all(sign in name for name in names)
        ):
            raise ValueError(
                f"its lines contain more than a name: {sign!r} separates several columns, of which"
                " none has only the indices 0, 1, 2, ..."
            )


def refuse_aligned_columns(names: Sequence[str]) -> None:
    """Raise ValueError if all names contain several spaces, which separate columns.

    Args:
        names: The lines, or the parts of them that should be names.
    """
    if names and all(map(_WIDE_SPACE.search, names)):
        raise ValueError(
            "its lines contain more than a name: several spaces separate columns (name 1:"
            f" {names[0][:40]!r})"
        )


def refuse_unknown_final_sign(names: Sequence[str]) -> None:
    """Raise ValueError if all names end with a part of a separating sign, as in "cow::2".

    Args:
        names: The parts of the lines before an index at their end.
    """
    if names and all(name.endswith((":", "=", ">", "\u2013", "\u2014")) for name in names):
        raise ValueError(
            f"the sign between the name and the index is unknown (name 1: {names[0][:40]!r}):"
            f" {INDEX_REMEDY}"
        )
