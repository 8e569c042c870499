"""Tuning a network for LiteRT's XNNPACK delegate: the same function in fewer nodes, all of which the delegate takes.

In two places: the traced torch graph before it is converted, and the converted flatbuffer. docs/int8.md has what each step brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.fx import GraphModule

ALIGNMENT = 16
"""Of every buffer in the file, as the schema asks for (Buffer.data, force_align: 16), which the Python package does not do by itself."""

_KEPT_METADATA = (b"min_runtime_version",)


def write_norms_out(network: GraphModule) -> None:
    """LayerNorm as seven operations over the last axis, in place: the converter's own form has twelve, five of them for shapes.

    mean, difference, square, mean, plus eps, reciprocal root, product; the head's scale and shift after them.
    """
    import torch

    aten, graph = torch.ops.aten, network.graph
    for node in list(graph.nodes):
        if node.target is not aten.layer_norm.default:
            continue
        given, _, scale, shift, eps = (*node.args, *(None, None, 1e-5)[len(node.args) - 2 :])[:5]
        with graph.inserting_before(node):
            apart = graph.call_function(
                aten.sub.Tensor, (given, graph.call_function(aten.mean.dim, (given, [-1], True)))
            )
            square = graph.call_function(aten.mul.Tensor, (apart, apart))
            spread = graph.call_function(
                aten.add.Scalar, (graph.call_function(aten.mean.dim, (square, [-1], True)), eps)
            )
            made = graph.call_function(
                aten.mul.Tensor, (apart, graph.call_function(aten.rsqrt.default, (spread,)))
            )
            if scale is not None:
                made = graph.call_function(aten.mul.Tensor, (made, scale))
            if shift is not None:
                made = graph.call_function(aten.add.Tensor, (made, shift))
        node.replace_all_uses_with(made)
        graph.erase_node(node)
    network.recompile()


def tune(model: Any, names: tuple[str, str]) -> None:
    """Tune a converted model (schema_py_generated.ModelT) in place; names: the input's and the output's.

    The converter's notes of its own run go: names of tensors are the sources' modules, and metadata of its flags.
    """
    graph = model.subgraphs[0]
    _gelu_in_float(model)
    _pixels_as_quantized(model)
    for i, tensor in enumerate(graph.tensors):
        tensor.name = f"t{i}"
    signature = model.signatureDefs[0]
    for ends, mapped, name in zip(
        (graph.inputs, graph.outputs), (signature.inputs, signature.outputs), names
    ):
        graph.tensors[ends[0]].name = mapped[0].name = name
    model.metadata = [entry for entry in model.metadata or [] if entry.name in _KEPT_METADATA]
    model.description = "tinyvit-edge"


def attach(model: Any, name: str, data: bytes) -> None:
    """Put metadata into the model under `name`, in place of what was there."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    found = [entry for entry in model.metadata if entry.name == name]
    if not found:
        entry, model.buffers = schema.MetadataT(), [*model.buffers, schema.BufferT()]
        entry.name, entry.buffer = name, len(model.buffers) - 1
        model.metadata, found = [*model.metadata, entry], [entry]
    model.buffers[found[0].buffer].data = np.frombuffer(data, np.uint8)


