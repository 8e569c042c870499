"""Settings in YAML files, as training scripts write them with their arguments."""

from __future__ import annotations

import ast
import re
from typing import Any

from tinyvit.files.yaml_files import YamlValue, parse_yaml

_CONSTANTS = {"null": None, "~": None, "": None, "true": True, "false": False}

_NUMBERS = re.compile(r"[-+.\d\[][-+.\deE\s,\[\]]*$")
"""Matches a number, and lists of numbers in brackets or separated by commas."""

_MAX_VALUE_LENGTH = 1000
"""Longer numbers and lists, in characters, stay strings."""


def parse_yaml_settings(text: str) -> dict[str, Any]:
    """Parse the settings in a YAML text.

    Args:
        text: The content of a YAML file.

    Returns:
        The settings by key: numbers, booleans, None, strings, and lists and dicts of these. {} if
        the text is not a map in YAML, or has a form that `tinyvit.files.yaml_files.parse_yaml`
        refuses.

    Raises:
        MissingDependencyError: PyYAML is not installed.
    """
    try:
        content = parse_yaml(text)
    except ValueError:
        return {}
    return _convert(content) if isinstance(content, dict) else {}


def _convert(value: YamlValue) -> Any:
    """Convert the strings in a value from YAML to numbers and constants."""
    if isinstance(value, dict):
        return {key: _convert(element) for key, element in value.items()}
    if isinstance(value, list):
        return [_convert(element) for element in value]
    return _convert_scalar(value.strip())


def _convert_scalar(text: str) -> Any:
    """Convert a constant, a number or a list of numbers; return any other text unchanged."""
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if not _NUMBERS.match(text) or len(text) > _MAX_VALUE_LENGTH:
        return text
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return text
