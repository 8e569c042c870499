"""Reads NumPy arrays and types from the records of a pickle."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tinyvit.nn.checkpoints.pickles.records import PickledObject

_TYPE_CODE = re.compile(r"\?|[biuf][0-9]{1,2}|[US][0-9]{1,9}")
"""Matches the code of a type of numbers or texts: its kind, and its size in bytes or characters."""


def read_array(record: PickledObject) -> np.ndarray[Any, Any] | None:
    """Read a pickled NumPy array.

    Args:
        record: The record of the array.

    Returns:
        The array; None if its elements are neither numbers nor texts.

    Raises:
        ValueError: The record is damaged.
    """
    if not isinstance(record.state, tuple) or len(record.state) != 5:
        return None
    _, shape, dtype_record, is_fortran, data = record.state
    dtype = read_dtype(dtype_record)
    if dtype is None or not isinstance(data, (bytes, str)):
        return None
    content = data.encode("latin-1") if isinstance(data, str) else data
    array = np.frombuffer(content, dtype)
    return array.reshape(shape, order="F" if is_fortran else "C")


def read_dtype(record: Any) -> np.dtype[Any] | None:
    """Read a pickled NumPy dtype; return None if it is not a type of numbers or texts."""
    if not isinstance(record, PickledObject) or not record.args:
        return None
    code = record.args[0]
    code = code.decode() if isinstance(code, bytes) else code
    # NumPy would parse longer codes, such as "f4,(2,3)i4", with Python's parser.
    if record.name != "numpy.dtype" or not isinstance(code, str) or not _TYPE_CODE.fullmatch(code):
        return None
    state = record.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    return np.dtype(code).newbyteorder(">" if order in (">", b">") else "<")