def pack(model: Any) -> bytes:
    """The file's bytes, every buffer aligned."""
    import flatbuffers

    class Builder(flatbuffers.Builder):  # type: ignore[misc]
        def CreateNumpyVector(self, values: Any) -> int:
            self.StartVector(
                values.itemsize, values.size, ALIGNMENT if values.itemsize == 1 else values.itemsize
            )
            self.head -= values.nbytes
            self.Bytes[self.head : self.head + values.nbytes] = values.tobytes()
            self.vectorNumElems = values.size
            return int(self.EndVector())

    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def halve(model: Any, least: int) -> None:
    """Float32 constants of `least` bytes and more as float16, in place, each with a conversion back, which XNNPACK does once, when it loads
    the file.

    Sums stay in float32. Harmless where it was done before.
    """
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    graph, restored, added = model.subgraphs[0], {}, []
    for i, tensor in enumerate(list(graph.tensors)):
        buffer = model.buffers[tensor.buffer]
        if (
            tensor.type != schema.TensorType.FLOAT32
            or buffer.data is None
            or len(buffer.data) < least
        ):
            continue
        buffer.data = (
            np.frombuffer(bytes(buffer.data), np.float32).astype(np.float16).view(np.uint8)
        )
        tensor.type, restored[i] = schema.TensorType.FLOAT16, _float_like(graph, i)
        added.append(_operator(model, schema.BuiltinOperator.DEQUANTIZE, i, restored[i]))
    for operator in graph.operators:
        operator.inputs = np.array(
            [restored.get(int(i), int(i)) for i in operator.inputs], np.int32
        )
    graph.operators = [*added, *graph.operators]


def _gelu_in_float(model: Any) -> None:
    """GELU between int8 and int8 as GELU of floats with its conversions written out: XNNPACK takes no int8 GELU, and each one
    would part the network into two delegates with a kernel of one thread between them."""
    from ai_edge_litert import schema_py_generated as schema

    graph, operators = model.subgraphs[0], []
    for operator in graph.operators:
        operators.append(operator)
        if (
            _code(model, operator) != schema.BuiltinOperator.GELU
            or graph.tensors[operator.inputs[0]].type != schema.TensorType.INT8
        ):
            continue
        given, made = operator.inputs[0], operator.outputs[0]
        floats = [_float_like(graph, tensor) for tensor in (given, made)]
        operator.inputs, operator.outputs = _one(floats[0]), _one(floats[1])
        operators.insert(-1, _operator(model, schema.BuiltinOperator.DEQUANTIZE, given, floats[0]))
        operators.append(_operator(model, schema.BuiltinOperator.QUANTIZE, floats[1], made))
    graph.operators = operators


def _pixels_as_quantized(model: Any) -> None:
    """The cast of uint8 pixels as the dequantization of a tensor of scale 1: XNNPACK takes no casts."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    image = graph.tensors[graph.inputs[0]]
    for operator in graph.operators:
        if (
            operator.inputs[0] == graph.inputs[0]
            and _code(model, operator) == schema.BuiltinOperator.CAST
            and image.type == schema.TensorType.UINT8
        ):
            image.quantization = schema.QuantizationParametersT()
            image.quantization.scale, image.quantization.zeroPoint = (
                np.ones(1, np.float32),
                np.zeros(1, np.int64),
            )
            operator.opcodeIndex = _opcode(model, schema.BuiltinOperator.DEQUANTIZE)
            operator.builtinOptionsType, operator.builtinOptions = 0, None


def _code(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def _opcode(model: Any, builtin: int) -> int:
    """The place of a kind of operator in the model's list, where it is put if it is not there yet."""
    from ai_edge_litert import schema_py_generated as schema

    for i, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin:
            return i
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = (
        3 if builtin == schema.BuiltinOperator.DEQUANTIZE else 2
    )  # of int8, and for the former of float16
    model.operatorCodes = [*model.operatorCodes, code]
    return len(model.operatorCodes) - 1


def _operator(model: Any, builtin: int, given: int, made: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = (
        _opcode(model, builtin),
        _one(given),
        _one(made),
    )
    return operator


def _float_like(graph: Any, index: int) -> int:
    """A new tensor of float32, of the same shape; its index."""
    from ai_edge_litert import schema_py_generated as schema

    made, like = schema.TensorT(), graph.tensors[index]
    made.shape, made.type, made.hasRank = like.shape, schema.TensorType.FLOAT32, like.hasRank
    graph.tensors.append(made)
    return len(graph.tensors) - 1


def _one(index: int) -> Any:
    import numpy as np

    return np.array([index], np.int32)
