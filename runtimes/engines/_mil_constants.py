"""Reads the types and constants of a Core ML program from coremltools' protobuf messages.

Sources: coremltools' mlmodel/format/MIL.proto for the messages, and its
mlmodel/src/MILBlob/Blob/StorageFormat.hpp for weight files.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tinyvit.files.regular_files import read_bounded
from tinyvit.runtimes.engines._mil_types import (
    MAX_PROGRAM_ELEMENTS,
    MAX_TENSOR_ELEMENTS,
    Array,
)
from tinyvit.runtimes.formats import MAX_FILE_BYTES
from tinyvit.runtimes.formats.coreml import is_hidden

_STRING = "str"
"""Type name of a string, which numpy calls "str" too."""

_DTYPES = {
    1: "bool",
    2: _STRING,
    10: "float16",
    11: "float32",
    12: "float64",
    21: "int8",
    22: "int16",
    23: "int32",
    24: "int64",
    31: "uint8",
    32: "uint16",
    33: "uint32",
    34: "uint64",
}
"""Maps a DataType of MIL.proto to numpy's name of the dtype."""

_BLOB_DTYPES = {
    1: "float16",
    2: "float32",
    3: "uint8",
    4: "int8",
    6: "int16",
    7: "uint16",
    14: "int32",
    15: "uint32",
}
"""Maps a BlobDataType of StorageFormat.hpp to numpy's name of the dtype."""

_BLOB_SENTINEL = 0xDEADBEEF
"""The number with which every blob_metadata begins."""

_BLOB_METADATA = struct.Struct("<IIQQ")
"""The struct blob_metadata of StorageFormat.hpp: sentinel, data type, size in bytes, offset."""


class ConstantReader:
    """Reads shapes and constants of one program, and limits the size of each and of all together.

    Every method raises ValueError if the file is damaged or a limit is exceeded.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare for reading; no file is opened yet.

        Args:
            folder: The folder of the model file. The program names its weight files relative to
                this folder.
        """
        self._folder = folder
        self._total_elements = 0
        self._weight_files: dict[str, Array] = {}

    def read_type(self, value_type: Any) -> tuple[tuple[int, ...], str]:
        """Read the type of a tensor, and add the tensor's size to the total size of the program.

        Args:
            value_type: A ValueType message.

        Returns:
            The shape and numpy's name of the dtype, "str" for a string.
        """
        if value_type.WhichOneof("type") != "tensorType":
            raise ValueError("a value is not a tensor")
        tensor_type = value_type.tensorType
        if tensor_type.dataType not in _DTYPES:
            raise ValueError(f"a tensor has the unknown data type {tensor_type.dataType}")
        dimensions = tensor_type.dimensions
        has_fixed_shape = all(
            dimension.WhichOneof("dimension") == "constant" for dimension in dimensions
        )
        if not has_fixed_shape:
            raise ValueError("a tensor has no fixed shape")
        shape = tuple(int(dimension.constant.size) for dimension in dimensions)
        self._total_elements += prod(shape)
        if prod(shape) > MAX_TENSOR_ELEMENTS or self._total_elements > MAX_PROGRAM_ELEMENTS:
            raise ValueError(f"a tensor of shape {shape} is too large")
        return shape, _DTYPES[tensor_type.dataType]

    def read_value(self, value: Any) -> Any:
        """Read a constant.

        Args:
            value: A Value message.

        Returns:
            A read-only array of the declared shape and type, or a string.
        """
        shape, dtype = self.read_type(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            return self._read_weights(value.blobFileValue, shape, dtype)
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        values = getattr(tensor, kind).values if kind else b""
        if dtype == _STRING:
            if kind != "strings" or len(values) != 1:
                raise ValueError("a constant that is declared as a string has no string")
            return str(values[0])
        # `values` is the array's memory as bytes (empty if there are none), or a list of numbers.
        is_memory = kind == "bytes" or not kind
        array = np.frombuffer(values, dtype) if is_memory else np.array(values, dtype)
        if array.size != prod(shape):
            raise ValueError(f"a constant of shape {shape} has {array.size} numbers")
        return array.reshape(shape)

    def _read_weights(self, blob: Any, shape: tuple[int, ...], dtype: str) -> Array:
        """Read one tensor of a weight file; the tensor's metadata begins at `blob.offset`."""
        name, data = blob.fileName, self._open_weight_file(blob.fileName)
        if blob.offset + _BLOB_METADATA.size > data.size:
            raise ValueError(f"{name} ends before the tensor that is declared at {blob.offset}")
        metadata = data[blob.offset : blob.offset + _BLOB_METADATA.size].tobytes()
        sentinel, blob_dtype, size_bytes, start = _BLOB_METADATA.unpack(metadata)
        if sentinel != _BLOB_SENTINEL or _BLOB_DTYPES.get(blob_dtype) != dtype:
            raise ValueError(f"{name} has no {dtype} tensor at byte {blob.offset}")
        expected_bytes = prod(shape) * np.dtype(dtype).itemsize
        if size_bytes != expected_bytes:
            raise ValueError(f"{name} has a tensor of another shape at byte {blob.offset}")
        if start + size_bytes > data.size:
            raise ValueError(f"{name} ends before the tensor at byte {blob.offset} does")
        return data[start : start + size_bytes].view(dtype).reshape(shape)

    def _open_weight_file(self, name: str) -> Array:
        """Read a weight file as bytes; it must be inside the model's folder, and not hidden."""
        if name not in self._weight_files:
            relative = PurePosixPath(name.removeprefix("@model_path/"))
            file = self._folder / relative
            is_inside_folder = (
                not relative.is_absolute()
                and not is_hidden(relative)
                and file.is_file()
                and self._folder.resolve() in file.resolve().parents
            )
            if not is_inside_folder:
                raise ValueError(f"the package has no weight file called {relative}")
            # A file that is mapped into memory and becomes shorter ends the process (SIGBUS).
            data = read_bounded(file, MAX_FILE_BYTES)
            self._weight_files[name] = np.frombuffer(data, np.uint8)
        return self._weight_files[name]
