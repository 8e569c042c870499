"""Reading of files in safetensors format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyvit.errors import CheckpointError, MissingDependencyError
from tinyvit.files.regular_files import open_regular_file, read_bounded
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import make_loaded_tensor
from tinyvit.nn.checkpoints.tensor_files.torch_files import MAX_BYTES, FileContent
from tinyvit.serialization import parse_json

_LENGTH_BYTES = 8
"""Size of the number at the beginning of a file, which is the size of the header in bytes."""

_MAX_HEADER_BYTES = 16 * 2**20
"""Largest header of a file in safetensors format: names, shapes and metadata. That of a TinyViT has
0.1 MB, to which class labels can add a few."""


def read_safetensors(path: Path) -> tuple[FileContent, dict[str, Any]]:
    """Read a file in safetensors format.

    Args:
        path: The file.

    Returns:
        The tensors by name, and the metadata, in which texts in JSON are parsed.

    Raises:
        CheckpointError: The file is damaged or too large.
        MissingDependencyError: safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise MissingDependencyError.for_package("safetensors", extra="export") from error

    _check_safetensors_header(path)
    try:
        # The file is read, because the process would be ended by SIGBUS if it became shorter while
        # it is mapped into memory.
        file_bytes = read_bounded(path, MAX_BYTES)
        # `load` returns the tensors in any order.
        tensors = sorted(load(file_bytes).items())
        content = {name: make_loaded_tensor(tensor) for name, tensor in tensors}
        metadata = _read_metadata(file_bytes)
    # safetensors raises KeyError for a data type that torch does not have.
    except (
        *(SafetensorError, ValueError, KeyError, AssertionError),
        *(RuntimeError, MemoryError, OSError),
    ) as error:
        raise CheckpointError(
            f"{path} is a damaged or truncated safetensors file ({error})", "download it again"
        ) from error
    return FileContent(content, read_no_storage), metadata


def _check_safetensors_header(path: Path) -> None:
    """Raise CheckpointError if the header of a file in safetensors format is too large."""
    with open_regular_file(path) as file:
        header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise CheckpointError(
            f"the header of {path} has {header_bytes >> 20} MiB, more than"
            f" {_MAX_HEADER_BYTES >> 20}",
            "the file is damaged: download it again",
        )


def _read_metadata(file_bytes: bytes) -> dict[str, Any]:
    """Read the metadata of a file whose header safetensors has accepted."""
    header_end = _LENGTH_BYTES + int.from_bytes(file_bytes[:_LENGTH_BYTES], "little")
    header: dict[str, Any] = json.loads(file_bytes[_LENGTH_BYTES:header_end])
    return _parse_metadata(header.get("__metadata__") or {})


def read_no_storage(key: str) -> bytes:
    """Raise ValueError: tensors that are already in memory refer to no storage in a file.

    Args:
        key: Name of a storage.
    """
    raise ValueError(f"no storage {key}")


def _parse_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Parse those values of safetensors metadata that are JSON. All values are strings."""
    parsed: dict[str, Any] = {}
    for key, text in metadata.items():
        try:
            parsed[key] = parse_json(text)
        except ValueError:
            parsed[key] = text
    return parsed
