"""Writes files of `torch.save` whose pickles state anything, without torch's own checks."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

EXTREME_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 2**31, 2**63, 10**300, 1.5, float("nan"), "", "\ud800", b"\xff", [], {}),
    *((1,) * 9, (2**40,), ((), ()), "\x1b[2J\x9b\u202e\r\n", "x" * 100_000),
)
"""Values of wrong types and extreme sizes for any field."""


@dataclass(frozen=True)
class Storage:
    """A reference to a storage, as torch's pickles have it.

    Attributes:
        kind: The class of the storage.
        key: Its name in the file.
        count: Stated number of elements.
    """

    kind: Any = torch.HalfStorage
    key: Any = "0"
    count: Any = 1

    @property
    def identifier(self) -> Any:
        """Return the persistent id."""
        return ("storage", self.kind, self.key, "cpu", self.count)


@dataclass(frozen=True)
class PersistentId:
    """Any other persistent id."""

    identifier: Any


class Call:
    """A call that the pickle states; it can be used as an argument of another one."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.function, self.args, self.state = function, args, state

    def __reduce__(self) -> tuple[Any, ...]:
        return (self.function, self.args, self.state)


class Name:
    """Any module and name of a function or class."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Pickler(pickle._Pickler):  # type: ignore[misc]  # the one in Python can be extended
    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]

    def persistent_id(self, value: Any) -> Any:
        return value.identifier if isinstance(value, (Storage, PersistentId)) else None

    def save_name(self, value: Name) -> None:
        self.save(value.module)
        self.save(value.name)
        self.write(pickle.STACK_GLOBAL)

    def save_reduce(self, func: Any, args: Any, *rest: Any, **options: Any) -> None:
        if not isinstance(func, Name):
            super().save_reduce(func, args, *rest, **options)
            return
        self.save(func)
        self.save(args)
        self.write(pickle.REDUCE)
        if rest and rest[0] is not None:
            self.save(rest[0])
            self.write(pickle.BUILD)

    dispatch[Name] = save_name


def write_pickle(content: Any) -> bytes:
    """Return a pickle of plain values and of the records in this module."""
    buffer = io.BytesIO()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        _Pickler(buffer, protocol=4).dump(content)
    finally:
        sys.setrecursionlimit(limit)
    return buffer.getvalue()


def make_tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Call:
    """Return the record of a tensor."""
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, strides, False, {})


def write_archive(
    pickled: bytes,
    storages: Mapping[str, bytes],
    method: int = zipfile.ZIP_STORED,
    more: Mapping[str, bytes] | None = None,
) -> bytes:
    """Return a zip archive as `torch.save` writes it.

    Args:
        pickled: The pickle.
        storages: The bytes of the storages, by key.
        method: zipfile's number of the compression.
        more: Further entries by name.
    """
    entries = {"a/data.pkl": pickled, "a/byteorder": b"little", "a/version": b"3\n"}
    entries |= {f"a/data/{key}": value for key, value in storages.items()} | dict(more or {})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for name, value in entries.items():
            archive.writestr(name, value)
    return buffer.getvalue()


def write_old_format(parts: tuple[Any, ...], storages: Mapping[str, bytes]) -> bytes:
    """Return a file as versions of torch before 1.6 wrote it.

    Args:
        parts: Magic number, version, facts about the machine, content, and keys of the storages.
        storages: The number of elements and the elements of each storage, by key.
    """
    return b"".join(map(write_pickle, parts)) + b"".join(storages.values())
