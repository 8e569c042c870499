"""Makes variants of an int8 ONNX model in which some units are in float32."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.bench.onnx_protobuf import ELEMENT_TYPES, parse_model
from tinyvit.bench.sensitivity.onnx_units import OnnxUnit, find_units
from tinyvit.bench.sensitivity.weight_comparison import has_same_weights
from tinyvit.errors import RequestError

FloatWeights = Mapping[str, npt.NDArray[np.float32]]
"""Name of a parameter in the float32 network, such as "stages.0.blocks.0.conv1.weight" -> its
values."""

_REMEDY = (
    "give the float32 .onnx file or the checkpoint that the int8 file was made from; if it was, the"
    " export has rewritten layers because of outlier channels (docs/lab-notes/int8.md), and only"
    " tinyvit-export --int8 --sensitivity can measure them"
)
_QUANTIZED_ALONE = "quantized alone: "
"""Prefix of the tensors of a unit that is quantized although the rest of the network is not."""
_FLOAT32 = "float32: "
"""Prefix of the initializers that contain weights of the float32 network."""


class Int8Model:
    """An int8 ONNX model, and the float32 weights of its units.

    Attributes:
        units: The units, in the order of the graph.
    """

    def __init__(self, model: bytes, weights: FloatWeights, file_name: str) -> None:
        """Find the units and their float32 weights.

        Args:
            model: A serialized ModelProto.
            weights: The parameters of the float32 network.
            file_name: Name of the file, for error messages.

        Raises:
            ValueError: `model` is not a serialized ModelProto.
            RequestError: tinyvit-export did not write the model, or the float32 network does not
                have the weights of a unit.
        """
        self._message = parse_model(model)
        self._weights = weights
        self.units = find_units(self._message.graph, file_name)
        shapes = {tensor.name: tuple(tensor.dims) for tensor in self._message.graph.initializer}
        for unit in self.units:
            parameter = weights.get(f"{unit.name}.weight")
            has_bias = not unit.has_bias or f"{unit.name}.bias" in weights
            if parameter is None or parameter.shape != shapes[unit.weight] or not has_bias:
                raise RequestError(
                    f"the reference has no weights of shape {shapes[unit.weight]} for the layer"
                    f" {unit.name} of {file_name}",
                    _REMEDY,
                )
            if not has_same_weights(self._message.graph, unit, parameter):
                raise RequestError(
                    f"the weights of the layer {unit.name} of {file_name} are not the rounded"
                    " weights of the reference",
                    _REMEDY,
                )

    def count_weights(self, unit: OnnxUnit) -> int:
        """Return the number of weights per output channel of a unit."""
        return int(np.prod(self._weights[f"{unit.name}.weight"].shape[1:]))

    def restore(self, names: Collection[str]) -> bytes:
        """Return the serialized model with some units in float32.

        Args:
            names: Names of the units.
        """
        restored = {unit.layer: unit for unit in self.units if unit.name in names}

        def emit(index: int, node: Any, graph: Any) -> None:
            if index in restored:
                self._add_float_layer(graph, restored[index])
            elif node.output[0] not in replaced_outputs:
                graph.node.add().CopyFrom(node)

        replaced_outputs = {unit.output for unit in restored.values()}
        return self._rebuild(emit, ())

    def compare_outputs(self) -> tuple[bytes, dict[str, tuple[str, str]]]:
        """Return the float32 network, in which each unit is also computed in int8 beside it.

        Returns:
            The serialized model, and for each unit's name the names of two outputs of the model:
            the unit's output in float32, and its int8 output for the same float32 input.
        """
        units = {unit.layer: unit for unit in self.units}
        replaced_outputs = {unit.output for unit in self.units}

        def emit(index: int, node: Any, graph: Any) -> None:
            if index in units:
                self._add_float_layer(graph, units[index])
                self._add_quantized_copy(graph, units[index])
            elif node.output[0] not in replaced_outputs:
                graph.node.add().CopyFrom(node)

        outputs = {
            unit.name: (unit.output, f"{_QUANTIZED_ALONE}{unit.name}: {unit.output}")
            for unit in self.units
        }
        names = [name for pair in outputs.values() for name in pair]
        return self._rebuild(emit, names), outputs

    def _rebuild(self, emit: Callable[[int, Any, Any], None], outputs: Iterable[str]) -> bytes:
        """Build the graph anew: `emit` adds the nodes that replace each node."""
        message = type(self._message)()
        message.CopyFrom(self._message)
        graph = message.graph
        del graph.node[:]
        for index, node in enumerate(self._message.graph.node):
            emit(index, node, graph)
        existing = {value.name for value in graph.output}
        for name in outputs:
            if name not in existing:
                graph.output.add(name=name)
        _remove_unused_nodes(graph)
        return bytes(message.SerializeToString())

    def _add_float_layer(self, graph: Any, unit: OnnxUnit) -> None:
        """Add the layer of a unit with float32 weights; it computes the unit's output."""
        node = graph.node.add()
        node.CopyFrom(self._message.graph.node[unit.layer])
        parameters = ["weight", "bias"] if unit.has_bias else ["weight"]
        names = [f"{_FLOAT32}{unit.name}.{parameter}" for parameter in parameters]
        for name in names:
            values = self._weights[name.removeprefix(_FLOAT32)]
            graph.initializer.add(
                dims=values.shape,
                data_type=ELEMENT_TYPES["float32"],
                name=name,
                raw_data=np.ascontiguousarray(values, "<f4").tobytes(),
            )
        node.input[:] = [unit.source, *names]
        node.output[:] = [unit.output]

    def _add_quantized_copy(self, graph: Any, unit: OnnxUnit) -> None:
        """Add the nodes of a unit once more, with other names of the tensors that they compute."""
        originals = {index: self._message.graph.node[index] for index in unit.nodes}
        computed = {name for node in originals.values() for name in node.output}
        prefix = f"{_QUANTIZED_ALONE}{unit.name}: "
        for index, original in originals.items():
            node = graph.node.add()
            node.CopyFrom(original)
            node.name = f"{prefix}node {index}"  # names must be unique, and may be missing
            for names in (node.input, node.output):
                names[:] = [f"{prefix}{name}" if name in computed else name for name in names]


def read_float_weights(model: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Read the float32 initializers of a model.

    Args:
        model: A serialized ModelProto.

    Returns:
        Name of the initializer -> its values. Initializers that are not stored as raw bytes, as
        tinyvit-export stores them, are left out.

    Raises:
        ValueError: `model` is not a serialized ModelProto.
    """
    weights = {}
    for tensor in parse_model(model).graph.initializer:
        shape = tuple(tensor.dims)
        is_float32 = tensor.data_type == ELEMENT_TYPES["float32"]
        if is_float32 and len(tensor.raw_data) == 4 * int(np.prod(shape, dtype=np.float64)):
            values = np.frombuffer(tensor.raw_data, "<f4").reshape(shape)
            weights[tensor.name] = values.astype(np.float32, copy=False)
    return weights


def _remove_unused_nodes(graph: Any) -> None:
    """Remove the nodes that no output of the graph depends on."""
    needed = {value.name for value in graph.output}
    unused = []
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if needed.isdisjoint(node.output):
            unused.append(index)
        else:
            needed.update(node.input)
    for index in unused:
        del graph.node[index]
