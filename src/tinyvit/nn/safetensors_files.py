"""Reading of files in safetensors format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyvit.errors import CheckpointError, MissingDependencyError
from tinyvit.nn.stored_tensors import make_loaded_tensor
from tinyvit.nn.torch_files import FileContent
from tinyvit.regular_files import open_regular_file
from tinyvit.serialization import parse_json

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
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingDependencyError.for_package("safetensors", extra="export") from error

    _check_safetensors_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            content = {name: make_loaded_tensor(file.get_tensor(name)) for name in names}
            metadata = _parse_metadata(file.metadata() or {})
    except (SafetensorError, ValueError, RuntimeError, MemoryError, OSError) as error:
        raise CheckpointError(
            f"{path} is a damaged or truncated safetensors file ({error})", "download it again"
        ) from error
    return FileContent(content, read_no_storage), metadata


def _check_safetensors_header(path: Path) -> None:
    """Raise CheckpointError if the header of a file in safetensors format is too large."""
    with open_regular_file(path) as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise CheckpointError(
            f"the header of {path} has {header_bytes >> 20} MiB, more than"
            f" {_MAX_HEADER_BYTES >> 20}",
            "the file is damaged: download it again",
        )


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
