"""Mutations of protobuf messages, which know the fields of the message."""

from __future__ import annotations

import random
from typing import Any

from tests.helpers.hostile_text import HOSTILE_TEXT

_INTEGERS = (0, 1, 2, 3, 7, 64, 2**10, 2**20, 2**26, 2**27, 2**31 - 1, 2**32 - 1, 2**62, 2**64 - 1)
_FLOATS = (0.0, -1.0, 1e-40, 1e38, float("inf"), float("nan"))
_TEXTS = ("", "x", "a" * 10_000, HOSTILE_TEXT.replace("\ud800", "").replace("\udcff", ""), "a\0b")


def mutate_message(message: Any, generator: random.Random) -> None:
    """Change a random field of a message, or of a message in it.

    Args:
        message: The message, which is changed.
        generator: Chooses the field and its value.
    """
    places: list[tuple[Any, Any]] = []
    _collect(message, places)
    owner, field = generator.choice(places)
    value = getattr(owner, field.name)
    if hasattr(value, "MergeFrom") and not isinstance(value, (str, bytes)):
        _change_container(owner, field.name, value, generator)
    else:
        _change_scalar(owner, field.name, value, generator)


def _collect(message: Any, places: list[tuple[Any, Any]]) -> None:
    """Collect all set fields, each with the message that contains it."""
    for field, value in message.ListFields():
        places.append((message, field))
        if hasattr(value, "values") and hasattr(value, "items"):
            nested = list(value.values())
        elif hasattr(value, "__iter__") and not isinstance(value, (str, bytes)):
            nested = list(value)
        else:
            nested = [value]
        for item in nested:
            if hasattr(item, "ListFields"):
                _collect(item, places)


def _change_container(owner: Any, name: str, value: Any, generator: random.Random) -> None:
    """Clear a message, list or map, or repeat or remove an element of a list."""
    is_list = hasattr(value, "extend") and len(value)
    action = generator.choice(("clear", "twice", "remove", "number")) if is_list else "clear"
    if action == "clear":
        owner.ClearField(name)
    elif action == "remove":
        del value[generator.randrange(len(value))]
    elif action == "number" and isinstance(value[0], (int, float)):
        _try_to_set(lambda number: value.__setitem__(0, number), generator)
    else:
        value.extend([value[generator.randrange(len(value))]] * generator.choice((1, 1, 2000)))


def _change_scalar(owner: Any, name: str, value: Any, generator: random.Random) -> None:
    """Set a number, a text or bytes."""
    if isinstance(value, bool):
        setattr(owner, name, not value)
    elif isinstance(value, str):
        setattr(owner, name, generator.choice(_TEXTS))
    elif isinstance(value, bytes):
        setattr(owner, name, generator.choice((b"", value[:-1], value + value, b"\xff" * 8)))
    else:
        _try_to_set(lambda number: setattr(owner, name, number), generator)


def _try_to_set(assign: Any, generator: random.Random) -> None:
    """Assign extreme numbers until one fits the field."""
    for _ in range(20):
        try:
            return assign(generator.choice((*_INTEGERS, *_FLOATS, -1, -(2**63), -(2**31))))
        except (ValueError, TypeError):
            continue
