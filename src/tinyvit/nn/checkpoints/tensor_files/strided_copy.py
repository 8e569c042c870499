"""Copying of tensors out of the bytes of their storages."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from torch import Tensor

_MAX_REPEATED_BYTES = 2**20
"""Largest size in bytes of a tensor that has more elements than its storage (after `expand`)."""

_MAX_SIZE_PRODUCT = 2**40
"""Largest product of the sizes of an empty tensor that are not 0."""


def copy_strided(
    content: bytes,
    start: int,
    geometry: tuple[tuple[int, ...], tuple[int, ...]],
    dtype: torch.dtype,
) -> Tensor:
    """Copy a tensor out of the bytes of a storage.

    Args:
        content: The bytes.
        start: Position of the first element, in elements.
        geometry: Shape, and step in elements for each dimension.
        dtype: Type of the elements.

    Returns:
        A contiguous tensor, which does not keep the storage in memory.

    Raises:
        ValueError: The tensor is not within its storage, has many more elements, or is empty with
            sizes that no computation needs.
    """
    shape, strides = geometry
    if start < 0 or min((*shape, *strides), default=0) < 0:
        raise ValueError("a tensor begins before its storage")
    if 0 in shape:
        # torch and NumPy multiply the other sizes too, which must not overflow.
        if math.prod(filter(None, shape)) > _MAX_SIZE_PRODUCT:
            raise ValueError("an empty tensor has an impossible shape")
        return torch.zeros(shape, dtype=dtype)
    last = start + sum((side - 1) * step for side, step in zip(shape, strides))
    if (last + 1) * dtype.itemsize > len(content):
        raise ValueError("a tensor is larger than its storage")
    # With a step of 0, one stored element can stand for any number of elements.
    if math.prod(shape) * dtype.itemsize > max(len(content), _MAX_REPEATED_BYTES):
        raise ValueError("a tensor has many more elements than its storage")
    # NumPy has no bfloat16, but only the size of the elements matters here.
    array_type = np.dtype("c16" if dtype.itemsize == 16 else f"i{dtype.itemsize}")
    elements = np.frombuffer(content, array_type, count=last + 1)
    steps = [step * dtype.itemsize for step in strides]
    return torch.from_numpy(as_strided(elements[start:], shape, steps).copy()).view(dtype)
