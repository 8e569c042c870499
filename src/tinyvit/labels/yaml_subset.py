"""Reads labels in the part of YAML in which they are usually written.

These are a list or a map of names, with one entry per line ("- cat" or "0: cat") or in brackets, at
the top of the file or under a key such as "names". Values may be in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from tinyvit.labels.label_keys import LABEL_KEYS, normalize_key
from tinyvit.labels.label_lines import MAX_LINE_CHARACTERS
from tinyvit.labels.literals import parse_literal

_QUOTED = r""""[^"\\]*(?:\\.[^"\\]*)*"|'[^']*(?:''[^']*)*'"""
_QUOTED_VALUE = rf"(?<![^\s\[{{,:-])(?:{_QUOTED})"
"""A quote within a word, as in "don't", begins no quoted value."""
_QUOTED_OR_COMMENT = re.compile(rf"{_QUOTED_VALUE}|(?<!\S)\#")
_QUOTED_OR_COMMA = re.compile(rf"{_QUOTED_VALUE}|,")
_LIST_ENTRY = re.compile(r"-(?:\s+(\S.*)?)?")
_MAP_ENTRY = re.compile(rf"((?:{_QUOTED})\s*|[^\s'\"][^:]*):(?:\s+(\S.*)?)?")
"""The first group, the key, may end with spaces."""
_SCALAR = re.compile(r"-?[\w.+/~-]*")


def parse_yaml_labels(text: str) -> object:
    """Return the list or the map of names in a YAML file.

    Args:
        text: The content of the file.

    Returns:
        A list of strings; or a dict of strings and whole numbers, for `labels_from_data`.

    Raises:
        ValueError: There are no labels, or several keys can contain them, or they are written in a
            part of YAML that is not understood.
    """
    lines = [_remove_comment(line).rstrip() for line in text.split("\n")]
    lines = [line for line in lines if line and line not in ("---", "...")]
    starts = [index for index, line in enumerate(lines) if _begins_labels(line)]
    if len(starts) > 1:
        raise ValueError("several of its keys can contain the labels")
    if not starts:
        if not all(re.match(r"-\s|[\"']?\d", line) for line in lines):
            raise ValueError("it has no list of names, and no key such as names or classes")
        return _parse_block(lines)
    start, following = lines[starts[0]], lines[starts[0] + 1 :]
    value = start.partition(":")[2].strip()
    if value:
        return _parse_flow(" ".join([value, *following[: _count_flow_lines(value, following)]]))
    return _parse_block(following[: _count_block_lines(following, _measure_indent(start))])


def _remove_comment(line: str) -> str:
    """Return a line without its comment. "#" begins one only after a space and outside quotes."""
    for match in _QUOTED_OR_COMMENT.finditer(line):
        if match[0] == "#":
            return line[: match.start()]
    return line


def _measure_indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _begins_labels(line: str) -> bool:
    """Return whether a line has a usual key of labels, and not just a number or a word."""
    key, colon, value = line.partition(":")
    is_scalar = value.strip() != "" and _SCALAR.fullmatch(value.strip()) is not None
    return bool(colon) and not is_scalar and normalize_key(key.strip("\"' ")) in LABEL_KEYS


def _count_block_lines(following: Sequence[str], indent: int) -> int:
    """Return how many lines belong to a key with this indent."""
    for count, line in enumerate(following):
        line_indent = _measure_indent(line)
        if line_indent < indent or (line_indent == indent and not line.lstrip().startswith("-")):
            return count
    return len(following)


def _parse_block(lines: Sequence[str]) -> object:
    """Parse a list or a map with one entry per line."""
    if len(set(map(_measure_indent, lines))) > 1:
        raise ValueError("the entries of its names are not all indented alike")
    lines = [line.strip() for line in lines]
    _check_lengths(lines)
    items = [_LIST_ENTRY.fullmatch(line) for line in lines]
    if all(items):
        return [_parse_scalar(match[1] or "") for match in items if match]
    pairs = [_MAP_ENTRY.fullmatch(line) for line in lines]
    if not all(pairs):
        number = next(i for i, match in enumerate(pairs, 1) if match is None)
        raise ValueError(f"entry {number} of its names is not understood: {lines[number - 1][:40]}")
    return _make_map([(match[1].rstrip(), match[2] or "") for match in pairs if match])


def _check_lengths(entries: Sequence[str]) -> None:
    """Raise ValueError for an entry that is too long to be a name, and takes long to match."""
    if any(len(entry) > MAX_LINE_CHARACTERS for entry in entries):
        raise ValueError(f"one of its names has more than {MAX_LINE_CHARACTERS} characters")


def _parse_flow(text: str) -> object:
    """Parse [cat, "dog"], ['cat', 'dog'], {0: cat} or {0: 'cat'}."""
    body, ends = text[1:-1], text[:1] + text[-1:]
    if ends not in ("[]", "{}") or re.search(r"[\[\]{}]", re.sub(_QUOTED_VALUE, "", body)):
        return parse_literal(text)
    entries = _split_at_commas(body)
    _check_lengths(entries)
    if ends == "[]":
        return [_parse_scalar(entry) for entry in entries]
    pairs = [_MAP_ENTRY.fullmatch(entry) for entry in entries]
    if not all(pairs):
        return parse_literal(text)
    return _make_map([(match[1].rstrip(), match[2] or "") for match in pairs if match])


def _split_at_commas(text: str) -> list[str]:
    """Return the parts between the commas that are not in quotes; the last may have a comma."""
    commas = [match.start() for match in _QUOTED_OR_COMMA.finditer(text) if match[0] == ","]
    parts = [text[i + 1 : j].strip() for i, j in pairwise((-1, *commas, len(text)))]
    return parts if parts[-1] else parts[:-1]


def _count_flow_lines(value: str, following: Sequence[str]) -> int:
    """Return how many more lines belong to a list or map in brackets."""
    depth = 0
    for count, line in enumerate((value, *following)):
        plain = re.sub(_QUOTED_VALUE, "", line)
        depth += len(re.findall(r"[\[{]", plain)) - len(re.findall(r"[\]}]", plain))
        if depth <= 0:
            return count
    return len(following)


def _make_map(pairs: Sequence[tuple[str, str]]) -> dict[object, object]:
    """Return a dict of strings and whole numbers; raise ValueError if a key occurs twice."""
    values: dict[object, object] = {}
    for key_text, value_text in pairs:
        key = _parse_scalar(key_text)
        if key in values:
            raise ValueError(f"{key} occurs twice")
        is_number = re.fullmatch(r"\d{1,9}", value_text) is not None
        values[key] = int(value_text) if is_number else _parse_scalar(value_text)
    return values


def _parse_scalar(text: str) -> str:
    """Return the string that YAML would read."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        return str(parse_literal(text))
    if text[:1] in ("{", "[", "&", "!", "|", ">", "'", '"') or not text:
        raise ValueError(f"an entry of its names is not a name alone: {text[:40]!r}")
    return text
