"""Parsing of untrusted JSON into dataclasses, with limits on its size and nesting depth.

`parse_json` and `read_json` turn text into plain values (dicts, lists, strings, numbers, ...).
`parse_dataclass` turns plain values into an instance of a dataclass and checks the types of all
fields. All JSON of this project is parsed here, because its files can come from untrusted sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

MAX_BYTES = 64 * 2**20
"""Largest JSON text that is parsed by default, in bytes."""

MAX_DEPTH = 32
"""Deepest nesting of lists and objects in a JSON text that is accepted."""

T = TypeVar("T")

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
        ValueError: The text is too long, is not valid UTF-8 or JSON, or is nested deeper than
            MAX_DEPTH.
    """
    if len(text) > max_bytes:
        raise ValueError(f"it is larger than {_format_size(max_bytes)}")
    try:
        data = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from error
    _check_depth(data)
    return data


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Read a JSON file from an untrusted source into plain values.

    Args:
        path: File in UTF-8.
        max_bytes: Largest accepted file, in bytes.

    Returns:
        Nested dicts, lists, strings, numbers, booleans and None, as `json.loads` returns them.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is too large, is not valid UTF-8 or JSON, or is nested deeper than
            MAX_DEPTH.
    """
    with path.open("rb") as file:
        return parse_json(file.read(max_bytes + 1), max_bytes)


def parse_dataclass(kind: type[T], data: object, name: str = "") -> T:
    """Convert plain values into a dataclass; the inverse of `dataclasses.asdict`.

    Supported field types are str, int, float (finite; an int is not converted), bool, None,
    Literal, dataclasses, tuples (from lists or tuples), dicts, and unions of these. A missing field
    gets its default value, if it has one.

    Args:
        kind: The dataclass to create.
        data: Plain values, as `parse_json` or `tomllib` return them.
        name: Name of the object in error messages; the name of the class by default.

    Returns:
        An instance of `kind`. Errors that its `__post_init__` raises are passed on.

    Raises:
        ValueError: A required field is missing, or a field is unknown or has the wrong type. The
            message names the first such field.
    """
    instance: T = _parse_record(kind, data, name or kind.__name__, prefix="")
    return instance


def require_fields(data: object, names: Iterable[str], name: str) -> None:
    """Refuse an object in which fields are missing, even if the dataclass has defaults for them.

    Args:
        data: Plain values, as `parse_json` returns them.
        names: Names of the required fields.
        name: Name of the object in error messages.

    Raises:
        ValueError: `data` is not an object, or a field is missing. The message names the field.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{name} is not an object with fields")
    for field_name in names:
        if field_name not in data:
            raise ValueError(f"{name} has no field {field_name}")


@cache
def _field_types(kind: type) -> dict[str, Any]:
    """Return the declared type of every field of a dataclass."""
    return get_type_hints(kind)


@cache
def _required_fields(kind: type) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass that have no default."""
    return tuple(
        field.name
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING
    )


def _parse_record(kind: type, data: object, name: str, prefix: str) -> Any:
    """Parse an object into a dataclass; errors put `prefix` before the names of its fields."""
    if not isinstance(data, dict):
        raise ValueError(f"{name} is not an object with fields")
    types = _field_types(kind)
    for required in _required_fields(kind):
        if required not in data:
            raise ValueError(f"{name} has no field {required}")
    for key in data:
        if key not in types:
            raise ValueError(f"{name} has a field {key} that is not known")
    return kind(
        **{key: _parse_value(types[key], value, prefix + key) for key, value in data.items()}
    )


def _parse_value(kind: Any, data: object, name: str) -> Any:
    """Parse plain values as a declared type; `name` is the name of the value in errors."""
    if kind in _SCALAR_DESCRIPTIONS:
        return _parse_scalar(kind, data, name)
    if isinstance(kind, type) and is_dataclass(kind):
        return _parse_record(kind, data, name, prefix=f"{name}.")
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return _parse_tuple(arguments, data, name)
    if origin is dict:
        return _parse_dict(arguments, data, name)
    if origin is Literal:
        return _parse_literal(arguments, data, name)
    return _parse_union(arguments, data, name)


def _parse_scalar(kind: type, data: object, name: str) -> Any:
    """Check a string, number, boolean or None, and return it unchanged."""
    # Types are compared exactly, because a bool is an instance of int.
    if type(data) is not kind and not (kind is float and type(data) is int):
        raise ValueError(f"{name} is not {_SCALAR_DESCRIPTIONS[kind]}")
    if kind is float and not _is_finite(data):
        raise ValueError(f"{name} is not {_SCALAR_DESCRIPTIONS[kind]}")
    return data


def _is_finite(number: Any) -> bool:
    """Return whether a number is finite and within the range of a float."""
    try:
        return isfinite(number)
    except OverflowError:
        return False


def _parse_tuple(kinds: Sequence[Any], data: object, name: str) -> tuple[Any, ...]:
    if not isinstance(data, (list, tuple)):
        raise ValueError(f"{name} is not a list")
    if kinds[-1] is ...:
        kinds = [kinds[0]] * len(data)
    if len(data) != len(kinds):
        raise ValueError(f"{name} is not a list of {len(kinds)} values")
    entry = f"an entry of {name}"
    return tuple(_parse_value(kind, value, entry) for kind, value in zip(kinds, data))


def _parse_dict(kinds: Sequence[Any], data: object, name: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{name} is not an object")
    key_name, entry = f"a key of {name}", f"an entry of {name}"
    return {
        _parse_value(kinds[0], key, key_name): _parse_value(kinds[1], value, entry)
        for key, value in data.items()
    }


def _parse_literal(options: Sequence[Any], data: object, name: str) -> Any:
    for option in options:
        if type(data) is type(option) and data == option:
            return data
    raise ValueError(f"{name} is not one of {', '.join(map(repr, options))}")


def _parse_union(kinds: Sequence[Any], data: object, name: str) -> Any:
    if data is None and NoneType in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not NoneType]
    if len(kinds) == 1:
        return _parse_value(kinds[0], data, name)
    for kind in kinds:
        try:
            return _parse_value(kind, data, name)
        except ValueError:
            continue
    raise ValueError(f"{name} is of none of the allowed types")


def _check_depth(data: object) -> None:
    """Raise ValueError if lists and objects are nested deeper than MAX_DEPTH."""
    containers = [data]
    for _ in range(MAX_DEPTH):
        containers = [
            child
            for container in containers
            for child in _children(container)
            if isinstance(child, (dict, list))
        ]
        if not containers:
            return
    raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")


def _children(container: object) -> Sequence[object]:
    if isinstance(container, dict):
        return list(container.values())
    return container if isinstance(container, list) else []


def _format_size(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MiB" if size_bytes >= 2**20 else f"{size_bytes} bytes"
