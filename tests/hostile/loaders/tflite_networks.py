"""A .tflite network with many kinds of operators, and networks that are hostile on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.helpers.tflite_model import ModelBuilder, build_model, serialize_model

_BUILTINS = schema.BuiltinOperator
_SIZES = (0, 1, -1, 2, 2**15, 2**20, 2**24, 2**28, 2**30, 2**31 - 1, -(2**31))
_FORWARD = ("tensors", "operators")


def build_network() -> Any:
    """Build a network (1, 8, 8, 3) -> (1, 10) of the operators that a TinyViT consists of."""
    builder, rng = ModelBuilder(), np.random.default_rng(0)

    def constant(name: str, values: Any, dtype: Any = np.float32) -> int:
        array = np.asarray(values, dtype)
        return builder.add_tensor(name, array.shape, dtype, array)

    def add(kind: str, inputs: list[int], shape: list[int], options: Any = None) -> int:
        output = builder.add_tensor(f"{kind} {len(builder.graph.tensors)}", shape, np.float32)
        builder.add_operator(getattr(_BUILTINS, kind), inputs, output, options)
        return output

    image = builder.add_tensor("image", [1, 8, 8, 3], np.float32)
    pads = constant("pads", [[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)
    padded = add("PAD", [image, pads], [1, 10, 10, 3], schema.PadOptionsT())
    conv = schema.Conv2DOptionsT()
    conv.strideW = conv.strideH = conv.dilationWFactor = conv.dilationHFactor = 1
    conv.padding = schema.Padding.VALID
    kernel = constant("kernel", rng.normal(size=(4, 3, 3, 3)))
    bias = constant("bias", rng.normal(size=4))
    features = add("CONV_2D", [padded, kernel, bias], [1, 8, 8, 4], conv)
    depthwise = schema.DepthwiseConv2DOptionsT()
    depthwise.strideW = depthwise.strideH = depthwise.depthMultiplier = 1
    depthwise.dilationWFactor = depthwise.dilationHFactor = 1
    kernel = constant("depthwise kernel", rng.normal(size=(1, 3, 3, 4)))
    features = add("DEPTHWISE_CONV_2D", [features, kernel, bias], [1, 8, 8, 4], depthwise)
    features = add("GELU", [features], [1, 8, 8, 4], schema.GeluOptionsT())
    shape = constant("shape", [1, 64, 4], np.int32)
    tokens = add("RESHAPE", [features, shape], [1, 64, 4], schema.ReshapeOptionsT())
    order = constant("order", [0, 2, 1], np.int32)
    keys = add("TRANSPOSE", [tokens, order], [1, 4, 64], schema.TransposeOptionsT())
    scores = add("BATCH_MATMUL", [tokens, keys], [1, 64, 64], schema.BatchMatMulOptionsT())
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    scores = add("SOFTMAX", [scores], [1, 64, 64], softmax)
    mixed = add("BATCH_MATMUL", [scores, tokens], [1, 64, 4], schema.BatchMatMulOptionsT())
    mixed = add("ADD", [mixed, tokens], [1, 64, 4], schema.AddOptionsT())
    gather = schema.GatherOptionsT()
    gather.axis = 1
    mixed = add("GATHER", [mixed, constant("places", [5, 6, 7], np.int32)], [1, 3, 4], gather)
    begin, size = constant("begin", [0, 1, 0], np.int32), constant("size", [1, 2, 4], np.int32)
    mixed = add("SLICE", [mixed, begin, size], [1, 2, 4], schema.SliceOptionsT())
    join = schema.ConcatenationOptionsT()
    join.axis = 2
    mixed = add("CONCATENATION", [mixed, mixed], [1, 2, 8], join)
    axes = constant("axes", [1], np.int32)
    mean = add("MEAN", [mixed, axes], [1, 8], schema.ReducerOptionsT())
    weight = constant("weight", rng.normal(size=(10, 8)))
    logits = add("FULLY_CONNECTED", [mean, weight, -1], [1, 10], schema.FullyConnectedOptionsT())
    builder.graph.inputs = np.array([image], np.int32)
    builder.graph.outputs = np.array([logits], np.int32)
    for code in builder.model.operatorCodes:
        code.version = 1  # Every operator has this version.
    return builder.model


def list_crafted() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield a description and a function that makes the bytes, for each crafted file."""
    for code in range(-1, 210):
        yield f"the operator {code} instead of a mean", partial(_replace_operator, code)
    for size in _SIZES:
        for index in range(3):
            yield (
                f"the size {size} of the tensor {index}",
                partial(_set_size, index, size),
            )
        yield f"the new shape {size}", partial(_set_constant, "shape", size)
        yield f"the padding {size}", partial(_set_constant, "pads", size)
        yield f"the slice {size}", partial(_set_constant, "size", size)
        yield f"the start {size}", partial(_set_constant, "begin", size)
        yield f"the places {size}", partial(_set_constant, "places", size)
        yield f"the axes {size}", partial(_set_constant, "axes", size)
        yield f"the order {size}", partial(_set_constant, "order", size)
        yield f"the stride {size}", partial(_set_stride, size)
    for kind in ("tensors", "operators", "buffers", "operatorCodes", "metadata", "subgraphs"):
        yield f"200,000 times the same of {kind}", partial(repeat_table, kind, 200_000)
    yield "a chain of 20,000 additions", partial(_make_chain, 20_000, 1)
    yield "a chain that doubles 30 times", partial(_make_chain, 30, 2)
    yield "a fill of 2^33 bytes", partial(_make_fill, (1, 2**15, 2**16))
    yield "a range of 2^31 numbers", partial(_make_fill, (1, 2**31 - 1))


