"""Results of the calls that a pickle would make, as plain values or records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from tinyvit.nn.checkpoints.pickles.records import PickledObject, PickleRecordError, UnorderedList

_MAX_ENTRY_BYTES = 104
"""Largest memory of an entry of a copied dict (without its key and value); lists need less."""

_MAX_KEY_LENGTH = 16
"""A longer tuple is not accepted as the key of a dict, because hashing it can take long."""


def make_dict(values: list[Any]) -> dict[Any, Any]:
    """Create a dict from alternating keys and values.

    Args:
        values: A key, its value, the next key, and so on.

    Raises:
        PickleRecordError: A key is a list or dict, or a tuple that is nested or long.
    """
    for key in values[::2]:
        parts = key if isinstance(key, tuple) else ()
        is_nested = any(isinstance(part, (tuple, list, dict)) for part in parts)
        if isinstance(key, (list, dict)) or len(parts) > _MAX_KEY_LENGTH or is_nested:
            raise PickleRecordError("it has a dict with unusual keys")
    return dict(zip(values[::2], values[1::2]))


def measure_copy(name: str, args: tuple[Any, ...]) -> int:
    """Return an upper bound for the size of the arguments that `record_call` copies.

    The reader of pickles adds these sizes, to refuse a small file that would copy a lot.

    Args:
        name: Module and name of the function.
        args: Its arguments.

    Returns:
        A number of characters if the function copies texts, a number of bytes of memory if it
        copies containers.
    """
    if name == "_codecs.encode" or name.startswith("pathlib."):
        return sum(len(part) + 1 for part in args if isinstance(part, str))
    entry_count = sum(len(part) for part in args if isinstance(part, (list, tuple, dict)))
    return _MAX_ENTRY_BYTES * entry_count


def record_call(name: str, args: tuple[Any, ...]) -> Any:
    """Return the result of a call if the function is known and harmless, else a record of the call.

    Args:
        name: Module and name of the function.
        args: Its arguments.

    Raises:
        PickleRecordError: The arguments are not those of the function. Arguments of a wrong type or
            number can also raise AttributeError, IndexError or TypeError.
    """
    if name in _CONTAINER_TYPES:
        return _CONTAINER_TYPES[name](list(args))
    if name in ("copyreg._reconstructor", "copyreg.__newobj__"):
        class_name = args[0].name
        # The third argument of _reconstructor is the content of a subclass of dict or list.
        content = args[2] if name == "copyreg._reconstructor" and len(args) > 2 else None
        items = dict(content) if type(content) is dict else {}
        entries = list(content) if type(content) is list else []
        return PickledObject(class_name, (), items, entries)
    if name == "_codecs.encode":
        return args[0].encode("latin-1")
    if name.startswith("pathlib.") and all(isinstance(part, str) for part in args):
        return "\\".join(args) if "Windows" in name else str(PurePosixPath(*args))
    return PickledObject(name, args)


def _copy_list(args: list[Any]) -> list[Any]:
    """Return the entries of a container from the arguments of its type's constructor."""
    return list(args[0]) if args and isinstance(args[0], (list, tuple)) else []


def _copy_dict(args: list[Any]) -> dict[Any, Any]:
    """Return a dict from the arguments of the constructor: another dict, or (key, value) pairs."""
    content = args[0] if args else None
    if isinstance(content, dict):
        return dict(content)
    pairs = content if isinstance(content, (list, tuple)) else []
    if any(len(pair) != 2 for pair in pairs):
        raise PickleRecordError("it creates a dict from something that is not pairs")
    return make_dict([part for pair in pairs for part in pair])


_CONTAINER_TYPES: dict[str, Callable[[list[Any]], Any]] = {
    "collections.OrderedDict": _copy_dict,
    "collections.Counter": _copy_dict,
    "collections.defaultdict": lambda args: {},
    "builtins.dict": _copy_dict,
    "builtins.list": _copy_list,
    "builtins.set": lambda args: UnorderedList(_copy_list(args)),
    "builtins.frozenset": lambda args: UnorderedList(_copy_list(args)),
    "builtins.tuple": lambda args: tuple(_copy_list(args)),
    "torch.Size": lambda args: tuple(_copy_list(args)),
}
"""Maps the name of a container type to a function that makes a plain container from the arguments
of the type's constructor."""
