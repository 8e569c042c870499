"""Tensors that are still in a file: their shapes are known, but their values are not read yet.

`make_stored_tensor` turns the records of a pickle (see `tinyvit.nn.checkpoints.pickles.records`)
into stored tensors. The functions of torch that such records name are not called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tinyvit.nn.checkpoints.pickles.numpy_records import read_array
from tinyvit.nn.checkpoints.pickles.records import (
    PickledName,
    PickledObject,
    StoredStorage,
    read_attributes,
)
from tinyvit.nn.checkpoints.tensor_files.strided_copy import copy_strided

ReadStorage = Callable[[str], bytes]
"""A function that returns the bytes of the storage with this key."""

_MAX_DIMENSIONS = 8

_STORAGE_TYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
"""Type of the elements, by the name of the class of a storage."""

_USABLE_TYPES = frozenset((*_STORAGE_TYPES.values(), torch.float8_e4m3fn, torch.float8_e5m2)) - {
    torch.complex64,
    torch.complex128,
}
"""Types of elements that torch can convert to float32."""

_QUANTIZED = "is quantized, and an export needs the float weights from before the quantization"


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        shape: Its shape.
        storage_slice: The storage (block of memory in the file) and the part of it that the tensor
            is. Two tensors with equal values of this attribute are the same; None if unknown.
        load: Reads and returns the values; raises ValueError if they are damaged or cannot be used.
        problem: Why the values cannot be used, as the end of a sentence that begins with the name
            of the tensor; "" if they can be used.
        storage_key: Name of the storage that `load` reads; "" if it reads none.
    """

    shape: tuple[int, ...]
    storage_slice: object
    load: Callable[[], Tensor]
    problem: str = ""
    storage_key: str = ""


def make_loaded_tensor(tensor: Tensor) -> StoredTensor:
    """Return a stored tensor whose values are already in memory."""
    problem = _find_type_problem(tensor.dtype)
    return StoredTensor(
        tuple(tensor.shape), storage_slice=None, load=lambda: tensor, problem=problem
    )


def make_stored_tensor(record: Any, read_storage: ReadStorage) -> StoredTensor | None:
    """Convert the record of a tensor.

    Args:
        record: Any value in the tree of records of a pickle.
        read_storage: Returns the bytes of a storage.

    Returns:
        The tensor; None if the value is not the record of a tensor.

    Raises:
        ValueError: The record is damaged.
    """
    if not isinstance(record, PickledObject):
        return None
    try:
        return _make_from_record(record, read_storage)
    # Fields of another type or number than expected, and tensors inside thousands of others.
    except (TypeError, AttributeError, LookupError, OverflowError, RecursionError) as error:
        raise ValueError(f"the record of a tensor is damaged ({type(error).__name__})") from error


def _make_from_record(record: PickledObject, read_storage: ReadStorage) -> StoredTensor | None:
    """Convert the record of an object, which may be a tensor."""
    module, _, function = record.name.rpartition(".")
    args = record.args
    if record.name == "torch._tensor._rebuild_from_type_v2":
        return _make_from_subclass(args, read_storage)
    if module == "torch._utils" and function in _BUILDERS:
        return _BUILDERS[function](args, read_storage)
    if record.name == "torch.nn.parameter.Parameter" and args:
        return make_stored_tensor(args[0], read_storage)
    if record.name in ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"):
        array = read_array(record)
        return _make_from_array(array) if array is not None and array.dtype.kind in "biuf" else None
    if record.name.startswith("torch.distributed.") and function == "ShardedTensor":
        return _make_unusable((), "is only a part (a shard) of a weight")
    return None


def make_quantized_tensor() -> StoredTensor:
    """Return a tensor that cannot be used because it is quantized."""
    return _make_unusable((), _QUANTIZED)


def make_unusable_tensor(problem: str) -> StoredTensor:
    """Return a tensor without a known shape that cannot be used.

    Args:
        problem: Why, as the end of a sentence that begins with the name of the tensor.
    """
    return _make_unusable((), problem)


def _make_from_array(array: np.ndarray[Any, Any]) -> StoredTensor:
    """Convert a NumPy array."""

    def load() -> Tensor:
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))

    return StoredTensor(tuple(array.shape), storage_slice=None, load=load)


def _make_strided(
    storage: Any, offset: Any, geometry: tuple[Any, Any], dtype: Any, read_storage: ReadStorage
) -> StoredTensor:
    """Convert a tensor that is a part of a storage.

    Args:
        storage: Record of the storage.
        offset: Position of the first element in the storage, in elements.
        geometry: Shape, and strides: for each dimension, the number of elements in the storage from
            one index to the next.
        dtype: Type of the elements; None if it is that of the storage.
        read_storage: Returns the bytes of a storage.
    """
    if not isinstance(storage, StoredStorage):
        raise ValueError("a tensor without storage")
    shape, strides = _check_sizes(geometry[0]), _check_sizes(geometry[1])
    (offset,) = _check_sizes((offset,))
    if len(shape) != len(strides):
        raise ValueError("a tensor with a wrong shape")
    name = storage.type_name.rpartition(".")[2]
    dtype = _STORAGE_TYPES.get(name) if dtype is None else dtype
    if dtype is None:
        problem = _QUANTIZED if name.startswith("Q") else f"has elements of type {name}"
        return _make_unusable(shape, problem)

    def load() -> Tensor:
        start = storage.offset + offset
        return copy_strided(read_storage(storage.key), start, (shape, strides), dtype)

    storage_slice = (storage, offset, shape, strides)
    return StoredTensor(shape, storage_slice, load, _find_type_problem(dtype), storage.key)


