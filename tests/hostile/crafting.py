"""Crafted files that several loaders share: bad JSON texts and extreme fields."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.hostile_files import HostileFile, make_file, make_lazy_file

EXTREME_VALUES: tuple[Any, ...] = (None, True, False, 0, 1, -1, 2, 2**31 - 1, 2**31, 2**32, 2**53)
EXTREME_VALUES += (2**63 - 1, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e-320, 1e15, 1e308, -1e308)
EXTREME_VALUES += (float("nan"), float("inf"), "", " ", "0", "NaN", HOSTILE_TEXT, "\ud800", "/")
EXTREME_VALUES += ("../../CANARY", "\0", "a" * 100_000, "\x1b" * 100_000, "=1+1", "$(CANARY)")
EXTREME_VALUES += ([0] * 10_000, {str(index): index for index in range(10_000)})
EXTREME_VALUES += ([], {}, [[]], [{}], {"": {}}, [None], [0] * 5000, [""] * 5000, [HOSTILE_TEXT])
"""Values that a field may have in a hostile file, whatever its type is."""


def craft_json_texts(name: str, document: Any) -> Iterator[HostileFile]:
    """Yield texts that are no JSON, or JSON in an unusual form, beside the given document."""
    text = json.dumps(document)
    for other in ("null", "0", '""', "[]", "{}", "[{}]", "NaN", "-", "true", "\ud800", "\0", "{"):
        yield make_file(name, f"only {other!a}", other.encode("utf-8", "surrogatepass"))
    for encoding in ("utf-16", "utf-32", "utf-8-sig", "utf-7", "utf-16-be"):
        yield make_file(name, f"the encoding {encoding}", text.encode(encoding))
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        for depth in (33, 1000, 100_000):
            nested = opening * depth + "0" + closing * depth
            yield make_file(name, f"{depth} nested {opening!r}", nested.encode())
            inside = f'{{"x": {nested}, {text[1:]}'
            yield make_file(name, f"{depth} nested {opening!r} in a field", inside.encode())
    yield make_file(name, "a number of a million digits", b"[" + b"9" * 10**6 + b"]")
    yield make_file(name, "spaces before it", b" " * 10**6 + text.encode())
    yield make_file(name, "spaces behind it", text.encode() + b"\n" * 10**6)
    yield make_file(name, "the text twice", (text + text).encode())
    yield make_file(name, "bytes that are not UTF-8", text.encode().replace(b'"', b'"\xff', 3))
    if isinstance(document, dict):
        for key in document:
            twice = f'{{{json.dumps(key)}: "first", {text[1:]}'
            yield make_file(name, f"the key {key} twice", twice.encode())


def list_places(document: Any) -> list[tuple[Any, ...]]:
    """List the places of all values in a JSON document: the keys and indices that lead there.

    Of a list, only the first and the last entry are listed.
    """
    places = []
    unvisited: list[tuple[tuple[Any, ...], Any]] = [((), document)]
    while unvisited:
        place, value = unvisited.pop()
        places.append(place)
        if isinstance(value, dict):
            unvisited += [((*place, key), child) for key, child in value.items()]
        elif isinstance(value, list):
            indices = sorted({0, len(value) - 1}) if value else []
            unvisited += [((*place, index), value[index]) for index in indices]
    return places


def replace_at(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of a JSON document in which the value at a place is replaced."""
    if not place:
        return value
    changed = copy.copy(document)
    changed[place[0]] = replace_at(document[place[0]], place[1:], value)
    return changed


def change_field(document: Any, generator: random.Random) -> tuple[str, Any]:
    """Change a random field of a JSON document: replace, remove, rename, repeat or add one.

    Returns:
        A description, and the changed document.
    """
    places = list_places(document)[1:]
    if not places:  # an empty list or object, or a single value
        value = generator.choice(EXTREME_VALUES)
        return f"only {value!a:.40}", value
    place = generator.choice(places)
    *parents, key = place
    container = document
    for parent in parents:
        container = container[parent]
    action = generator.choice(("replace",) * 6 + ("remove", "rename", "repeat"))
    if action == "replace":
        value = generator.choice(EXTREME_VALUES)
        return f"{place} is {value!a:.40}", replace_at(document, place, value)
    changed = copy.copy(container)
    if action == "repeat" and isinstance(changed, list):
        changed += [changed[key]] * generator.choice((1, 40, 300, 3000))
    elif action == "rename" and isinstance(changed, dict):
        changed[generator.choice(("", HOSTILE_TEXT, "__class__", "self"))] = changed.pop(key)
    else:
        del changed[key]
    return f"{action} {place}", replace_at(document, tuple(parents), changed)


def craft_fields(
    name: str,
    document: Any,
    generator: random.Random,
    count: int,
    encode: Callable[[Any], bytes] = lambda document: json.dumps(document).encode(),
) -> Iterator[HostileFile]:
    """Yield files with one extreme field each.

    Args:
        name: Name of the files.
        document: A valid JSON document.
        generator: Chooses the fields and the values.
        count: Number of files.
        encode: Makes the bytes of a file from the changed document.
    """
    for _ in range(count):
        description, changed = change_field(document, generator)
        yield make_lazy_file(name, description, partial(encode, changed))
