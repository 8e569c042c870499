"""Models as the onnx package reads and writes them, without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinyvit.bench.onnx_protobuf import one_product, read_graph, with_names

ort = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    ("kind", "taken", "given"),
    [("MatMul", np.float32, "float32"), ("MatMulInteger", np.uint8, "int32")],
)
def test_a_product_is_one(kind: str, taken: type, given: str) -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(-63, 64, (40, 300)).astype(
        np.int8 if kind == "MatMulInteger" else np.float32
    )
    x = rng.integers(0, 256, (7, 40)).astype(taken)
    session = ort.InferenceSession(
        one_product(kind, 7, weights, x.dtype.name, given), providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"x": x})
    assert np.array_equal(y, x.astype(np.int64) @ weights.astype(np.int64))


def test_a_graph_is_read_as_onnx_reads_it(demo: dict[str, Path]) -> None:
    onnx = pytest.importorskip("onnx")
    named = with_names(demo["onnx"].read_bytes())
    model, found = onnx.load_from_string(named), read_graph(named)
    assert (
        list(found.nodes)
        == [node.name for node in model.graph.node]
        == [f"node{i}" for i in range(len(model.graph.node))]
    )
    for node in model.graph.node:
        assert found.nodes[node.name].inputs == tuple(node.input)
        assert found.nodes[node.name].numbers == {
            a.name: a.i for a in node.attribute if a.type == onnx.AttributeProto.INT
        }
    assert found.sizes == {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    original = onnx.load(demo["onnx"])
    for node in (*original.graph.node, *model.graph.node):
        node.name = ""
    assert model == original


@pytest.mark.parametrize("data", [b"\x07", b"\xff" * 40, b"\x3a\x7f\x00"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"field|number|byte"):
        read_graph(data)
