"""Passes that replace operators by ones that XNNPACK supports, and that make the file smaller.

XNNPACK is a delegate: a library that runs parts of a network for LiteRT. `expand_layer_norm` and
`fold_gathers` change the traced torch graph before it is converted; the others change the converted
model (see `flatbuffer`). docs/lab-notes/engines.md ("LiteRT") has measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyvit.export.passes.fx_helpers import GraphEditor, parse_layer_norm, replace_node
from tinyvit.export.targets.litert.flatbuffer import (
    add_float32_tensor,
    find_operator_kind,
    find_or_add_operator_code,
    make_operator,
    make_tensor_list,
)

if TYPE_CHECKING:
    from torch.fx import GraphModule

_KEPT_METADATA = (b"min_runtime_version",)
"""Names of the metadata entries that stay in the file; the runtime reads them."""


def expand_layer_norm(network: GraphModule) -> None:
    """Write each LayerNorm as seven operators.

    Requires: every layer_norm is over the last axis.
    Changes: each becomes mean, difference, square, mean, sum with epsilon, reciprocal root and
        product, followed by weight and bias if it has them.
    Why: the converter's own form has twelve operators, five of them for shapes.

    Args:
        network: The traced network to change in place.
    """
    import torch

    editor = GraphEditor(network)
    for node in list(network.graph.nodes):
        if node.target is not torch.ops.aten.layer_norm.default:
            continue
        call = parse_layer_norm(node)
        with network.graph.inserting_before(node):
            mean = editor.call("mean.dim", call.source, [-1], True)  # keepdim=True
            centered = editor.call("sub.Tensor", call.source, mean)
            squares = editor.call("mul.Tensor", centered, centered)
            variance = editor.call("mean.dim", squares, [-1], True)  # keepdim=True
            shifted = editor.call("add.Scalar", variance, call.epsilon)
            scale = editor.call("rsqrt.default", shifted)
            normalized = editor.call("mul.Tensor", centered, scale)
            result = call.apply_affine(editor, normalized)
        replace_node(node, result)
        network.graph.erase_node(node)
    network.recompile()


def fold_gathers(network: GraphModule) -> None:
    """Replace gathers from constants, such as attention biases, by their results.

    Requires: nothing; a gather from anything else is left as it is.
    Changes: each index_select of constants becomes a constant.
    Why: the converter guards each gather with a check of its indices. It computes small gathers
        itself, but keeps the checks of large ones, such as those of 1024 tokens in an attention
        window, as operators that XNNPACK does not have.

    Args:
        network: The traced network to change in place.
    """
    import torch

    editor = GraphEditor(network)
    for node in list(network.graph.nodes):
        if node.target is not torch.ops.aten.index_select.default:
            continue
        arguments: tuple[Any, ...] = node.args
        source, axis, indices = arguments
        table, index = editor.read_constant(source), editor.read_constant(indices)
        if table is None or index is None:
            continue
        with network.graph.inserting_before(node):
            result = editor.add_constant(table.index_select(axis, index))
        replace_node(node, result)
        network.graph.erase_node(node)
    network.recompile()


def optimize_model(model: Any, input_name: str, output_names: Sequence[str]) -> None:
    """Run every pass on a converted model, except `store_constants_as_float16`.

    Args:
        model: The model as the converter makes it; changed in place.
        input_name: New name of its input.
        output_names: New names of its outputs, in the order of the network.
    """
    compute_gelu_in_float32(model)
    read_pixels_as_quantized(model)
    rename_tensors(model, input_name, output_names)
    remove_converter_metadata(model)


def compute_gelu_in_float32(model: Any) -> None:
    """Surround each int8 GELU by a dequantization and a quantization.

    Requires: nothing.
    Changes: GELU from int8 to int8 becomes dequantize, GELU, quantize.
    Why: XNNPACK does not support int8 GELU. Each GELU would split the network into two parts
        and run between them in a single-threaded kernel: the int8 demo model had 15 parts, and its
        14 GELUs took 2.0 ms instead of 0.5 ms.

    Args:
        model: The model to change in place.
    """
    from ai_edge_litert import schema_py_generated as schema

    kinds, types = schema.BuiltinOperator, schema.TensorType
    graph = model.subgraphs[0]
    new_operators = []
    for operator in graph.operators:
        source, result = operator.inputs[0], operator.outputs[0]
        is_gelu = find_operator_kind(model, operator) == kinds.GELU
        if not is_gelu or graph.tensors[source].type != types.INT8:
            new_operators.append(operator)
            continue
        float_source = add_float32_tensor(graph, source)
        float_result = add_float32_tensor(graph, result)
        operator.inputs = make_tensor_list(float_source)
        operator.outputs = make_tensor_list(float_result)
        new_operators += [
            make_operator(model, kinds.DEQUANTIZE, source, float_source),
            operator,
            make_operator(model, kinds.QUANTIZE, float_result, result),
        ]
    graph.operators = new_operators


def read_pixels_as_quantized(model: Any) -> None:
    """Read a uint8 input as a quantized tensor with a scale of 1.

    Requires: nothing; a float32 input stays as it is.
    Changes: the cast of the input becomes a dequantization.
    Why: XNNPACK does not support casts.

    Args:
        model: The model to change in place.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    image = graph.tensors[graph.inputs[0]]
    if image.type != schema.TensorType.UINT8:
        return
    for operator in graph.operators:
        is_cast = find_operator_kind(model, operator) == schema.BuiltinOperator.CAST
        if not is_cast or operator.inputs[0] != graph.inputs[0]:
            continue
        image.quantization = schema.QuantizationParametersT()
        image.quantization.scale = np.ones(1, np.float32)
        image.quantization.zeroPoint = np.zeros(1, np.int64)
        operator.opcodeIndex = find_or_add_operator_code(model, schema.BuiltinOperator.DEQUANTIZE)
        # A cast has options (its types), and a dequantization has none.
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.NONE, None


