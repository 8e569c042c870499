"""Reading of simple YAML files, as training scripts write them with their arguments."""

from __future__ import annotations

import ast
import re
from typing import Any

_MAX_DEPTH = 12
"""What is nested deeper is left out."""

_MAX_LINES = 20_000
"""Only so many lines are read."""

_CONSTANTS = {"null": None, "~": None, "": None, "true": True, "false": False}

_ENTRY = re.compile(r"(?:- )?([\w.\-/]+|'[^']*'|\"[^\"]*\")\s*:(?:\s+(\S.*)?)?$")
"""Matches the line of a key, without its indentation: its key and its value."""

_NUMBERS = re.compile(r"[-+.\d\[][-+.\deE\s,\[\]]*$")
"""Matches a number, and lists of numbers in brackets."""

_MAX_VALUE_LENGTH = 1000
"""Longer numbers and lists stay texts."""

_Lines = list[tuple[int, str]]


def parse_yaml(text: str) -> dict[str, Any]:
    """Parse a YAML file with nested keys, lists and simple values.

    Args:
        text: The file. References, types and texts of several lines are not supported.

    Returns:
        The values by key; {} if the file is something else.
    """
    lines = [line.rstrip() for line in text.split("\n")[:_MAX_LINES]]
    relevant = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    entries = [(len(line) - len(line.lstrip()), line.strip()) for line in relevant]
    content, _ = _parse_block(entries, 0, 0)
    return content if isinstance(content, dict) else {}


def _parse_block(lines: _Lines, start: int, depth: int) -> tuple[Any, int]:
    """Parse the lines from `start` that have its indentation or a larger one.

    Returns:
        A dict or a list, and the index of the first line after it.
    """
    indentation = lines[start][0] if start < len(lines) else 0
    is_list = start < len(lines) and lines[start][1].startswith("- ")
    values: dict[str, Any] = {}
    elements: list[Any] = []
    index = start
    while index < len(lines) and lines[index][0] >= indentation:
        own_indentation, line = lines[index]
        is_element = line.startswith("- ")
        if own_indentation == indentation and is_element != is_list:
            break
        index += 1
        match = None if is_element else _ENTRY.match(line)
        if own_indentation > indentation:
            continue
        if is_list:
            elements.append(_parse_value(line[2:]))
        elif match is not None:
            value = match[2] or ""
            if not value and _has_block(lines, index, indentation) and depth < _MAX_DEPTH:
                values[match[1].strip("'\"")], index = _parse_block(lines, index, depth + 1)
            else:
                values[match[1].strip("'\"")] = _parse_value(value)
    return (elements if is_list else values), index


def _has_block(lines: _Lines, index: int, indentation: int) -> bool:
    """Return whether the value of a key is in the lines after it."""
    if index >= len(lines):
        return False
    # The elements of a list may have the indentation of their key.
    own_indentation, line = lines[index]
    return own_indentation > indentation or (
        own_indentation == indentation and line.startswith("- ")
    )


def _parse_value(text: str) -> Any:
    """Parse a number, a text, or a list in one line."""
    text = text.strip()
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if text[:1] in ("'", '"') and text[-1] == text[0]:
        return text[1:-1]
    if not _NUMBERS.match(text) or len(text) > _MAX_VALUE_LENGTH:
        return text
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return text
