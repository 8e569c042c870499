from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyvit
from tinyvit.bench import kernel_profile as kernels
from tinyvit.bench.kernel_profile import profile_kernels
from tinyvit.errors import ArtifactError, RequestError

onnx = pytest.importorskip("onnx")
ENGINES = ["onnxruntime", "openvino"]


class Graph:
    """A small file, built node by node: every method gives the name of a value."""

    def __init__(self) -> None:
        self.nodes, self.constants = [], []
        self.rng = np.random.default_rng(0)

    def constant(self, value: Any) -> str:
        self.constants.append(
            onnx.numpy_helper.from_array(np.asarray(value), f"c{len(self.constants)}")
        )
        return self.constants[-1].name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(
            onnx.helper.make_node(kind, inputs, [f"v{len(self.nodes)}"], **attributes)
        )  # without names: files may
        return self.nodes[-1].output[0]

    def rounded(self, value: str, kind: Any = np.uint8) -> str:
        """Through 8-bit integers and back."""
        how = (self.constant(np.float32(0.05)), self.constant(kind(128 if kind == np.uint8 else 0)))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", value, *how), *how)

    def weights(self, *shape: int) -> str:
        """int8, one scale for each of the first axis."""
        integers, zeros = self.rng.integers(-63, 64, shape, np.int8), np.zeros(shape[0], np.int8)
        names = map(self.constant, (integers, np.full(shape[0], 0.01, np.float32), zeros))
        return self.add("DequantizeLinear", *names, axis=0)

    def bias(self, size: int, is_float: bool) -> str:
        if is_float:
            return self.constant(np.ones(size, np.float32))
        names = map(
            self.constant,
            (np.ones(size, np.int32), np.full(size, 0.0005, np.float32), np.zeros(size, np.int32)),
        )
        return self.add("DequantizeLinear", *names, axis=0)

    def save(self, path: Path, shape: tuple, out: tuple) -> Path:
        self.nodes[-1].output[0] = "y"
        ends = [
            [onnx.helper.make_tensor_value_info(name, 1, size)]
            for name, size in (("x", shape), ("y", out))
        ]
        graph = onnx.helper.make_graph(self.nodes, "test", *ends, self.constants)
        onnx.save(
            onnx.helper.make_model(
                graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
            ),
            path,
        )
        return path


def linear(path: Path, float_bias: bool) -> Path:
    """Two linear layers, 64 -> 48 -> 10, in 8-bit integers, the second's result float32; its bias in float32 or not."""
    graph = Graph()
    hidden = graph.add(
        "Gemm", graph.rounded("x"), graph.weights(48, 64), graph.bias(48, False), transB=1
    )
    graph.add(
        "Gemm", graph.rounded(hidden), graph.weights(10, 48), graph.bias(10, float_bias), transB=1
    )
    return graph.save(path, ("batch", 64), ("batch", 10))


def attention(path: Path, products: int) -> Path:
    """(x x') softmax x of 4 heads, 49 tokens, 32 wide, the first 0, 1 or 2 `products` of 8-bit integers."""
    graph = Graph()
    query, key, value = (
        graph.add("Mul", "x", graph.constant(np.float32(0.5 + i))) for i in range(3)
    )
    if products > 0:
        query, key = graph.rounded(query, np.int8), graph.rounded(key, np.int8)
    scores = graph.add(
        "Softmax",
        graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 1, 3, 2])),
        axis=-1,
    )
    if products > 1:
        scores, value = graph.rounded(scores, np.int8), graph.rounded(value, np.int8)
    graph.add("MatMul", scores, value)
    return graph.save(path, (1, 4, 49, 32), (1, 4, 49, 32))


def convolutions(path: Path, rounded: bool) -> Path:
    """A 3 x 3 and a grouped convolution; without activations in integers, their int8 weights are only stored so."""
    graph = Graph()
    value = graph.rounded("x") if rounded else "x"
    value = graph.add(
        "Conv", value, graph.weights(16, 8, 3, 3), graph.bias(16, False), pads=[1] * 4
    )
    value = graph.rounded(value) if rounded else value
    value = graph.add(
        "Conv",
        value,
        graph.weights(16, 1, 3, 3),
        graph.bias(16, False),
        pads=[1] * 4,
        strides=[2, 2],
        group=16,
    )
    if rounded:
        graph.rounded(value)
    return graph.save(path, (1, 8, 20, 20), (1, 16, 10, 10))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return request.param


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_every_multiply_accumulate_of_the_network_is_found(format, demo):
    from tinyvit.nn.checkpoint import load_checkpoint
    from tinyvit.nn.cost import count_macs

    there = count_macs(
        load_checkpoint(Path(tinyvit.__file__).with_name("data") / "demo.safetensors")
        .build()
        .eval()
    )
    found = profile_kernels(demo[format])
    assert found.engine == {"onnx": "onnxruntime", "openvino": "openvino"}[format]
    assert (found.int8_macs, found.float_macs) == (0, there)
    assert found.share == 0
    assert sum(kernel.ms for kernel in found.kernels) > 1


def test_integer_layers_are_told_from_float_ones(engine, tmp_path):
    found = profile_kernels(linear(tmp_path / "a.onnx", float_bias=False), runtime=engine)
    assert (found.int8_macs, found.float_macs) == (64 * 48 + 48 * 10, 0)
    assert found.share == 1


def test_a_float_bias_stops_onnxruntime_and_the_share_says_so(tmp_path):
    """Both files have the same quantize and dequantize nodes around their products."""
    found = profile_kernels(linear(tmp_path / "a.onnx", float_bias=True), runtime="onnxruntime")
    assert (found.int8_macs, found.float_macs) == (64 * 48, 48 * 10)
    assert {kernel.name: kernel.is_integer for kernel in found.kernels if kernel.macs} == {
        "QGemm": True,
        "Gemm": False,
    }


@pytest.mark.parametrize("rounded", [False, True])
def test_convolutions_by_their_groups_and_strides(engine, rounded, tmp_path):
    found = profile_kernels(convolutions(tmp_path / "a.onnx", rounded), runtime=engine)
    macs = 20 * 20 * 16 * 8 * 9 + 10 * 10 * 16 * 9
    assert (found.int8_macs, found.float_macs) == ((macs, 0) if rounded else (0, macs))


@pytest.mark.parametrize("products", [0, 1, 2])
def test_each_product_of_an_attention_counts_by_itself(engine, products, tmp_path):
    found = profile_kernels(attention(tmp_path / "a.onnx", products), runtime=engine)
    assert found.int8_macs + found.float_macs == 2 * 4 * 49 * 49 * 32
    assert found.share == products / 2


def test_what_cannot_be_asked_or_opened_is_told(tmp_path, demo):
    with pytest.raises(RequestError, match="--runtime onnxruntime or openvino"):
        profile_kernels(demo["onnx"], runtime="other")
    with pytest.raises(RequestError, match="use --runtime openvino"):
        profile_kernels(demo["openvino"], runtime="onnxruntime")
    with pytest.raises(ArtifactError):
        profile_kernels(tmp_path / "none.onnx")


def test_the_command_prints_a_table_or_json(engine, tmp_path, capsys):
    path = str(linear(tmp_path / "a.onnx", float_bias=False))
    assert kernels.main([path, "--runtime", engine]) == 0
    assert "100.0% of 0 million" in capsys.readouterr().out
    assert kernels.main([path, "--runtime", engine, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["share"], said["engine"]) == (1, engine)
    assert sum(kernel["macs"] for kernel in said["kernels"]) == said["int8_macs"]
