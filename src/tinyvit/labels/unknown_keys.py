"""Refuses lines that begin with the place of the class in a form that is not read.

Such forms are "b) cat", "0x1: cat", "ii. cat" and "one: cat". Without this check, the whole lines
would be taken as names, and their order as that of the classes.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence

from tinyvit.labels.line_checks import INDEX_REMEDY

_PYTHON_NUMBER = re.compile(r"\W*0[xXbBoO][0-9a-fA-F]{1,8}\W+\w")
_WORD_AND_SIGN = re.compile(r"[(\[<]?([^\W\d_]{1,12})(\s*[-=]>|\s+-\s|\s*[).\]>:=/])\s*\S")
_SIGNS_OF_LISTS = (")", "]", ">")
"""Signs after a letter that mark the entries of a list, unlike that in "C. elegans"."""
_ROMAN = re.compile(r"[IVXLCDM]+")
_NUMBER_WORDS = frozenset(
    (
        *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
        *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"),
    )
)


def refuse_unknown_keys(lines: Sequence[str]) -> None:
    """Raise ValueError if all lines begin with the place of the class in an unknown form.

    Args:
        lines: The lines, without quotes and bullets.
    """
    if len(lines) < 2:
        return
    if all(map(_PYTHON_NUMBER.match, lines)):
        raise _make_error("hexadecimal or binary numbers", lines)
    if all(map(_begins_with_other_number, lines)):
        raise _make_error("numbers in an unknown script", lines)
    matches = [_WORD_AND_SIGN.match(line) for line in lines]
    words = [match[1].upper() for match in matches if match]
    if len(words) < len(lines) or len(set(words)) < len(words):
        return
    if all(len(word) == 1 for word in words):
        are_signs_of_lists = all(match[2].strip() in _SIGNS_OF_LISTS for match in matches if match)
        if are_signs_of_lists or sorted(words) == list(string.ascii_uppercase[: len(words)]):
            raise _make_error("letters that count the lines", lines)
    elif all(map(_ROMAN.fullmatch, words)):
        raise _make_error("Roman numerals", lines)
    elif {word.lower() for word in words} <= _NUMBER_WORDS:
        raise _make_error("numbers in words", lines)


def _begins_with_other_number(line: str) -> bool:
    """Return whether a line begins with a sign such as "\u2460", which is a number but no digit.

    A Chinese numeral, which is a letter too, must be followed by a sign that separates it.
    """
    sign = line[:1]
    if not sign.isnumeric() or sign.isdecimal():
        return False
    is_letter = unicodedata.category(sign) == "Lo"
    return not is_letter or re.match(r".\s*[\u3001.\uff0e:\uff1a)\uff09]", line) is not None


def _make_error(form: str, lines: Sequence[str]) -> ValueError:
    return ValueError(f"its lines begin with {form} (line 1: {lines[0][:40]!r}): {INDEX_REMEDY}")
