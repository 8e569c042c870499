"""Mutations of objects that a library has parsed from a file, such as those of a flatbuffer."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np

from tests.helpers.hostile_text import HOSTILE_TEXT

_INTEGERS = (0, 1, -1, 2, 3, 7, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, -(2**31))
_INTEGERS += (10**6, 2**24, 2**30, 2**32 - 1, 2**62, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 1e38, 3.4e38, float("inf"), float("nan"))
_TEXTS = (b"", b"a" * 100_000, HOSTILE_TEXT.encode("utf-8", "surrogatepass"), b"\xff\xfe\0")


def mutate_object(root: Any, generator: random.Random) -> None:
    """Replace a random value in a tree of objects, lists and arrays.

    Args:
        root: An object whose attributes are numbers, bytes, arrays, lists, other objects or None.
        generator: Chooses the value and what replaces it.
    """
    places: list[tuple[Any, Any]] = []
    _collect(root, places)
    owner, key = generator.choice(places)
    value = owner[key] if isinstance(owner, list) else getattr(owner, key)
    changed = _change(value, generator)
    if isinstance(owner, list):
        owner[key] = changed
    else:
        setattr(owner, key, changed)


def _collect(owner: Any, places: list[tuple[Any, Any]]) -> None:
    """Collect all places, each as its owner and an index or the name of an attribute."""
    keys = range(len(owner)) if isinstance(owner, list) else list(vars(owner))
    for key in keys:
        value = owner[key] if isinstance(owner, list) else getattr(owner, key)
        places.append((owner, key))
        if isinstance(value, list) or hasattr(value, "__dict__"):
            _collect(value, places)


def _change(value: Any, generator: random.Random) -> Any:
    """Return another value, mostly of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, np.integer)):
        small = int(value) + generator.choice((-1, 1, 2))
        return generator.choice((*_INTEGERS, small, small, generator.randrange(256)))
    if isinstance(value, (float, np.floating)):
        return generator.choice((*_FLOATS, value * 1e10))
    if isinstance(value, (bytes, str)):
        return generator.choice(_TEXTS)
    if isinstance(value, np.ndarray):
        return _change_array(value, generator)
    if isinstance(value, list):
        return _change_list(value, generator)
    return None


def _change_array(array: Any, generator: random.Random) -> Any:
    """Return an array with another element, or of another length."""
    action = generator.choice(("set", "set", "set", "set", "cut", "extend", "empty", "none"))
    if action == "none":
        return None
    if action == "empty" or not array.size:
        return array[:0]
    if action == "cut":
        return array[:-1]
    if action == "extend":
        return np.resize(array, array.size + generator.choice((1, array.size, 10_000)))
    array = array.copy()
    candidates = _FLOATS if array.dtype.kind == "f" else _INTEGERS
    if array.dtype.kind != "f":
        limits = np.iinfo(array.dtype)
        small = int(array.reshape(-1)[0]) + 1
        candidates = [n for n in (*_INTEGERS, small) if limits.min <= n <= limits.max]
    array.reshape(-1)[generator.randrange(array.size)] = generator.choice(candidates)
    return array


def _change_list(values: list[Any], generator: random.Random) -> list[Any]:
    """Return a list with one element twice, removed, or in another place."""
    if not values:
        return []
    index = generator.randrange(len(values))
    action = generator.choice(("twice", "remove", "swap", "often", "empty"))
    if action == "twice":
        return [*values, copy.deepcopy(values[index])]
    if action == "remove":
        return values[:index] + values[index + 1 :]
    if action == "often":
        return [*values, *[values[index]] * 300]
    if action == "empty":
        return []
    other = generator.randrange(len(values))
    changed = list(values)
    changed[index], changed[other] = changed[other], changed[index]
    return changed