def _find_type_problem(dtype: torch.dtype) -> str:
    """Return why elements of a type cannot be used, as the end of a sentence; "" if they can."""
    if dtype.is_complex:
        return "has complex numbers"
    name = str(dtype).removeprefix("torch.")
    return "" if dtype in _USABLE_TYPES else f"has elements of the type {name}"


def _check_sizes(sizes: Any) -> tuple[int, ...]:
    """Return the sizes; raise ValueError unless they are up to 8 integers from 0 to 2**40 - 1."""
    is_valid = isinstance(sizes, (tuple, list)) and len(sizes) <= _MAX_DIMENSIONS
    if not is_valid or any(type(size) is not int or not 0 <= size < 2**40 for size in sizes):
        raise ValueError("a tensor with a wrong shape")
    return tuple(sizes)


def _make_unusable(shape: tuple[int, ...], problem: str) -> StoredTensor:
    """Return a tensor whose values cannot be used; `shape` is () if it is not known."""

    def load() -> Tensor:
        raise ValueError(f"a tensor {problem}")

    return StoredTensor(shape, storage_slice=None, load=load, problem=problem)


def _make_from_inner(args: tuple[Any, ...], read_storage: ReadStorage) -> StoredTensor:
    """Convert a parameter or another wrapper, whose first argument is the tensor."""
    inner = make_stored_tensor(args[0], read_storage)
    if inner is None:
        raise ValueError("a parameter without tensor")
    return inner


def _make_from_subclass(args: tuple[Any, ...], read_storage: ReadStorage) -> StoredTensor:
    """Convert a tensor of a subclass.

    Args:
        args: The function that creates the tensor, the subclass, the arguments of the function, and
            the attributes of the tensor.
        read_storage: Returns the bytes of a storage.
    """
    function, subclass, inner_args, state = args
    inner = make_stored_tensor(PickledObject(function.name, inner_args), read_storage)
    if inner is None or function.name == "torch._utils._rebuild_wrapper_subclass":
        return _make_from_wrapper(subclass.name, inner_args, state, read_storage)
    return inner


def _make_from_wrapper(
    name: str, args: tuple[Any, ...], state: Any, read_storage: ReadStorage
) -> StoredTensor:
    """Convert a tensor whose values are in attributes, such as a DTensor.

    Args:
        name: Name of the class of the tensor.
        args: Arguments of `torch._utils._rebuild_wrapper_subclass`; the third is the shape.
        state: Attributes of the tensor.
        read_storage: Returns the bytes of a storage.
    """
    shape = _check_sizes(args[2]) if len(args) > 2 else ()
    if name.endswith(".DTensor"):
        tensor = make_stored_tensor(read_attributes(state).get("_local_tensor"), read_storage)
        # If a DTensor is not split, the local tensor of every process is the whole tensor.
        if tensor is not None and tensor.shape == shape:
            return tensor
        return _make_unusable(shape, "is only a part (a shard of a DTensor) of a weight")
    if any(word in name.lower() for word in ("torchao", "quant", "int8", "int4", "float8")):
        return _make_unusable(shape, _QUANTIZED)
    return _make_unusable(shape, f"has the class {name}")


_BUILDERS: dict[str, Callable[[tuple[Any, ...], ReadStorage], StoredTensor]] = {
    "_rebuild_tensor": lambda a, read: _make_strided(a[0], a[1], (a[2], a[3]), None, read),
    "_rebuild_tensor_v2": lambda a, read: _make_strided(a[0], a[1], (a[2], a[3]), None, read),
    "_rebuild_tensor_v3": lambda a, read: _make_strided(
        a[0], a[1], (a[2], a[3]), _find_dtype(a[6]), read
    ),
    "_rebuild_parameter": _make_from_inner,
    "_rebuild_parameter_with_state": _make_from_inner,
    "_rebuild_device_tensor_from_cpu_tensor": _make_from_inner,
    "_rebuild_device_tensor_from_numpy": _make_from_inner,
    "_rebuild_qtensor": lambda a, read: _make_unusable(_check_sizes(a[2]), _QUANTIZED),
    "_rebuild_sparse_tensor": lambda a, read: _make_unusable((), "is sparse"),
    "_rebuild_nested_tensor": lambda a, read: _make_unusable((), "is a nested tensor"),
    "_rebuild_meta_tensor_no_storage": lambda a, read: _make_unusable((), "has no values (meta)"),
    "_rebuild_wrapper_subclass": lambda a, read: _make_from_wrapper(a[0].name, a, None, read),
}
"""Maps each function of torch._utils that creates a tensor to a function of its arguments `a`. The
arguments of _rebuild_tensor, _v2 and _v3 begin with storage, offset, shape and strides; the seventh
argument of _v3 is the dtype."""


def _find_dtype(record: Any) -> torch.dtype:
    """Return the dtype of torch that a `PickledName` names; raise ValueError for anything else."""
    name = record.name.rpartition(".")[2] if isinstance(record, PickledName) else ""
    # `getattr` would import a module of torch that is not imported yet.
    dtype = vars(torch).get(name)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"a tensor of the unknown type {name}")
    return dtype


def find_item_size(storage: StoredStorage) -> int:
    """Return the size of an element of a storage in bytes.

    The size is also needed for types without an entry in `_STORAGE_TYPES`, although their values
    are not read. These are quantized types: elements of QInt32 have 4 bytes, all others 1 byte.
    """
    dtype = _STORAGE_TYPES.get(storage.type_name.rpartition(".")[2])
    quantized_bytes = 4 if "QInt32" in storage.type_name else 1
    return quantized_bytes if dtype is None else dtype.itemsize
