"""Reads NumPy arrays and types from the records of a pickle."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyvit.nn.pickle_records import PickledObject


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
    if record.name != "numpy.dtype" or not isinstance(code, str) or code[:1] not in "?biufUS":
        return None
    state = record.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    return np.dtype(code).newbyteorder(">" if order in (">", b">") else "<")
