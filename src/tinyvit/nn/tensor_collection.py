"""Collection of the tensors in a dict or in a pickled module, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinyvit.nn.pickle_records import PickledObject
from tinyvit.nn.stored_tensors import (
    ReadStorage,
    StoredTensor,
    make_quantized_tensor,
    make_stored_tensor,
)

_MAX_MODULES = 20_000
"""At most this number of modules inside a pickled module are searched."""


def is_module(value: Any) -> bool:
    """Return whether a record is a torch.nn.Module, by its attributes."""
    state = value.state if isinstance(value, PickledObject) else None
    return isinstance(state, dict) and {"_parameters", "_buffers", "_modules"} <= state.keys()


def collect_tensors(value: Any, read_storage: ReadStorage) -> dict[str, StoredTensor]:
    """Return the tensors in a dict, or the parameters and buffers of a module, by name.

    Args:
        value: A record of a pickle, or a dict of stored tensors.
        read_storage: Returns the bytes of a storage.

    Returns:
        The tensors; {} if the value is something else.

    Raises:
        ValueError: The record of a tensor is damaged.
    """
    if is_module(value):
        return dict(_collect_parameters(value, read_storage))
    items = value.items if isinstance(value, PickledObject) else value
    if not isinstance(items, dict):
        return {}
    return {
        str(key): tensor
        for key, entry in items.items()
        if isinstance(key, str) and (tensor := _find_tensor(entry, read_storage)) is not None
    }


def _find_tensor(value: Any, read_storage: ReadStorage) -> StoredTensor | None:
    return value if isinstance(value, StoredTensor) else make_stored_tensor(value, read_storage)


def _collect_parameters(
    module: PickledObject, read_storage: ReadStorage
) -> Iterator[tuple[str, StoredTensor]]:
    """Return the names and tensors in the state dict of a pickled module."""
    stack = [("", module)]
    count = 0
    while stack:
        prefix, current = stack.pop()
        count += 1
        if count > _MAX_MODULES or not is_module(current):
            continue
        names_not_saved = current.state.get("_non_persistent_buffers_set") or ()
        for kind in ("_parameters", "_buffers"):
            for name, value in dict(current.state[kind]).items():
                tensor = _find_tensor(value, read_storage)
                if tensor is not None and name not in names_not_saved:
                    yield f"{prefix}{name}", tensor
        children = dict(current.state["_modules"]).items()
        if "_packed_params" in dict(children):  # a layer of torch.ao.nn.quantized
            yield f"{prefix}_packed_params", make_quantized_tensor()
        stack.extend((f"{prefix}{name}.", child) for name, child in reversed(children))
