"""Finds the units of an int8 .onnx artifact: its layers with integer weights.

In a file of tinyvit-export, the weights of a unit are the initializer "<unit>.weight", or
"<unit>.0.weight" if the unit's output is quantized too. A unit consists of these nodes:

    QuantizeLinear -> DequantizeLinear      of the input, which several units may share
    DequantizeLinear                        of the weights, and of the bias if it is int32
    Conv or Gemm
    QuantizeLinear -> DequantizeLinear      of the output, of some convolutions

Units whose activations stay float32 have only the dequantized weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyvit.errors import RequestError

_LAYER_OPERATORS = ("Conv", "Gemm")
"""Operators of layers."""
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_WEIGHT_SUFFIX = ".weight"
_OUTPUT_QUANTIZER_SUFFIX = ".0"
"""End of a unit's name in the file, in front of ".weight", if the unit's output is quantized."""


@dataclass(frozen=True)
class OnnxUnit:
    """A unit of an int8 graph.

    Attributes:
        name: Name of the unit.
        weight: Name of the initializer that contains the integer weights.
        layer: Index of the Conv or Gemm node in the graph.
        nodes: Indices of all nodes of the unit, in the order of the graph.
        source: Name of the tensor that the unit takes, before it is quantized.
        output: Name of the tensor that the unit returns.
        has_bias: Whether the layer has a bias.
    """

    name: str
    weight: str
    layer: int
    nodes: tuple[int, ...]
    source: str
    output: str
    has_bias: bool


def find_units(graph: Any, file_name: str) -> list[OnnxUnit]:
    """Find the units of a graph.

    Args:
        graph: A Graph message of `onnx_protobuf.parse_model`.
        file_name: Name of the file, for error messages.

    Returns:
        The units, in the order of the graph.

    Raises:
        RequestError: The graph has no units, or quantized tensors that belong to no unit, so that
            tinyvit-export did not write it.
    """
    finder = _UnitFinder(graph.node, {tensor.name for tensor in graph.initializer})
    units = [unit for unit in map(finder.find, range(len(graph.node))) if unit is not None]
    covered = {index for unit in units for index in unit.nodes}
    quantizers = {i for i, node in enumerate(graph.node) if node.op_type in _QUANTIZERS}
    if not units or not quantizers <= covered or len({unit.name for unit in units}) < len(units):
        raise RequestError(
            f"{file_name} is not quantized as tinyvit-export quantizes .onnx files:"
            f" {len(units)} layers have integer weights, and {len(quantizers - covered)} nodes"
            " quantize or dequantize tensors outside of these layers",
            "give an int8 .onnx file that tinyvit-export wrote",
        )
    return units


class _UnitFinder:
    """Finds the unit that a node of a graph belongs to."""

    def __init__(self, nodes: Sequence[Any], initializers: set[str]) -> None:
        """Index the nodes by the tensors that they compute and take."""
        self._nodes = nodes
        self._initializers = initializers
        self._producers: Mapping[str, int] = {
            name: index for index, node in enumerate(nodes) for name in node.output
        }
        self._consumer_counts = Counter(name for node in nodes for name in node.input)
        self._consumers: Mapping[str, int] = {
            name: index for index, node in enumerate(nodes) for name in node.input
        }

    def find(self, index: int) -> OnnxUnit | None:
        """Return the unit whose layer is the node of an index; None if that is no such layer."""
        layer = self._nodes[index]
        if layer.op_type not in _LAYER_OPERATORS or len(layer.input) < 2:
            return None
        dequantizer = self._find_producer(layer.input[1], "DequantizeLinear")
        if dequantizer is None:
            return None
        weight = self._nodes[dequantizer].input[0]
        if weight not in self._initializers or not weight.endswith(_WEIGHT_SUFFIX):
            return None
        source, input_nodes = self._find_source(layer.input[0])
        has_bias = len(layer.input) > 2 and bool(layer.input[2])
        bias = self._find_producer(layer.input[2], "DequantizeLinear") if has_bias else None
        output, output_nodes = self._find_output(layer)
        nodes = {dequantizer, index, *input_nodes, *output_nodes}
        if bias is not None:
            nodes.add(bias)
        name = weight.removesuffix(_WEIGHT_SUFFIX).removesuffix(_OUTPUT_QUANTIZER_SUFFIX)
        return OnnxUnit(name, weight, index, tuple(sorted(nodes)), source, output, has_bias)

    def _find_producer(self, tensor: str, op_type: str) -> int | None:
        """Return the index of the node that computes a tensor, if it has a certain operator."""
        index = self._producers.get(tensor)
        return index if index is not None and self._nodes[index].op_type == op_type else None

    def _find_source(self, tensor: str) -> tuple[str, tuple[int, ...]]:
        """Return the tensor before it is quantized, and the nodes that quantize it."""
        dequantizer = self._find_producer(tensor, "DequantizeLinear")
        if dequantizer is None:
            return tensor, ()
        quantizer = self._find_producer(self._nodes[dequantizer].input[0], "QuantizeLinear")
        if quantizer is None:
            return tensor, ()
        return self._nodes[quantizer].input[0], (quantizer, dequantizer)

    def _find_output(self, layer: Any) -> tuple[str, tuple[int, ...]]:
        """Return the output of the unit of a layer, and the nodes that quantize it.

        If the dequantized output is the input of another layer, these nodes belong to that layer.
        """
        output = layer.output[0]
        quantizer = self._find_only_consumer(output, "QuantizeLinear")
        if quantizer is None:
            return output, ()
        dequantizer = self._find_only_consumer(self._nodes[quantizer].output[0], "DequantizeLinear")
        if dequantizer is None:
            return output, ()
        dequantized = self._nodes[dequantizer].output[0]
        if any(
            node.op_type in _LAYER_OPERATORS and node.input[0] == dequantized
            for node in self._nodes
        ):
            return output, ()
        return dequantized, (quantizer, dequantizer)

    def _find_only_consumer(self, tensor: str, op_type: str) -> int | None:
        """Return the index of the only node that takes a tensor, if it has a certain operator."""
        if self._consumer_counts[tensor] != 1:
            return None
        index = self._consumers[tensor]
        return index if self._nodes[index].op_type == op_type else None
