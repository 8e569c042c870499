"""Reading of files in safetensors format.

Such a file is the length of a header (8 bytes), the header in JSON, and the values of the tensors
(https://github.com/huggingface/safetensors, "Format"). The package safetensors maps the file into
memory, so that the process would end with SIGBUS if the file became shorter meanwhile, as during a
download. Here, the values of each tensor are read when they are needed.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyvit.errors import CheckpointError
from tinyvit.nn.stored_tensors import StoredTensor, make_file_tensor, make_unusable_tensor
from tinyvit.nn.strided_copy import copy_strided
from tinyvit.nn.torch_files import FileContent
from tinyvit.regular_files import open_regular_file
from tinyvit.serialization import parse_json

_MAX_HEADER_BYTES = 16 * 2**20
"""Largest header of a file in safetensors format: names, shapes and metadata. That of a TinyViT has
0.1 MB, to which class labels can add a few."""

_METADATA = "__metadata__"
"""The key of the header that is not the name of a tensor."""

_MAX_DIMENSIONS = 8

_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
}
"""Type of the elements, by its name in the header. Tensors of other types cannot be used."""


def read_safetensors(path: Path) -> tuple[FileContent, dict[str, Any]]:
    """Read a file in safetensors format.

    Args:
        path: The file.

    Returns:
        The tensors by name, and the metadata, in which texts in JSON are parsed.

    Raises:
        CheckpointError: The file is damaged or too large.
    """
    try:
        with open_regular_file(path) as file:
            header = _read_header(file, path)
            start = file.tell()
            data_bytes = os.fstat(file.fileno()).st_size - start
        metadata = _parse_metadata(header.pop(_METADATA, None) or {})
        _require_full_coverage(header, data_bytes)
        content = {name: _make_tensor(entry, path, start) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise CheckpointError(
            f"{path} is a damaged or truncated safetensors file ({error})", "download it again"
        ) from error
    return FileContent(content, read_no_storage), metadata


def _read_header(file: io.BufferedReader, path: Path) -> dict[str, Any]:
    """Read the header from the beginning of a file; raise ValueError if it is damaged."""
    header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise CheckpointError(
            f"the header of {path} has {header_bytes >> 20} MiB, more than"
            f" {_MAX_HEADER_BYTES >> 20}",
            "the file is damaged: download it again",
        )
    content = file.read(header_bytes)
    if len(content) < header_bytes:
        raise ValueError("its header is not complete")
    header = parse_json(content)
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    return header


def _require_full_coverage(header: Mapping[str, Any], data_bytes: int) -> None:
    """Raise ValueError unless the tensors follow each other from the header to the end of the file.

    KeyError and TypeError are raised for a header of another form.
    """
    end = 0
    for start, tensor_end in sorted(_read_offsets(entry) for entry in header.values()):
        if start != end:
            raise ValueError("its tensors do not follow each other")
        end = tensor_end
    if end != data_bytes:
        raise ValueError(f"its tensors have {end} bytes, but {data_bytes} follow the header")


def _read_offsets(entry: Mapping[str, Any]) -> tuple[int, int]:
    """Return where the values of a tensor begin and end, in bytes after the header."""
    start, end = entry["data_offsets"]
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        raise ValueError("the offsets of a tensor are not possible")
    return start, end


def _make_tensor(entry: Mapping[str, Any], path: Path, data_start: int) -> StoredTensor:
    """Make a tensor from its entry in the header.

    Args:
        entry: The type, the shape and the offsets of the tensor.
        path: The file.
        data_start: Position of the first byte after the header.
    """
    shape = entry["shape"]
    is_shape = isinstance(shape, list) and len(shape) <= _MAX_DIMENSIONS
    if not is_shape or any(type(size) is not int or not 0 <= size < 2**40 for size in shape):
        raise ValueError("the shape of a tensor is not possible")
    name = entry["dtype"]
    if not isinstance(name, str) or name not in _TYPES:
        return make_unusable_tensor(f"has elements of the type {str(name)[:20]}")
    start, end = _read_offsets(entry)
    dtype = _TYPES[name]
    if end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("a tensor has another size than its shape")
    load = partial(_load, path, data_start + start, tuple(shape), dtype)
    return make_file_tensor(tuple(shape), dtype, load)


def _load(path: Path, start: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Read the values of a tensor, which begin at a position of the file."""
    size_bytes = math.prod(shape) * dtype.itemsize
    try:
        with open_regular_file(path) as file:
            file.seek(start)
            content = file.read(size_bytes)
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from error
    if len(content) < size_bytes:
        raise ValueError("the file has become shorter")
    strides = tuple(math.prod(shape[index + 1 :]) for index in range(len(shape)))
    return copy_strided(content, 0, (shape, strides), dtype)


def read_no_storage(key: str) -> bytes:
    """Raise ValueError: the tensors of such files refer to no storage of torch.

    Args:
        key: Name of a storage.
    """
    raise ValueError(f"no storage {key}")


def _parse_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Parse those values of safetensors metadata that are JSON. All values are strings."""
    parsed: dict[str, Any] = {}
    if not isinstance(metadata, dict) or not all(isinstance(x, str) for x in metadata.values()):
        raise ValueError("its metadata are not texts")
    for key, text in metadata.items():
        try:
            parsed[key] = parse_json(text)
        except ValueError:
            parsed[key] = text
    return parsed
