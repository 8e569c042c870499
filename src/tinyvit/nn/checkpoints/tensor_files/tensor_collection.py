"""Collection of the tensors in a dict or in a pickled module, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinyvit.nn.checkpoints.pickles.records import PickledObject
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import (
    ReadStorage,
    StoredTensor,
    make_quantized_tensor,
    make_stored_tensor,
    make_unusable_tensor,
)

_MAX_MODULES = 20_000
"""At most this number of modules inside a pickled module are searched."""

_MAX_NAME_LENGTH = 1000
"""Tensors and modules with longer names, in characters, are left out. Without this limit, the names
of modules inside each other could fill the memory."""

_WEIGHT_NAMES = (".weight", ".bias")
"""Endings of the names of parameters, without which a network can have another meaning."""

MAX_TENSORS = 200_000
"""Largest number of tensors that are collected from one file. A TinyViT has about 400. The same
module can be a part of many others in a small file, so the size of the file is no limit."""

MAX_ENTRIES = 5_000_000
"""Largest number of modules, and of entries of dicts, that are searched for tensors."""


def is_module(value: Any) -> bool:
    """Return whether a record is a torch.nn.Module, by its attributes."""
    state = value.state if isinstance(value, PickledObject) else None
    return isinstance(state, dict) and {"_parameters", "_buffers", "_modules"} <= state.keys()


class TensorCollector:
    """Collects tensors from the records of one file. It collects from each record only once."""

    def __init__(self, read_storage: ReadStorage) -> None:
        """Create a collector for a file.

        Args:
            read_storage: Returns the bytes of a storage of the file.
        """
        self._read_storage = read_storage
        self._entry_count = 0
        self._tensor_count = 0
        # The record is stored with the result, so that no other record gets its id.
        self._results: dict[int, tuple[Any, dict[str, StoredTensor]]] = {}

    def collect(self, value: Any) -> dict[str, StoredTensor]:
        """Return the tensors in a dict, or the parameters and buffers of a module, by name.

        Args:
            value: A record of a pickle, or a dict of stored tensors.

        Returns:
            The tensors, which the caller must not change; {} if the value is something else.

        Raises:
            ValueError: The record of a tensor is damaged, or the file has more than `MAX_TENSORS`
                tensors or `MAX_ENTRIES` entries.
        """
        if id(value) not in self._results:
            self._results[id(value)] = (value, self._collect(value))
        return self._results[id(value)][1]

    def _collect(self, value: Any) -> dict[str, StoredTensor]:
        """Return the tensors in a record."""
        if is_module(value):
            return dict(self._collect_parameters(value))
        items = value.items if isinstance(value, PickledObject) else value
        return dict(self._collect_items("", items)) if isinstance(items, dict) else {}

    def _collect_items(
        self, prefix: str, items: dict[Any, Any]
    ) -> Iterator[tuple[str, StoredTensor]]:
        """Return the names, with a prefix, and the tensors in a dict.

        A weight or a bias that is something else than a tensor becomes one that cannot be used if
        the dict also contains tensors. Without it, the network could seem to have no such bias.
        """
        self._count(entry_count=len(items))
        has_tensors = False
        others: list[str] = []
        for key, entry in items.items():
            if isinstance(key, str) and len(prefix) + len(key) <= _MAX_NAME_LENGTH:
                name = f"{prefix}{key}"
                tensor = self._find_tensor(entry)
                if tensor is not None:
                    has_tensors = True
                    self._count(tensor_count=1)
                    yield name, tensor
                elif entry is not None and name.endswith(_WEIGHT_NAMES):
                    others.append(name)
        for name in others if has_tensors else ():
            self._count(tensor_count=1)
            yield name, make_unusable_tensor("is not a tensor")

    def _collect_parameters(self, module: PickledObject) -> Iterator[tuple[str, StoredTensor]]:
        """Return the names and tensors in the state dict of a pickled module."""
        stack: list[tuple[str, Any]] = [("", module)]
        count = 0
        while stack:
            prefix, current = stack.pop()
            count += 1
            self._count(entry_count=1)
            if count > _MAX_MODULES or not is_module(current):
                continue
            names_not_saved = current.state.get("_non_persistent_buffers_set") or ()
            for kind in ("_parameters", "_buffers"):
                for name, tensor in self._collect_items(prefix, dict(current.state[kind])):
                    if name.removeprefix(prefix) not in names_not_saved:
                        yield name, tensor
            children = dict(current.state["_modules"])
            if "_packed_params" in children:  # a layer of torch.ao.nn.quantized
                yield f"{prefix}_packed_params", make_quantized_tensor()
            self._count(entry_count=len(children))
            stack.extend(
                (f"{prefix}{name}.", child)
                for name, child in reversed(children.items())
                if isinstance(name, str) and len(prefix) + len(name) <= _MAX_NAME_LENGTH
            )

    def _find_tensor(self, value: Any) -> StoredTensor | None:
        is_stored = isinstance(value, StoredTensor)
        return value if is_stored else make_stored_tensor(value, self._read_storage)

    def _count(self, *, entry_count: int = 0, tensor_count: int = 0) -> None:
        """Count entries or tensors; raise ValueError if there are too many of them so far."""
        self._entry_count += entry_count
        self._tensor_count += tensor_count
        if self._entry_count > MAX_ENTRIES or self._tensor_count > MAX_TENSORS:
            raise ValueError("it has too many tensors, modules or settings")
