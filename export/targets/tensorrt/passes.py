"""The network as TensorRT wants it: 16-bit floats beside 8-bit integers, in an ONNX model that any engine still reads.

TensorRT's networks are strongly typed: what is float32 in the file is computed in float32. The scales of the recipe are
those of every target; what changes is the type that carries what is not an integer.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import RequestError

if TYPE_CHECKING:
    import onnx_ir as ir

PRODUCTS = ("Conv", "Gemm", "MatMul")
HALF_QUANTIZE_OPSET = 19
"""The first ONNX opset whose QuantizeLinear takes 16-bit floats."""

_SMALLEST = np.float32(
    2.0**-24
)  # of float16: TensorRT refuses a scale of zero, which smaller ones would be rounded to


def tune(model: ir.Model, half: bool) -> None:
    """Rewrite in place; half: all floats but input and output become float16. Raises RequestError where the opset is too old for it."""
    quantizes = any(node.op_type == "QuantizeLinear" for node in model.graph)
    opset = model.graph.opset_imports.get("", 0)
    if half and quantizes and opset < HALF_QUANTIZE_OPSET:
        raise RequestError(
            f"ONNX opset {opset} cannot quantize 16-bit floats",
            f"use --opset {HALF_QUANTIZE_OPSET} or later",
        )
    _depthwise_in_floats(model)
    if half:
        _halve(model)


def product_macs(model: ir.Model) -> dict[str, int]:
    """Node -> the multiply-accumulates of one picture, of every convolution, linear layer and product; a free batch is 1."""
    macs = {}
    for node in model.graph:
        if node.op_type in PRODUCTS:
            left, right = (_sizes(value) for value in node.inputs[:2])
            depth = prod(right[1:]) if node.op_type == "Conv" else left[-1]
            assert node.name is not None
            macs[node.name] = prod(_sizes(node.outputs[0])) * depth
    return macs


def _sizes(value: ir.Value | None) -> list[int]:
    assert value is not None
    assert value.shape is not None
    return [size if isinstance(size, int) else _of_one_picture(str(size)) for size in value.shape]


def _of_one_picture(size: str) -> int:
    """A size that grows with the batch, as torch writes it: "784*s40" -> 784."""
    return prod(int(factor) for factor in size.split("*") if factor.strip().isdecimal())


def _depthwise_in_floats(model: ir.Model) -> None:
    """Weights of grouped convolutions as floats; their input stays rounded.

    As integers TensorRT-RTX 1.7 pads every channel to four, and stores 2.4 MB of zeros for each of the demo's two.
    """
    for node in list(model.graph):
        if node.op_type != "Conv" or node.attributes["group"].as_int() == 1:
            continue
        restored = _producer(node, 1)
        if restored is not None and restored.op_type == "DequantizeLinear":
            scales = _array(restored, 1)
            weight = _array(restored, 0) * scales.reshape(-1, *[1] * 3)
            _set(model, node, 1, weight.astype(np.float32))
            model.graph.remove(restored, safe=True)


def _halve(model: ir.Model) -> None:
    """float16 inside; the graph's input and output stay as they are."""
    import onnx_ir as ir

    graph, half = model.graph, ir.DataType.FLOAT16
    positive = {
        id(node.inputs[1])
        for node in graph
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
    for value in graph.initializers.values():
        if value.dtype == ir.DataType.FLOAT:
            assert value.const_value is not None
            array = value.const_value.numpy()
            array = np.maximum(array, _SMALLEST) if id(value) in positive else array
            value.const_value = ir.Tensor(array.astype(np.float16), name=value.name)
            value.type = ir.TensorType(half)
    for value in _computed(model):
        if value.dtype == ir.DataType.FLOAT:
            value.type = ir.TensorType(half)
    given, answer = graph.inputs[0], graph.outputs[0]
    into = ir.node(
        "Cast",
        [given],
        {"to": half},
        name="half/in",
        outputs=[_value("half/in", half, given.shape)],
    )
    given.replace_all_uses_with(into.outputs[0])
    into.replace_input_with(0, given)
    graph.insert_before(next(iter(graph)), into)
    name, answer.name = answer.name, "half/out"
    back = ir.node(
        "Cast",
        [answer],
        {"to": ir.DataType.FLOAT},
        name="half/out",
        outputs=[_value(name, ir.DataType.FLOAT, answer.shape)],
    )
    graph.append(back)
    graph.outputs[0] = back.outputs[0]


def _computed(model: ir.Model) -> Iterator[ir.Value]:
    for node in model.graph:
        yield from node.outputs


def _value(name: str | None, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
    import onnx_ir as ir

    return ir.Value(name=name, type=ir.TensorType(dtype), shape=shape)


def _producer(node: ir.Node, at: int) -> ir.Node | None:
    value = node.inputs[at] if at < len(node.inputs) else None
    return value.producer() if value is not None else None


def _array(node: ir.Node, at: int) -> npt.NDArray[Any]:
    value = node.inputs[at]
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def _set(model: ir.Model, node: ir.Node, at: int, array: npt.NDArray[Any] | np.float32) -> None:
    """Give the node a constant of its own: the one it had may be shared."""
    import onnx_ir as ir

    name = f"{node.name}/{at}"
    tensor = ir.Tensor(np.asarray(array, np.float32), name=name)
    value = ir.Value(
        name=name,
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape(tensor.shape),
        const_value=tensor,
    )
    model.graph.register_initializer(value)
    node.replace_input_with(at, value)


def cast_pixels_first(model: ir.Model) -> None:
    """Pixels become floats before they are transposed: TensorRT casts uint8, and does nothing else with it."""
    import onnx_ir as ir

    pixels = model.graph.inputs[0]
    if pixels.dtype != ir.DataType.UINT8:
        return
    (move,) = [use.node for use in pixels.uses()]
    (cast,) = [use.node for use in move.outputs[0].uses()]
    if (move.op_type, cast.op_type) != ("Transpose", "Cast"):
        return
    floats = _value(f"{cast.name}/floats", ir.DataType.FLOAT, pixels.shape)
    first = ir.node(
        "Cast", [pixels], {"to": ir.DataType.FLOAT}, name=f"{cast.name}/first", outputs=[floats]
    )
    model.graph.insert_before(move, first)
    move.replace_input_with(0, floats)
    move.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    cast.outputs[0].replace_all_uses_with(move.outputs[0])
    model.graph.remove(cast, safe=True)
