"""ONNX models whose operators are allowed, but need too much memory or time, or contradict.

Each model takes an image, float32 (1, 3, 32, 32), and is a few kilobytes large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.model_changes import list_changes

SIZE = 32
Nodes = "list[Any]"
_LONG = 40_000
"""An outer product of two vectors of this length takes 6 GB."""


class GraphBuilder:
    """Builds a model node by node; the result of the last one becomes ten logits.

    Attributes:
        nodes: The nodes.
        initializers: The constants.
    """

    def __init__(self) -> None:
        """Start an empty model."""
        self.onnx = pytest.importorskip("onnx", reason="makes the test files")
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def constant(self, value: Any) -> str:
        """Add a constant, and return its name."""
        name = f"c{len(self.initializers)}"
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        self.initializers.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return the name of its result."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name

    def finish(self, result: str, shape: tuple[Any, ...] = (1, 3, SIZE, SIZE)) -> Any:
        """Add a mean of the result to ten logits, and return the model."""
        helper, float32 = self.onnx.helper, self.onnx.TensorProto.FLOAT
        number = self.add("ReduceMean", self.add("Cast", result, to=float32), keepdims=0)
        flat = self.add("ReduceMean", "image", keepdims=0)
        total = self.add("Add", number, flat)
        row = self.add("Reshape", total, self.constant(np.array([1, 1], np.int64)))
        self.add("MatMul", row, self.constant(np.ones((1, 10))))
        self.nodes[-1].output[0] = "logits"
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info("image", float32, shape)],
            [helper.make_tensor_value_info("logits", float32, (1, 10))],
            self.initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _make_outer_product(operator: str, use_image: bool) -> Any:
    """Multiply a column by a row, which depend on the image or not."""
    builder = GraphBuilder()
    column, row = builder.constant(np.ones((_LONG, 1))), builder.constant(np.ones((1, _LONG)))
    if use_image:
        column = builder.add("Add", column, builder.add("ReduceMean", "image", keepdims=0))
    if operator == "Einsum":
        return builder.finish(builder.add("Einsum", column, row, equation="ij,jk->ik"))
    if operator == "Where":
        return builder.finish(builder.add("Where", builder.add("Less", column, row), column, row))
    return builder.finish(builder.add(operator, column, row))


def _make_growing_chain(operator: str, length: int) -> Any:
    """Double the size of the image again and again."""
    builder = GraphBuilder()
    result = "image"
    scales = builder.constant(np.array([1, 1, 2, 1], np.float32))
    pads = builder.constant(np.array([0, 0, 0, 0, 0, 1000, 1000, 0], np.int64))
    indices = builder.constant(np.zeros(1000, np.int64))
    for _ in range(length):
        if operator == "Concat":
            result = builder.add("Concat", result, result, axis=0)
        elif operator == "Concat of many":
            result = builder.add("Concat", *[result] * 100, axis=0)
        elif operator == "Resize":
            result = builder.add("Resize", result, "", scales, mode="nearest")
        elif operator == "Pad":
            result = builder.add("Pad", result, pads)
        elif operator == "Gather":
            result = builder.add("Gather", result, indices, axis=0)
        elif operator == "Add":
            unsqueezed = builder.add("Unsqueeze", result, builder.constant(np.int64([0])))
            result = builder.add("Transpose", unsqueezed)
            result = builder.add("Add", unsqueezed, result)
        elif operator == "AveragePool":
            pool = {"kernel_shape": [3, 3], "pads": [2, 2, 2, 2], "strides": [1, 1]}
            result = builder.add("AveragePool", result, count_include_pad=1, **pool)
        else:
            result = builder.add(operator, result)
    return builder.finish(result)


def _make_huge_target(operator: str, sizes: list[Any]) -> Any:
    """Resize, pad or reshape the image to a size."""
    builder = GraphBuilder()
    if operator == "Resize to":
        target = builder.constant(np.array(sizes, np.int64))
        return builder.finish(builder.add("Resize", "image", "", "", target, mode="cubic"))
    if operator == "Resize by":
        scales = builder.constant(np.array(sizes, np.float32))
        return builder.finish(builder.add("Resize", "image", "", scales, mode="linear"))
    pads = builder.constant(np.array(sizes, np.int64))
    return builder.finish(builder.add(operator, "image", pads))


def _make_size_from_pixels(operator: str) -> Any:
    """Resize or pad the image to a size that a pixel states."""
    builder = GraphBuilder()
    brightest = builder.add("ReduceMax", "image", keepdims=0)
    size = builder.add("Exp", builder.add("Add", brightest, builder.constant(25.0)))
    sizes = builder.add("Mul", size, builder.constant(np.array([0, 0, 0, 0, 0, 0, 0, 1.0])))
    if operator == "Pad":
        return builder.finish(builder.add("Pad", "image", builder.add("Cast", sizes, to=7)))
    scale = builder.add("Mul", size, builder.constant(np.array([1, 1, 1, 1.0])))
    return builder.finish(builder.add("Resize", "image", "", scale))


def _make_convolution(kernel: int, channels: int, **attributes: Any) -> Any:
    """Convolve the image with a kernel of zeros."""
    builder = GraphBuilder()
    weights = builder.constant(np.zeros((channels, 3, kernel, kernel)))
    return builder.finish(builder.add("Conv", "image", weights, **attributes))


def _make_many_products(size: int, count: int) -> Any:
    """Multiply a matrix by itself many times; it is made of a column and a row."""
    builder = GraphBuilder()
    column, row = builder.constant(np.ones((size, 1))), builder.constant(np.ones((1, size)))
    number = builder.add("ReduceMean", "image", keepdims=0)
    matrix = result = builder.add("Mul", builder.add("Mul", column, row), number)
    for _ in range(count):
        result = builder.add("MatMul", result, matrix)
    return builder.finish(result)


def _make_many_nodes(operator: str, count: int, size: int) -> Any:
    """Apply an operator many times to a matrix."""
    builder = GraphBuilder()
    column, row = builder.constant(np.ones((size, 1))), builder.constant(np.ones((1, size)))
    result = builder.add(
        "Mul", builder.add("Mul", column, row), builder.add("ReduceMean", "image", keepdims=0)
    )
    for _ in range(count):
        result = builder.add(operator, result)
    return builder.finish(result)


def _make_sparse(dims: list[int], in_graph: bool) -> Any:
    """Use a sparse tensor with one value."""
    builder = GraphBuilder()
    helper = builder.onnx.helper
    values = helper.make_tensor("sparse", builder.onnx.TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("indices", builder.onnx.TensorProto.INT64, [1], [0])
    tensor = helper.make_sparse_tensor(values, indices, dims)
    if not in_graph:
        return builder.finish(builder.add("Constant", sparse_value=tensor))
    model = builder.finish(builder.add("Identity", "sparse"))
    model.graph.sparse_initializer.append(tensor)
    return model


def make_external(location: str, offset: str, length: str) -> Any:
    """Make a model that reads a constant from another file.

    Args:
        location: Path of the file, as the model states it.
        offset: Position of the data in the file.
        length: Size of the data in bytes.
    """
    builder = GraphBuilder()
    model = builder.finish(builder.constant(np.ones((1000, 1000))))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = builder.onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return model


def _make_typed(tensor_type: int, shape: list[int], claimed: list[int]) -> Any:
    """Use a constant whose stated type and shape contradict its data."""
    builder = GraphBuilder()
    model = builder.finish(builder.constant(np.ones(shape)))
    tensor = model.graph.initializer[0]
    tensor.data_type = tensor_type
    del tensor.dims[:]
    tensor.dims.extend(claimed)
    return model


def _make_input(tensor_type: int, shape: list[Any] | None) -> Any:
    """Use an input of any type and shape."""
    builder = GraphBuilder()
    model = builder.finish(builder.constant(1.0))
    info = builder.onnx.helper.make_tensor_value_info("image", tensor_type, shape)
    model.graph.input[0].CopyFrom(info)
    return model


def _change(change: Callable[[Any], None]) -> Any:
    """Change a valid model."""
    builder = GraphBuilder()
    model = builder.finish(builder.constant(1.0))
    change(model)
    return model


def list_hostile_graphs() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield descriptions, and functions that make the models."""
    for operator in ("MatMul", "Mul", "Add", "Where", "Max", "Equal", "Einsum", "Gemm", "Pow"):
        for use_image in (True, False):
            text = f"{operator} of two vectors of {_LONG}, image: {use_image}"
            yield text, partial(_make_outer_product, operator, use_image)
    for operator, length in (
        ("Concat", 45),
        ("Concat of many", 10),
        ("Resize", 40),
        ("Pad", 60),
        ("Gather", 6),
        ("Add", 5),
        ("AveragePool", 3000),
    ):
        yield f"{length} times {operator}", partial(_make_growing_chain, operator, length)
    yield from _list_sizes()
    yield from _list_costs()
    yield from _list_constants_and_inputs()
    for description, change in list_changes():
        yield description, partial(_change, change)


