"""Mutations of protobuf messages: a random field of any nested message gets an extreme value."""

from __future__ import annotations

import random
from typing import Any

from tests.helpers.hostile_text import HOSTILE_TEXT

_INTEGERS = (0, 1, -1, 2, 7, 255, 2**15, 2**31 - 1, -(2**31))
_LONG_INTEGERS = (*_INTEGERS, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -1.0, 1e-45, 1e38, float("nan"), float("inf"), -float("inf"))
_TEXTS = (
    "",
    HOSTILE_TEXT.encode("utf-8", "replace").decode(),
    "x" * 10_000,
    "../../CANARY",
    "%s{}",
)
_MAX_REPEATED = 1000


def mutate_message(message: Any, generator: random.Random) -> str:
    """Change one field of a message, or of a message in it; return a description."""
    parents = list(_list_messages(message, type(message).__name__))
    parent, name = generator.choice(parents)
    fields = [field for field, _value in parent.ListFields()]
    if generator.random() < 0.3 or not fields:
        fields = list(parent.DESCRIPTOR.fields)
    field = generator.choice(fields)
    _change_field(parent, field, generator)
    return f"{name}.{field.name}"


def _list_messages(message: Any, name: str) -> list[tuple[Any, str]]:
    """List a message and all messages in it; long lists count as few."""
    messages = [(message, name)]
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if _is_map(value):
            children = list(value.values())
        else:
            children = list(value) if hasattr(value, "add") else [value]
        for child in children[:200]:
            if not hasattr(child, "ListFields"):  # a map of numbers or texts
                continue
            messages += _list_messages(child, f"{name}.{field.name}")
    return messages


def _is_map(value: Any) -> bool:
    """Return whether a value of a field is a map."""
    return hasattr(value, "values") and hasattr(value, "items")


def _change_field(parent: Any, field: Any, generator: random.Random) -> None:
    """Clear, repeat or replace the values of a field."""
    value = getattr(parent, field.name)
    if _is_map(value):
        parent.ClearField(field.name)
        return
    is_repeated = hasattr(value, "append") or hasattr(value, "add")
    values = list(value) if is_repeated else []
    action = generator.choice(("clear", "repeat", "value", "value", "value"))
    if action == "clear" or (field.message_type is not None and not is_repeated):
        parent.ClearField(field.name)
    elif field.message_type is not None:
        extra = generator.choice(values) if values else None
        if extra is not None:
            count = generator.choice((1, 2, _MAX_REPEATED))
            getattr(parent, field.name).extend([extra] * count)
        else:
            getattr(parent, field.name).add()
    elif is_repeated:
        values = values or [_choose_value(field, generator)]
        if action == "repeat":
            values = (values * _MAX_REPEATED)[: generator.choice((2, 9, _MAX_REPEATED))]
        else:
            values[generator.randrange(len(values))] = _choose_value(field, generator)
        parent.ClearField(field.name)
        getattr(parent, field.name).extend(values)
    else:
        setattr(parent, field.name, _choose_value(field, generator))


def _choose_value(field: Any, generator: random.Random) -> Any:
    """Choose an extreme value of the type of a field."""
    if field.enum_type is not None:
        return generator.choice([value.number for value in field.enum_type.values])
    kind = field.cpp_type
    if kind == field.CPPTYPE_STRING:
        text = generator.choice(_TEXTS)
        return text.encode() if field.type == field.TYPE_BYTES else text
    if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return generator.choice(_FLOATS)
    if kind == field.CPPTYPE_INT64:
        return generator.choice(_LONG_INTEGERS)
    if kind == field.CPPTYPE_INT32:
        return generator.choice(_INTEGERS)
    return abs(generator.choice(_INTEGERS))
