"""ONNX models are read and written without the onnx package, as that package does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinyvit.bench.onnx_protobuf import (
    build_matrix_product_model,
    read_graph,
    with_unique_node_names,
)

ort = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    ("op_type", "weight_dtype", "input_dtype", "output_dtype"),
    [
        ("MatMul", "float32", "float32", "float32"),
        ("MatMulInteger", "int8", "uint8", "int32"),
    ],
)
def test_matrix_product_model_multiplies(
    op_type: str, weight_dtype: str, input_dtype: str, output_dtype: str
) -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(-63, 64, (40, 300)).astype(weight_dtype)
    x = rng.integers(0, 256, (7, 40)).astype(input_dtype)
    model = build_matrix_product_model(op_type, 7, weights, input_dtype, output_dtype)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    assert y.dtype == output_dtype
    assert np.array_equal(y, x.astype(np.int64) @ weights.astype(np.int64))


def test_matrix_product_model_is_valid_onnx() -> None:
    onnx = pytest.importorskip("onnx")
    model = build_matrix_product_model(
        "MatMul", 7, np.ones((4, 3), np.float32), "float32", "float32"
    )
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)


def test_graph_is_read_as_onnx_reads_it(demo: dict[str, Path]) -> None:
    onnx = pytest.importorskip("onnx")
    named = with_unique_node_names(demo["onnx"].read_bytes())
    model, graph = onnx.load_from_string(named), read_graph(named)
    names = [node.name for node in model.graph.node]
    assert list(graph.nodes) == names == [f"node{i}" for i in range(len(names))]
    for node in model.graph.node:
        assert graph.nodes[node.name].inputs == tuple(node.input)
        assert graph.nodes[node.name].int_attributes == {
            attribute.name: attribute.i
            for attribute in node.attribute
            if attribute.type == onnx.AttributeProto.INT
        }
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert graph.constant_shapes == shapes
    original = onnx.load(demo["onnx"])
    for node in (*original.graph.node, *model.graph.node):
        node.name = ""
    assert model == original


def test_negative_attributes_and_duplicate_names_are_read() -> None:
    onnx = pytest.importorskip("onnx")
    nodes = [
        onnx.helper.make_node("Softmax", ["x"], ["a"], name="same", axis=-1),
        onnx.helper.make_node("Softmax", ["a"], ["y"], name="same", axis=1),
    ]
    graph = onnx.helper.make_graph(nodes, "test", [], [])
    model = onnx.helper.make_model(graph).SerializeToString()
    nodes_by_name = read_graph(with_unique_node_names(model)).nodes
    assert [node.int_attributes["axis"] for node in nodes_by_name.values()] == [-1, 1]


def test_integers_are_read_without_value_or_without_type() -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.NodeProto(op_type="Softmax", name="node")
    # A writer may omit a 0, and the first version of ONNX had no types.
    node.attribute.add(name="zero", type=onnx.AttributeProto.INT)
    node.attribute.add(name="untyped", i=3)
    node.attribute.add(name="float", type=onnx.AttributeProto.FLOAT, f=1.0)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "test", [], []))
    graph = read_graph(model.SerializeToString())
    assert graph.nodes["node"].int_attributes == {"zero": 0, "untyped": 3}


@pytest.mark.parametrize("data", [b"\x07", b"\xff" * 40, b"\x3a\x7f\x00"])
def test_bytes_that_are_not_a_message_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="the bytes are not an ONNX message"):
        read_graph(data)
    with pytest.raises(ValueError, match="the bytes are not an ONNX message"):
        with_unique_node_names(data)