def _list_sizes() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield models that resize, pad or reshape an image to a huge size."""
    huge: tuple[tuple[str, list[Any]], ...] = (
        ("Resize to", [1, 3, 100_000, 100_000]),
        ("Resize to", [1, 3, 2**31, 2**31]),
        ("Resize to", [2**62, 3, 32, 32]),
        ("Resize to", [1, 3, -1, 0]),
        ("Resize by", [1, 1, 1e30, 1]),
        ("Resize by", [1, 1, float("nan"), float("inf")]),
        ("Resize by", [-1, 0, 1000, 1000]),
        ("Resize by", [1, 1, 3000, 3000]),
        ("Pad", [0, 0, 0, 0, 0, 0, 2**62, 2**62]),
        ("Pad", [0, 0, 50_000, 50_000, 0, 0, 0, 0]),
        ("Pad", [0, 0, -50, -50, 0, 0, 0, 0]),
        ("Reshape", [-1, 2**40]),
        ("Reshape", [0, 0, 0, 0, 0, 0, 0, 0]),
        ("Reshape", [-(2**63)]),
        ("Reshape", [1] * 1000 + [-1]),
    )
    for operator, sizes in huge:
        yield f"{operator} {sizes[:8]}", partial(_make_huge_target, operator, sizes)
    for operator in ("Pad", "Resize"):
        yield f"{operator}: size from a pixel", partial(_make_size_from_pixels, operator)


def _list_costs() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield models with convolutions, products and chains that take a long time."""
    yield "Conv: pads", partial(_make_convolution, 3, 8, pads=[20_000] * 4)
    yield "Conv: pads 2^62", partial(_make_convolution, 3, 8, pads=[2**62] * 4)
    yield "Conv: stride 0", partial(_make_convolution, 3, 8, strides=[0, 0])
    yield "Conv: dilation", partial(_make_convolution, 3, 8, dilations=[2**31, 2**31])
    yield "Conv: group 0", partial(_make_convolution, 3, 8, group=0)
    yield "Conv: group -1", partial(_make_convolution, 3, 8, group=-1)
    yield "Conv: cost", partial(_make_convolution, 200, 16, pads=[1500] * 4)
    yield "products", partial(_make_many_products, 4000, 2000)
    for operator in ("Erf", "Identity", "Tanh", "Transpose"):
        yield f"10,000 times {operator}", partial(_make_many_nodes, operator, 10_000, 3000)
    yield "60,000 nodes", partial(_make_many_nodes, "Relu", 60_000, 1)