def rename_tensors(model: Any, input_name: str, output_names: Sequence[str]) -> None:
    """Rename the input and the outputs, put the outputs in order, and number all other tensors.

    Requires: one input, and outputs that the converter has numbered in the signature.
    Changes: names of tensors, and of the input and outputs in the signature (the model's
        interface); the order of the outputs becomes that of the network.
    Why: the converter names tensors after the modules of the source code, and sorts outputs.

    Args:
        model: The model to change in place.
        input_name: New name of its input.
        output_names: New names of its outputs, in the order of the network.
    """
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    for i, tensor in enumerate(graph.tensors):
        tensor.name = f"t{i}"
    graph.tensors[graph.inputs[0]].name = signature.inputs[0].name = input_name
    outputs = sorted(signature.outputs, key=_read_output_number)
    for output, name in zip(outputs, output_names):
        graph.tensors[output.tensorIndex].name = output.name = name
    if len(outputs) > 1:
        graph.outputs = make_tensor_list(*(output.tensorIndex for output in outputs))


def _read_output_number(output: Any) -> int:
    """Return the number at the end of the name that the converter gave to an output."""
    name = output.name.decode() if isinstance(output.name, bytes) else str(output.name)
    digits = name.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0


def remove_converter_metadata(model: Any) -> None:
    """Remove the metadata that the converter records about its run.

    Requires: nothing.
    Changes: all metadata is removed, except the required version of the runtime; the description
        becomes "tinyvit-edge".
    Why: the metadata contains the options that the converter ran with, which no reader needs.

    Args:
        model: The model to change in place.
    """
    model.metadata = [entry for entry in model.metadata or [] if entry.name in _KEPT_METADATA]
    model.description = "tinyvit-edge"


def store_constants_as_float16(model: Any, min_bytes: int) -> None:
    """Store large float32 constants as float16.

    Requires: nothing.
    Changes: each such constant becomes float16 and is followed by a dequantization, which XNNPACK
        computes once when it opens the file.
    Why: the constants take half the size, and the network still computes in float32.

    Args:
        model: The model to change in place.
        min_bytes: Size of the smallest float32 constant that is changed, in bytes.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    float32_tensors: dict[int, int] = {}  # index of a float16 constant -> its float32 tensor
    # Read before the loop changes the buffers, because several tensors may share one buffer.
    float32_contents = [buffer.data for buffer in model.buffers]
    dequantizations = []
    for i, tensor in enumerate(list(graph.tensors)):
        data = float32_contents[tensor.buffer]
        if tensor.type != schema.TensorType.FLOAT32 or data is None or len(data) < min_bytes:
            continue
        values = np.frombuffer(bytes(data), np.float32).astype(np.float16)
        model.buffers[tensor.buffer].data = values.view(np.uint8)
        tensor.type = schema.TensorType.FLOAT16
        float32_tensors[i] = add_float32_tensor(graph, i)
        kind = schema.BuiltinOperator.DEQUANTIZE
        dequantizations.append(make_operator(model, kind, i, float32_tensors[i]))
    for operator in graph.operators:
        inputs = (int(i) for i in operator.inputs)
        operator.inputs = make_tensor_list(*(float32_tensors.get(i, i) for i in inputs))
    graph.operators = [*dequantizations, *graph.operators]
