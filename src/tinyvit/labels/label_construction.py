"""Makes labels from names, and checks their order, their number, their lengths and characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from tinyvit.labels.imagenet import MAX_CLASSES, Label, labels_by_wnid

MAX_NAME_CHARACTERS = 2000
"""Largest length of a name. The longest one of ImageNet-22k has 47 characters."""

MAX_ALL_CHARACTERS = 2**24
"""Largest length of all names together. They become a part of the artifact and of every report."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Matches a control character, and a surrogate, which cannot be encoded in UTF-8."""

Value = TypeVar("Value")


def order_by_index(pairs: Sequence[tuple[int, Value]]) -> list[Value]:
    """Return the values in the order of their indices.

    Args:
        pairs: Each value with its index before it, in any order.

    Raises:
        ValueError: The indices are not 0, 1, 2, ... without gaps and repetitions.
    """
    require_unique([index for index, _ in pairs], str)
    values = dict(pairs)
    if values.keys() != set(range(len(values))):
        raise ValueError(f"its indices are not 0, 1, 2, ...: {_explain_indices(list(values))}")
    return [values[index] for index in range(len(values))]


def _explain_indices(indices: list[int]) -> str:
    """Return a clause that says why different indices are not 0, 1, 2, ..."""
    count, distinct = len(indices), set(indices)
    if distinct == set(range(1, count + 1)):
        return (
            f"they are 1 to {count}, so either they count from 1, and 1 must be subtracted from"
            " each, or the class with index 0 is missing"
        )
    missing = next(index for index in range(count) if index not in distinct)
    return f"there are {count} from {min(indices)} to {max(indices)}, and {missing} is missing"


def require_unique(keys: Sequence[Hashable], describe: Callable[[Hashable], str] = repr) -> None:
    """Raise ValueError if a key occurs twice.

    Args:
        keys: The keys.
        describe: Function that writes a key for the error message.
    """
    seen: set[Hashable] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"{describe(key)} occurs twice")
        seen.add(key)


def make_labels(names: Sequence[str | Label]) -> tuple[Label, ...]:
    """Return a label for each name. A WordNet id of ImageNet gives the label of its class.

    Args:
        names: Names in the order of the logits. A `Label` is returned unchanged.

    Raises:
        ValueError: A name contains control characters, or the names are too many or too long.
    """
    if len(names) > MAX_CLASSES:
        raise ValueError(f"it has more than {MAX_CLASSES} labels")
    check_lengths([name.name if isinstance(name, Label) else name for name in names])
    imagenet = labels_by_wnid()
    labels = []
    for index, name in enumerate(names):
        label = name if isinstance(name, Label) else imagenet.get(name.strip(), Label(name.strip()))
        if _UNPRINTABLE.search(label.name):
            raise ValueError(f"the name of class {index} contains control characters")
        labels.append(label)
    return tuple(labels)


def check_lengths(names: Sequence[str]) -> None:
    """Raise ValueError if a name, or all of them together, are too long for labels.

    Args:
        names: The names in the order of the logits.
    """
    for index, name in enumerate(names):
        if len(name) > MAX_NAME_CHARACTERS:
            raise ValueError(
                f"the name of class {index} has {len(name)} characters, more than"
                f" {MAX_NAME_CHARACTERS}"
            )
    total = sum(map(len, names))
    if total > MAX_ALL_CHARACTERS:
        raise ValueError(
            f"its names have {total} characters in all, more than {MAX_ALL_CHARACTERS}"
        )