def _list_constants_and_inputs() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield models with odd constants and inputs."""
    for dims in ([2**20, 2**20], [2**40], [2**62, 4], [100_000, 30_000]):
        for in_graph in (True, False):
            yield f"sparse {dims} {in_graph}", partial(_make_sparse, dims, in_graph)
    for location in (
        "/dev/zero",
        "../../../../etc/passwd",
        "/etc/passwd",
        "a.onnx",
        HOSTILE_TEXT[:3],
    ):
        for length in ("4000000", "99999999999", "-1", "x"):
            yield f"data in {location!a}", partial(make_external, location, "0", length)
    for tensor_type in (0, 1, 2, 8, 9, 10, 11, 14, 16, 17, 21, 22, 23, 99):
        yield f"constant type {tensor_type}", partial(_make_typed, tensor_type, [4], [4])
        yield f"input type {tensor_type}", partial(_make_input, tensor_type, [1, 3, 32, 32])
    for claimed in ([2**40], [2**62, 8], [-1], [0], [2, -2], [], [1] * 3000, [2**32, 2**32]):
        yield f"constant shape {claimed[:4]}", partial(_make_typed, 1, [4], claimed)
    shapes: tuple[list[Any] | None, ...] = (None, [], [1], [1] * 9, [0, 3, 32, 32], [-1, 3, 32, 32])
    shapes += (
        ["a", "a", "a", "a"],
        [1, 3, 2**62, 32],
        [HOSTILE_TEXT[:5], 3, "h", "w"],
        [1, 3, 0, 0],
    )
    for shape in shapes:
        yield f"input shape {shape!a:.60}", partial(_make_input, 1, shape)
