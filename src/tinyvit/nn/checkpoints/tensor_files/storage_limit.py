"""Limits how many bytes of storages are read from one checkpoint file."""

from __future__ import annotations

from collections.abc import Callable

from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import ReadStorage


def limit_reading(
    read_storage: ReadStorage, max_bytes: int, make_error: Callable[[str], CheckpointError]
) -> ReadStorage:
    """Return a function that reads storages, remembers the last one, and counts their bytes.

    Without the limit, a small file could state tensors that alternate between two storages, each of
    which is packed and takes long to read.

    Args:
        read_storage: Returns the bytes of a storage.
        max_bytes: Largest size of all storages that are read, in bytes. A storage counts again if
            another one was read in between.
        make_error: Makes the error for more bytes from its reason, a clause.

    Returns:
        The function, which raises that error.
    """
    last: list[tuple[str, bytes]] = []
    remaining_bytes = max_bytes

    def read(key: str) -> bytes:
        nonlocal remaining_bytes
        if not last or last[0][0] != key:
            last.clear()
            content = read_storage(key)
            remaining_bytes -= len(content)
            if remaining_bytes < 0:
                raise make_error(f"reading its tensors needs more than {max_bytes >> 20} MiB")
            last.append((key, content))
        return last[0][1]

    return read
