"""JSON's plain values -> dataclasses, every field of the type that is declared for it: a stranger's file is not trusted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from math import isfinite
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def parse_dataclass(kind: type[T], data: object) -> T:
    """What `json.loads` gave -> an instance of the dataclass `kind`, the inverse of `dataclasses.asdict`.

    Fields may be str, int, float (finite; whole numbers too), bool, None, Literal, other dataclasses, tuples (JSON's lists), dicts by
    str, and unions of these with None. A missing field takes its default. Raises ValueError naming the first field that is missing,
    unknown, or not what it should be.
    """
    made: T = _value(kind, data, kind.__name__)
    return made


def matches_type(value: object, kind: Any) -> bool:
    """Whether a value is of a declared type, as `parse_dataclass` would leave it."""
    origin, args = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return isinstance(value, kind) and all(
            matches_type(getattr(value, name), declared)
            for name, declared in field_types(kind).items()
        )
    if origin is Literal:
        return value in args
    if origin is tuple:
        kinds = [args[0]] * len(value) if isinstance(value, tuple) and args[-1] is ... else args
        return (
            isinstance(value, tuple)
            and len(value) == len(kinds)
            and all(map(matches_type, value, kinds))
        )
    if origin is dict:
        return isinstance(value, dict) and all(
            matches_type(x, args[0]) and matches_type(value[x], args[1]) for x in value
        )
    if args:
        return any(matches_type(value, option) for option in args)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    return isinstance(value, kind) and isinstance(value, bool) == (kind is bool)


@cache
def field_types(record: type) -> dict[str, Any]:
    """The declared type of every field of a dataclass."""
    return get_type_hints(record)


def _value(kind: Any, data: object, name: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return _record(kind, data, name)
    if origin is tuple and isinstance(data, list):
        kinds: Iterable[Any] = [args[0]] * len(data) if args[-1] is ... else args
        data = (
            tuple(_value(each, x, name) for each, x in zip(kinds, data))
            if len(data) == len(list(kinds))
            else data
        )
    elif origin is dict and isinstance(data, dict):
        data = {key: _value(args[1], value, name) for key, value in data.items()}
    elif args and origin is not Literal and data is not None:
        (only, *others) = (option for option in args if option is not NoneType)
        data = data if others else _value(only, data, name)
    if not matches_type(data, kind):
        raise ValueError(f"{name} is not what it should be")
    return data


def _record(kind: type, data: object, name: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{name} is no object")
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(str(key) for key in data if key not in known)
    needed = [
        name
        for name, field in known.items()
        if field.default is MISSING and field.default_factory is MISSING
    ]
    missing = [name for name in needed if name not in data]
    if unknown or missing:
        raise ValueError(
            f"{name} has no {missing[0]}"
            if missing
            else f"{name} has a field {unknown[0]} that is not known"
        )
    return kind(**{key: _value(field_types(kind)[key], value, key) for key, value in data.items()})
