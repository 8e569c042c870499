"""Parsing of untrusted JSON into dataclasses, with limits on its size and nesting depth.

`parse_json` and `read_json` turn text into plain values (dicts, lists, strings, numbers, ...).
`parse_dataclass` turns plain values into an instance of a dataclass and checks the types of all
fields. Manifests, recipes and records are read with these functions, because such files can come
from untrusted sources.

The functions raise ValueError with a clause as message, which the caller puts into a sentence. "It"
in a clause is the parsed text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from tinyvit.files.regular_files import read_bounded, require_size
from tinyvit.nesting_limits import MAX_DEPTH, check_depth, require_few_openings

MAX_BYTES = 64 * 2**20
"""Largest JSON text that is parsed by default, in bytes."""

MAX_INTEGER = 2**63 - 1
"""Largest accepted absolute value of a whole number. No count or measurement is larger, and Python
cannot convert very large numbers to float."""

T = TypeVar("T")

_SURROGATE = re.compile("[\ud800-\udfff]")

_SCALAR_DESCRIPTIONS: dict[type, str] = {
    str: "a string",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    NoneType: "null",
}


def parse_json(text: str | bytes, max_bytes: int = MAX_BYTES) -> Any:
    """Parse JSON text from an untrusted source into plain values.

    Args:
        text: JSON, as a string or in UTF-8.
        max_bytes: Largest accepted length of `text`: in bytes, or in characters for a string.

    Returns:
        Nested dicts, lists, strings, numbers, booleans and None, as `json.loads` returns them.

    Raises:
        ValueError: The text is too long, has more than `MAX_OPENINGS` lists and objects, is not
            valid UTF-8 or JSON, or is nested deeper than MAX_DEPTH.
    """
    require_size(len(text), max_bytes)
    require_few_openings(text)
    try:
        data = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from error
    check_depth(data)
    return data


def dump_readable_json(data: Any, indent: int | None = None) -> str:
    r"""Format plain values as JSON in which letters other than ASCII are readable.

    Args:
        data: Plain values.
        indent: Number of spaces per level; None for JSON on one line.

    Returns:
        Text that can be encoded in UTF-8. Surrogates, which stand for bytes of file names that are
        not UTF-8, are written as "\udcff" and read as the same surrogates.
    """
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Read a JSON file from an untrusted source into plain values.

    Args:
        path: File in UTF-8.
        max_bytes: Largest accepted file, in bytes.

    Returns:
        Nested dicts, lists, strings, numbers, booleans and None, as `json.loads` returns them.

    Raises:
        OSError: The file cannot be read, or is a pipe or a device.
        ValueError: As for `parse_json`.
    """
    return parse_json(read_bounded(path, max_bytes), max_bytes)


def parse_dataclass(dataclass_type: type[T], data: object, name: str = "") -> T:
    """Convert plain values into a dataclass; the inverse of `dataclasses.asdict`.

    Supported field types are str, int (at most MAX_INTEGER), float (finite; an int, at most
    MAX_INTEGER, is accepted and stays an int), bool, None, Literal, dataclasses, tuples (from lists
    or tuples), dicts, and unions of these. A missing field gets its default value, if it has one.

    Args:
        dataclass_type: The dataclass to create.
        data: Plain values, as `parse_json` or `tomllib` return them.
        name: Name of the object in error messages; the name of the class by default.

    Returns:
        An instance of the dataclass. An error that its `__post_init__` raises is not caught.

    Raises:
        ValueError: `data` is not a dict, a required field is missing, or a field is unknown or has
            the wrong type. The message names the first such field.
    """
    instance: T = _parse_object(
        dataclass_type, data, name or dataclass_type.__name__, field_prefix=""
    )
    return instance


def require_fields(data: object, names: Iterable[str], name: str) -> dict[str, Any]:
    """Refuse an object in which fields are missing, even if the dataclass has defaults for them.

    Args:
        data: Plain values, as `parse_json` returns them.
        names: Names of the required fields.
        name: Name of the object in error messages.

    Returns:
        The same values, which are a dict.

    Raises:
        ValueError: `data` is not a dict, or a field is missing. The message names the field.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{name} is not an object with fields")
    for field_name in names:
        if field_name not in data:
            raise ValueError(f"{name} has no field {field_name}")
    return data


@cache
def _get_field_types(dataclass_type: type) -> dict[str, Any]:
    """Return the declared type of every field of a dataclass."""
    return get_type_hints(dataclass_type)


@cache
def _list_required_fields(dataclass_type: type) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass that have no default."""
    return tuple(
        field.name
        for field in fields(dataclass_type)
        if field.default is MISSING and field.default_factory is MISSING
    )


