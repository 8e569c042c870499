"""Writes and reads the state of unfinished work, such as a training run, to continue it later."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tinyvit.files.file_io import write_atomically
from tinyvit.files.regular_files import open_regular_file
from tinyvit.nn.checkpoints.pickles.records import PickledObject
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import ReadStorage, make_stored_tensor
from tinyvit.nn.checkpoints.tensor_files.torch_files import read_torch_file

_MAX_DEPTH = 16
"""Largest depth to which containers in a state may be nested. The state of a training needs 5."""

_MAX_ENTRIES = 1_000_000
"""Largest number of entries of all containers in a state. A training has a few thousand."""

_MAX_EXPANSION = 2
"""Largest size of all tensors together, relative to that of the file, which is not packed."""


def write_state_file(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state with `torch.save`, completely or not at all.

    Args:
        path: The file to write or replace.
        state: Tensors, numbers and containers of them, by name.

    Raises:
        OSError: The file cannot be written, for example on a full disk.
    """
    # Written by Python, because torch.save raises RuntimeError instead of OSError on a full disk.
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(path, content.getvalue())


def read_state_file(path: Path) -> dict[Any, Any]:
    """Read a state that `write_state_file` wrote, from a folder that may be a stranger's.

    `torch.load` would allocate whatever sizes the file states. This function checks them, and
    executes nothing.

    Args:
        path: The file.

    Returns:
        The state: dicts, lists, tuples, numbers, texts and tensors on the CPU. Subclasses of dict
        become dicts.

    Raises:
        OSError: The file cannot be read, or is a pipe or a device.
        CheckpointError: The file is damaged, too large, or an attack.
        ValueError: The state has other values, too many, or nested too deeply.
    """
    open_regular_file(path).close()
    content = read_torch_file(path, is_zip=True)
    restorer = _Restorer(content.read_storage, _MAX_EXPANSION * os.path.getsize(path))
    state = restorer.restore(content.root, 0)
    if not isinstance(state, dict):
        raise ValueError("it is not a dict")
    return state


class _Restorer:
    """Makes plain values and tensors from the records of a pickle, and counts them."""

    def __init__(self, read_storage: ReadStorage, max_bytes: int) -> None:
        self._read_storage = read_storage
        self._remaining_bytes = max_bytes
        self._remaining_entries = _MAX_ENTRIES

    def restore(self, value: Any, depth: int) -> Any:
        """Restore a value at this depth of nesting."""
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        if isinstance(value, PickledObject):
            return self._restore_tensor(value)
        if depth >= _MAX_DEPTH or not isinstance(value, (dict, list, tuple)):
            raise ValueError("it has other values than a state, or is nested too deeply")
        self._remaining_entries -= len(value)
        if self._remaining_entries < 0:
            raise ValueError("it has too many values")
        if isinstance(value, dict):
            return {key: self.restore(entry, depth + 1) for key, entry in value.items()}
        return type(value)(self.restore(entry, depth + 1) for entry in value)

    def _restore_tensor(self, record: PickledObject) -> torch.Tensor:
        """Convert a record to a tensor; raise ValueError if it is none, or is too large."""
        tensor = make_stored_tensor(record, self._read_storage)
        if tensor is None or tensor.problem:
            raise ValueError(f"it has an object of the class {record.name[:100]}")
        # At most 8 bytes for each element, before they are read.
        if math.prod(tensor.shape) > self._remaining_bytes:
            raise ValueError("its tensors are larger than the file")
        values = tensor.load()
        self._remaining_bytes -= values.nbytes
        if self._remaining_bytes < 0:
            raise ValueError("its tensors are larger than the file")
        return values
