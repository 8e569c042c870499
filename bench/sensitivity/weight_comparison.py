"""Compares the integer weights of an int8 .onnx artifact with those of a float32 network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.bench.onnx_protobuf import ELEMENT_TYPES
from tinyvit.bench.sensitivity.onnx_units import OnnxUnit

_MAX_ERROR = 1.5
"""Largest difference of a weight from its integer value, in steps of the integers. Rounding causes
at most 0.5; the rest allows for scales that were stored with less precision."""


def has_same_weights(graph: Any, unit: OnnxUnit, weights: npt.NDArray[np.float32]) -> bool:
    """Return whether the integers of a unit are the rounded weights of a float32 layer.

    They are not if the export has equalized the layer
    (`tinyvit.quant.channel_ranges.equalization`), or if the float32 network is another one. The
    largest integers of an output channel are not compared, because they may stand for weights that
    were clipped.

    Args:
        graph: A Graph message of `onnx_protobuf.parse_model`.
        unit: A unit of the graph.
        weights: The float32 weights, of the shape of the integers, with the output channels first.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes = (graph.node[index] for index in unit.nodes)
    dequantizer = next(node for node in nodes if node.input[0] == unit.weight)
    integers = _read(tensors, unit.weight, "int8")
    scales = _read(tensors, dequantizer.input[1], "float32")
    if integers is None or scales is None or integers.size != weights.size:
        return False
    if len(scales) not in (1, len(weights)):
        return False
    rows = integers.reshape(len(weights), -1).astype(np.float64)
    steps = scales.astype(np.float64)[:, None]
    errors = np.abs(weights.reshape(rows.shape) - rows * steps)
    magnitudes = np.abs(rows)
    may_be_clipped = magnitudes == magnitudes.max(axis=1, keepdims=True)
    return bool(np.all((errors <= _MAX_ERROR * steps) | may_be_clipped))


def _read(tensors: Mapping[str, Any], name: str, dtype: str) -> npt.NDArray[Any] | None:
    """Return the values of an initializer, one-dimensional; None if it has another data type."""
    tensor = tensors.get(name)
    item_bytes = np.dtype(dtype).itemsize
    if tensor is None or tensor.data_type != ELEMENT_TYPES[dtype]:
        return None
    if not tensor.raw_data or len(tensor.raw_data) % item_bytes:
        return None
    return np.frombuffer(tensor.raw_data, np.dtype(dtype).newbyteorder("<"))