def _parse_object(dataclass_type: type, data: object, name: str, field_prefix: str) -> Any:
    """Convert a dict into a dataclass.

    Args:
        dataclass_type: The dataclass to create.
        data: Plain values, which should be a dict.
        name: Name of the object in error messages.
        field_prefix: Text before the names of its fields in error messages, such as "preprocess.".
    """
    content = require_fields(data, _list_required_fields(dataclass_type), name)
    types = _get_field_types(dataclass_type)
    for key in content:
        if key not in types:
            raise ValueError(f"{name} has a field {key} that is not known")
    values = {
        key: _parse_value(types[key], value, field_prefix + key) for key, value in content.items()
    }
    return dataclass_type(**values)


def _parse_value(declared_type: Any, data: object, name: str) -> Any:
    """Convert plain values to the declared type of a field.

    Args:
        declared_type: The type, for example `int` or `tuple[str, ...]`.
        data: Plain values.
        name: Name of the value in error messages.
    """
    if declared_type in _SCALAR_DESCRIPTIONS:
        return _parse_scalar(declared_type, data, name)
    if isinstance(declared_type, type) and is_dataclass(declared_type):
        return _parse_object(declared_type, data, name, field_prefix=f"{name}.")
    origin, arguments = get_origin(declared_type), get_args(declared_type)
    if origin is tuple:
        return _parse_tuple(arguments, data, name)
    if origin is dict:
        return _parse_dict(arguments, data, name)
    if origin is Literal:
        return _parse_literal(arguments, data, name)
    return _parse_union(arguments, data, name)


def _parse_scalar(declared_type: type, data: Any, name: str) -> Any:
    """Check a string, number, boolean or None, and return it unchanged."""
    if declared_type is float:
        # Types are compared exactly, because a bool is an instance of int.
        is_valid = type(data) in (int, float) and _is_finite(data)
    else:
        is_valid = type(data) is declared_type
    if not is_valid:
        raise ValueError(f"{name} is not {_SCALAR_DESCRIPTIONS[declared_type]}")
    # In a float field too: numpy makes an array of objects of such a number.
    if type(data) is int and abs(data) > MAX_INTEGER:
        raise ValueError(f"{name} is a number of more than 64 bits")
    return data


def _is_finite(number: Any) -> bool:
    """Return whether a number is finite and within the range of a float."""
    try:
        return isfinite(number)
    except OverflowError:
        return False


def _parse_tuple(arguments: Sequence[Any], data: object, name: str) -> tuple[Any, ...]:
    """Convert a list to tuple[arguments]: one type per value, or one type and an ellipsis."""
    if not isinstance(data, (list, tuple)):
        raise ValueError(f"{name} is not a list")
    is_variadic = arguments[-1] is ...
    types = [arguments[0]] * len(data) if is_variadic else arguments
    if len(data) != len(types):
        raise ValueError(f"{name} is not a list of {len(types)} values")
    entry_name = f"an entry of {name}"
    return tuple(_parse_value(kind, value, entry_name) for kind, value in zip(types, data))


def _parse_dict(arguments: Sequence[Any], data: object, name: str) -> dict[str, Any]:
    """Convert a dict to dict[arguments]: the type of all keys, and that of all values."""
    if not isinstance(data, dict):
        raise ValueError(f"{name} is not an object")
    key_type, value_type = arguments
    key_name, entry_name = f"a key of {name}", f"an entry of {name}"
    return {
        _parse_value(key_type, key, key_name): _parse_value(value_type, value, entry_name)
        for key, value in data.items()
    }


def _parse_literal(options: Sequence[Any], data: object, name: str) -> Any:
    """Check that a value is one of the options of a Literal, and return it."""
    for option in options:
        if type(data) is type(option) and data == option:
            return data
    raise ValueError(f"{name} is not one of {', '.join(map(repr, options))}")


def _parse_union(alternatives: Sequence[Any], data: object, name: str) -> Any:
    """Convert plain values to the first of several types that fits."""
    if data is None and NoneType in alternatives:
        return None
    types = [alternative for alternative in alternatives if alternative is not NoneType]
    # For an optional value, the error of its only other type is the most precise one.
    if len(types) == 1:
        return _parse_value(types[0], data, name)
    for alternative in types:
        try:
            return _parse_value(alternative, data, name)
        except ValueError:
            continue
    raise ValueError(f"{name} is of none of the allowed types")