def _replace_operator(code: int) -> bytes:
    model = build_model()
    operator_code = model.operatorCodes[0]
    operator_code.builtinCode = code
    operator_code.deprecatedBuiltinCode = min(code, 127)
    operator_code.version = 1
    model.subgraphs[0].operators[0].builtinOptions = None
    model.subgraphs[0].operators[0].builtinOptionsType = 0
    return serialize_model(model)


def _set_size(index: int, size: int) -> bytes:
    model = build_model()
    tensor = model.subgraphs[0].tensors[index]
    tensor.shape = tensor.shape.copy()
    tensor.shape[-1] = size
    return serialize_model(model)


def _find(model: Any, name: str) -> Any:
    return next(tensor for tensor in model.subgraphs[0].tensors if tensor.name == name)


def _set_constant(name: str, value: int) -> bytes:
    """Set the last number of a constant."""
    model = build_network()
    buffer = model.buffers[_find(model, name).buffer]
    numbers = buffer.data.view(np.int32).copy()
    numbers[-1] = value
    buffer.data = numbers.view(np.uint8)
    return serialize_model(model)


def _set_stride(size: int) -> bytes:
    model = build_network()
    for operator in model.subgraphs[0].operators[1:3]:
        operator.builtinOptions.strideH = size
    return serialize_model(model)


def _make_chain(count: int, factor: int) -> bytes:
    """Make a chain of additions, or of concatenations of a tensor with itself."""
    builder = ModelBuilder()
    tensor = image = builder.add_tensor("image", [1, 8, 8, 3], np.float32)
    size = 3
    for number in range(count):
        size = min(size * factor, 2**31 - 1)
        output = builder.add_tensor(f"t{number}", [1, 8, 8, size], np.float32)
        options = schema.AddOptionsT() if factor == 1 else schema.ConcatenationOptionsT()
        if factor > 1:
            options.axis = 3
        code = _BUILTINS.ADD if factor == 1 else _BUILTINS.CONCATENATION
        if number == 0:
            builder.add_operator(code, [tensor, tensor], output, options)
            first = builder.graph.operators[0]
        else:
            operator = schema.OperatorT()
            operator.opcodeIndex, operator.builtinOptions = 0, options
            operator.builtinOptionsType = first.builtinOptionsType
            operator.inputs = np.array([tensor, tensor], np.int32)
            operator.outputs = np.array([output], np.int32)
            builder.graph.operators.append(operator)
        tensor = output
    builder.graph.inputs = np.array([image], np.int32)
    builder.graph.outputs = np.array([tensor], np.int32)
    builder.model.operatorCodes[0].version = 1
    return serialize_model(builder.model)


def _make_fill(shape: tuple[int, ...]) -> bytes:
    """Make a network that fills a tensor whose shape is a constant."""
    builder = ModelBuilder()
    image = builder.add_tensor("image", [1, 8, 8, 3], np.float32)
    sizes = builder.add_tensor("sizes", [len(shape)], np.int32, list(shape))
    value = builder.add_tensor("value", [], np.float32, 1.0)
    filled = builder.add_tensor("filled", [1, 10], np.float32)
    builder.add_operator(_BUILTINS.FILL, [sizes, value], filled, schema.FillOptionsT())
    builder.graph.inputs = np.array([image], np.int32)
    builder.graph.outputs = np.array([filled], np.int32)
    builder.model.operatorCodes[0].version = 1
    return serialize_model(builder.model)


def repeat_table(kind: str, count: int) -> bytes:
    """Make a model with a vector of offsets that all lead to one table.

    Args:
        kind: Name of the vector in the schema, such as "tensors".
        count: Number of offsets.
    """
    builder = flatbuffers.Builder(2**20)
    table = {
        "tensors": schema.TensorT,
        "operators": schema.OperatorT,
        "buffers": schema.BufferT,
        "operatorCodes": schema.OperatorCodeT,
        "metadata": schema.MetadataT,
        "subgraphs": schema.SubGraphT,
    }[kind]()
    if kind == "subgraphs":
        table.tensors = [schema.TensorT() for _ in range(1000)]
    if kind == "tensors":
        table.name = "n" * 50_000
    packed = table.Pack(builder)
    if kind in _FORWARD:
        start = getattr(schema, f"SubGraphStart{kind.title()}Vector")
    else:
        start = getattr(schema, f"ModelStart{kind[0].upper()}{kind[1:]}Vector")
    start(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(packed)
    vector = builder.EndVector()
    if kind in _FORWARD:
        schema.SubGraphStart(builder)
        getattr(schema, f"SubGraphAdd{kind.title()}")(builder, vector)
        graph = schema.SubGraphEnd(builder)
        schema.ModelStartSubgraphsVector(builder, 1)
        builder.PrependUOffsetTRelative(graph)
        graphs = builder.EndVector()
        schema.ModelStart(builder)
        schema.ModelAddSubgraphs(builder, graphs)
    else:
        schema.ModelStart(builder)
        getattr(schema, f"ModelAdd{kind[0].upper()}{kind[1:]}")(builder, vector)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())
