"""Reads Python's notation of strings, numbers, lists and dicts, without executing anything.

Label files such as the well-known imagenet1000_clsidx_to_labels.txt are Python dicts: {0: 'tench',
1: 'goldfish', ...}. The module `ast` is not used, because it needs hundreds of bytes per byte of
text, and deeply nested text can exhaust its stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_DEPTH = 4
"""Deepest nesting of lists and dicts that is read. Lists of labels need two levels."""

_MAX_STRING_LENGTH = 100_000
"""Longer strings, in characters, are refused. To match one, `re` needs a hundred times as much
memory."""

_TOKEN = re.compile(
    rf"""\s*(?:\#[^\n]*(?:\n\s*|\Z))*(?:
        (?P<string>"(?:[^"\\\n]|\\.){{0,{_MAX_STRING_LENGTH}}}"
        |'(?:[^'\\\n]|\\.){{0,{_MAX_STRING_LENGTH}}}')
      | (?P<number>\d{{1,9}})(?![\w.])
      | (?P<mark>[\[\](){{}},:])
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
_CLOSING = {"[": "]", "(": ")", "{": "}"}


def parse_literal(text: str) -> object:
    """Parse a list, a tuple or a dict of strings and whole numbers.

    Args:
        text: The text in Python's notation. Comments are skipped.

    Returns:
        Nested lists and dicts; a tuple is returned as a list.

    Raises:
        ValueError: The text is anything else, such as an expression, or a key occurs twice.
    """
    reader = _Reader(text)
    value = reader.read_value(reader.next_token(), depth=0)
    if reader.next_token() != "":
        raise ValueError("there is text after the list or dict")
    return value


class _Reader:
    """Reads values from tokens. The token of a string begins with its quote; the end is ""."""

    def __init__(self, text: str) -> None:
        self._tokens = _split(text)

    def next_token(self) -> str:
        return next(self._tokens)

    def read_value(self, token: str, depth: int) -> object:
        if token[:1] in ("'", '"'):
            return _ESCAPE.sub(_unescape, token[1:-1])
        if token.isdecimal():
            return int(token)
        if token not in _CLOSING:
            raise ValueError(f"{token or 'the end'} stands where a value is expected")
        if depth >= MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        return self._read_dict(depth + 1) if token == "{" else self._read_list(token, depth + 1)

    def _read_list(self, opening: str, depth: int) -> list[object]:
        values: list[object] = []
        for token in self._read_item_starts(_CLOSING[opening]):
            values.append(self.read_value(token, depth))
        return values

    def _read_dict(self, depth: int) -> dict[object, object]:
        values: dict[object, object] = {}
        for token in self._read_item_starts("}"):
            key = self.read_value(token, depth)
            if not isinstance(key, (str, int)):
                raise ValueError("a key is neither a string nor a whole number")
            if self.next_token() != ":":
                raise ValueError(f"no ':' follows the key {key!r}")
            if key in values:
                raise ValueError(f"{key!r} occurs twice")
            values[key] = self.read_value(self.next_token(), depth)
        return values

    def _read_item_starts(self, closing: str) -> Iterator[str]:
        """Yield the first token of each item until the closing bracket.

        The caller must read the remaining tokens of an item before it asks for the next item.
        """
        token = self.next_token()
        while token != closing:
            yield token
            token = self.next_token()
            if token == ",":
                token = self.next_token()
            elif token != closing:
                raise ValueError(
                    f"{token or 'the end'} stands where ',' or '{closing}' is expected"
                )


def _split(text: str) -> Iterator[str]:
    """Yield the tokens of a text, then endlessly ""."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            line = text.count("\n", 0, position) + 1
            raise ValueError(f"line {line} is neither JSON nor a Python list or dict")
        position = match.end()
        token = match["string"] or match["number"] or match["mark"]
        if token is None:
            break
        yield token
    while True:
        yield ""


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else _ESCAPED.get(match[3], match[3])
