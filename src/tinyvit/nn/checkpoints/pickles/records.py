"""Plain records of what a pickle contains.

`tinyvit.nn.checkpoints.pickles.machine` creates them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class PickleRecordError(ValueError):
    """A pickle is damaged, too large, or cannot be represented by plain records."""


@dataclass(frozen=True)
class PickledName:
    """A class, function or constant that a pickle names.

    Attributes:
        name: Module and name, such as "torch.FloatStorage".
    """

    name: str


class UnorderedList(list[Any]):
    """The entries of a set. Their order has no meaning: it differs between runs of Python."""


@dataclass(eq=False)
class PickledObject:
    """An object that a pickle would create.

    Attributes:
        name: Module and name of its class, or of the function that would create it.
        args: Arguments of the class or function.
        items: Items of the object if its class is a subclass of dict; otherwise empty.
        entries: Entries of the object if its class is a subclass of list or set; otherwise empty.
        state: Attributes of the object in the form that `read_attributes` reads, usually a dict;
            None if it has none.
    """

    name: str
    args: tuple[Any, ...] = ()
    items: dict[Any, Any] = field(default_factory=dict)
    entries: list[Any] = field(default_factory=list)
    state: Any = None


def read_attributes(state: Any) -> dict[Any, Any]:
    """Return the attributes of an object by name.

    Args:
        state: The state of a `PickledObject`: a dict or, for a class with `__slots__`, a pair: the
            dict or None, and a dict of the attributes in slots.

    Returns:
        The attributes; {} if the state has another form.
    """
    parts = state if isinstance(state, tuple) else (state,)
    return {k: v for part in parts if isinstance(part, dict) for k, v in part.items()}


@dataclass(frozen=True)
class StoredStorage:
    """A storage of torch, whose content is outside the pickle.

    Attributes:
        type_name: Module and name of its class, such as "torch.FloatStorage".
        key: Name of the storage in the file.
        offset: Index of the element of the saved storage `key` at which this storage begins. It is
            0, except in files of old versions of torch, where a storage can be a part of another.
    """

    type_name: str
    key: str
    offset: int = 0


@dataclass(frozen=True)
class Pickle:
    """The content of a pickle.

    Attributes:
        root: The tree of records.
        storages: All storages that the pickle refers to.
    """

    root: Any
    storages: tuple[StoredStorage, ...]
