"""LiteRT artifacts compute what torch computes, entirely in XNNPACK, and describe themselves."""

from __future__ import annotations

import dataclasses
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("litert_torch")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnx")

import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tests.helpers.demo_network import (
    ATTENTION_BLOCKS,
    SIZE,
    compute_exact_logits,
    compute_relative_error,
    load_small_demo,
    make_demo_manifest,
    make_noise_input,
    make_noise_pixels,
)
from tests.helpers.tflite_metadata import read_tflite_metadata
from tinyvit.errors import RequestError
from tinyvit.export.targets.litert.flatbuffer import BUFFER_ALIGNMENT, find_operator_kind
from tinyvit.export.targets.litert.metadata import METADATA_NAME
from tinyvit.export.targets.litert.passes import (
    expand_layer_norm,
    fold_gathers,
    store_constants_as_float16,
)
from tinyvit.export.targets.litert.target import TARGET
from tinyvit.export.targets.litert.writer import LiteRtModel
from tinyvit.export.tracing import Graph, trace
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import Precision
from tinyvit.quant.quantized_network import QuantizedLayer, quantize_network
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines.litert import ENGINE

DEMO = load_small_demo()
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")
ONE_THREAD = RuntimeOptions(threads=1)

INT8_LAYERS = {"FULLY_CONNECTED": 6 * ATTENTION_BLOCKS, "CONV_2D": 9, "DEPTHWISE_CONV_2D": 1}
FLOAT32_LAYERS = {"FULLY_CONNECTED": 1, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 3 + ATTENTION_BLOCKS}
"""Layers of an int8 file. The first convolution, later depthwise convolutions and the classifier
stay float32 (`quant_scheme.FLOAT_LAYERS`)."""


@pytest.fixture(scope="module")
def networks(demo_network: Any, demo_recipe: Recipe) -> dict[str, Any]:
    """The network of each precision."""
    int8 = quantize_network(demo_network, demo_recipe, TARGET.scheme)
    return {"float32": demo_network, "float16": demo_network, "int8": int8}


@pytest.fixture(scope="module")
def models(demo_graph: Graph, networks: dict[str, Any]) -> dict[str, LiteRtModel]:
    """The lowered network of each precision."""
    graphs = {"float32": demo_graph, "float16": demo_graph, "int8": trace(networks["int8"])}
    return {
        precision: TARGET.lower(graphs[precision], DEMO.preprocess, "host", precision)
        for precision in PRECISIONS
    }


@pytest.fixture(scope="module")
def files(
    models: dict[str, LiteRtModel], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """One .tflite file of each precision."""
    folder = tmp_path_factory.mktemp("litert")
    for precision in PRECISIONS:
        path = folder / f"{precision}.tflite"
        manifest = make_demo_manifest("litert", precision)
        assert models[precision].save(path, manifest) == [path]
    return {precision: folder / f"{precision}.tflite" for precision in PRECISIONS}


def read_model(path: Path) -> Any:
    return schema.ModelT.InitFromPackedBuf(path.read_bytes())


def name_constants(enumeration: Any) -> dict[int, str]:
    """Return value -> name of one of the schema's enumerations."""
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def count_operators(model: Any) -> Counter[str]:
    """Count operators by kind and by the type of their result, such as "GELU FLOAT32"."""
    kinds, types = name_constants(schema.BuiltinOperator), name_constants(schema.TensorType)
    graph = model.subgraphs[0]
    return Counter(
        f"{kinds[find_operator_kind(model, operator)]} "
        f"{types[graph.tensors[operator.outputs[0]].type]}"
        for operator in graph.operators
    )


def channels_last(image: np.ndarray) -> np.ndarray:
    return image.transpose(0, 2, 3, 1)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("int8", 0.1)])
def test_logits_equal_the_network(
    files: dict[str, Path], networks: dict[str, Any], precision: str, tolerance: float
) -> None:
    # The largest logit for noise is 0.5, so a few int8 values that are rounded to the other side
    # change 8% of it.
    with ENGINE.open(Artifact(files[precision], None), ONE_THREAD) as runtime:
        image, logits = runtime.inputs[0], runtime.outputs[0]
        assert (image.name, image.shape, image.layout) == ("image", (1, SIZE, SIZE, 3), "NHWC")
        assert (logits.name, logits.shape) == ("logits", (1, 12))
        for seed in range(3):
            expected = compute_exact_logits(networks[precision], make_noise_input(seed))
            actual = runtime.run(channels_last(make_noise_input(seed)))
            assert compute_relative_error(actual, expected) < tolerance


@pytest.mark.parametrize("precision", PRECISIONS)
def test_xnnpack_takes_the_whole_network(files: dict[str, Path], precision: str) -> None:
    interpreter = Interpreter(str(files[precision]))
    interpreter.allocate_tensors()
    delegates = [node for node in interpreter._get_ops_details() if node["op_name"] == "DELEGATE"]
    assert len(delegates) == 1
    assert set(delegates[0]["outputs"]) == {interpreter.get_output_details()[0]["index"]}
    assert interpreter.get_input_details()[0]["index"] in delegates[0]["inputs"]


def test_every_layer_of_the_recipe_is_in_integers(files: dict[str, Path]) -> None:
    counts = count_operators(read_model(files["int8"]))
    assert {name: counts[f"{name} INT8"] for name in INT8_LAYERS} == INT8_LAYERS
    assert {name: counts[f"{name} FLOAT32"] for name in FLOAT32_LAYERS} == FLOAT32_LAYERS
    assert counts["GELU INT8"] == 0, "XNNPACK does not take it"
    assert counts["GELU FLOAT32"] == 10 + ATTENTION_BLOCKS


def test_scales_are_those_of_the_recipe(files: dict[str, Path], demo_recipe: Recipe) -> None:
    recipe_scales = {np.float32(scale) for scale in demo_recipe.scales.values()}
    file_scales = {
        np.float32(tensor.quantization.scale[0])
        for tensor in read_model(files["int8"]).subgraphs[0].tensors
        if tensor.type == schema.TensorType.INT8
        and tensor.quantization.scale is not None
        and len(tensor.quantization.scale) == 1
    }
    assert len(file_scales) > 50
    assert file_scales <= recipe_scales


def tflite_weight_bytes(layer: QuantizedLayer) -> bytes:
    """Return the 8-bit weights of a layer in TensorFlow Lite's order of axes."""
    weight = layer.weight.numpy()
    if layer.convolution is not None:
        is_depthwise = layer.convolution[2] > 1
        weight = weight.transpose((1, 2, 3, 0) if is_depthwise else (0, 2, 3, 1))
    return np.ascontiguousarray(weight).tobytes()


def test_weights_are_the_recipes_integers(files: dict[str, Path], networks: dict[str, Any]) -> None:
    model = read_model(files["int8"])
    stored = {
        bytes(model.buffers[tensor.buffer].data)
        for tensor in model.subgraphs[0].tensors
        if tensor.type == schema.TensorType.INT8
        and tensor.buffer
        and model.buffers[tensor.buffer].data is not None
    }
    layers = [x for x in networks["int8"].modules() if isinstance(x, QuantizedLayer)]
    assert len(layers) == 34
    assert {tflite_weight_bytes(layer) for layer in layers} <= stored


class TwoNorms(torch.nn.Module):
    """A LayerNorm without weight and bias, and one with both."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = torch.nn.LayerNorm(8, 1e-3, elementwise_affine=False)
        self.scaled = torch.nn.LayerNorm(8)
        torch.nn.init.normal_(self.scaled.weight)
        torch.nn.init.normal_(self.scaled.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = self.scaled(self.plain(x) * 3)
        return scaled


def test_layer_norms_become_seven_operators() -> None:
    norms, x = TwoNorms().eval(), torch.randn(5, 8)
    network = torch.export.export(norms, (x,)).module()
    expand_layer_norm(network)
    assert torch.allclose(network(x), norms(x), atol=1e-6)
    calls = [node for node in network.graph.nodes if node.op == "call_function"]
    assert not any(node.target is torch.ops.aten.layer_norm.default for node in calls)
    # Two norms, one weight and one bias, and the multiplication between the norms.
    assert sum("aten" in str(node.target) for node in calls) == 2 * 7 + 2 + 1


class Gathers(torch.nn.Module):
    """Gathers columns of a constant, as attention does with its biases, and of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(3, 8))
        self.register_buffer("index", torch.tensor([7, 0, 0, 3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both gathers."""
        assert isinstance(self.index, torch.Tensor)
        return self.table.index_select(1, self.index) + x.index_select(1, self.index)


def test_gathers_of_constants_become_constants() -> None:
    gathers, x = Gathers().eval(), torch.randn(3, 8)
    network = torch.export.export(gathers, (x,)).module()
    fold_gathers(network)
    assert torch.equal(network(x), gathers(x))
    (remaining,) = [
        node for node in network.graph.nodes if node.target is torch.ops.aten.index_select.default
    ]
    assert remaining.args[0].op == "placeholder"


@pytest.mark.slow
def test_same_network_gives_the_same_bytes(
    files: dict[str, Path], models: dict[str, LiteRtModel], demo_graph: Graph, tmp_path: Path
) -> None:
    saved_again, lowered_again = tmp_path / "saved.tflite", tmp_path / "lowered.tflite"
    models["int8"].save(saved_again, make_demo_manifest("litert", "int8"))
    assert saved_again.read_bytes() == files["int8"].read_bytes()
    model = TARGET.lower(demo_graph, DEMO.preprocess, "host", "float32")
    model.save(lowered_again, make_demo_manifest("litert"))
    assert lowered_again.read_bytes() == files["float32"].read_bytes()


def test_file_has_no_traces_of_the_converter(files: dict[str, Path]) -> None:
    model = read_model(files["float32"])
    names = {tensor.name for tensor in model.subgraphs[0].tensors}
    assert {name for name in names if not name.startswith(b"t")} == {b"image", b"logits"}
    metadata_names = {entry.name for entry in model.metadata}
    assert metadata_names == {b"min_runtime_version", METADATA_NAME.encode()}
    assert b"site-packages" not in files["float32"].read_bytes()


def test_buffers_are_aligned(files: dict[str, Path]) -> None:
    model = schema.Model.GetRootAs(files["int8"].read_bytes(), 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    starts = [
        buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()
    ]
    assert len(starts) > 100
    assert not any(start % BUFFER_ALIGNMENT for start in starts)


@pytest.mark.slow
def test_a_file_takes_pixels_and_nothing_is_printed(
    demo_network: Any, demo_graph: Graph, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pixels.tflite"
    capfd.readouterr()
    model = TARGET.lower(demo_graph, DEMO.preprocess, "normalize", "float32")
    model.save(path, make_demo_manifest("litert", embedded_preprocessing="normalize"))
    assert capfd.readouterr() == ("", "")
    with ENGINE.open(Artifact(path, None), ONE_THREAD) as runtime, torch.no_grad():
        image = runtime.inputs[0]
        assert (image.shape, image.dtype, image.layout) == ((1, SIZE, SIZE, 3), "uint8", "NHWC")
        normalized = DEMO.preprocess.normalize(make_noise_pixels())
        expected = demo_network(torch.from_numpy(normalized)).numpy()
        assert compute_relative_error(runtime.run(make_noise_pixels()), expected) < 1e-5
    assert count_operators(read_model(path))["CAST FLOAT32"] == 0, "XNNPACK does not take it"
    assert read_tflite_metadata(path)["mean"] == (0, 0, 0)


def test_float16_is_half_the_size_and_close(
    files: dict[str, Path], models: dict[str, LiteRtModel], networks: dict[str, Any], tmp_path: Path
) -> None:
    path, saved_again = files["float16"], tmp_path / "again.tflite"
    models["float16"].save(saved_again, make_demo_manifest("litert", "float16"))
    assert path.read_bytes() == saved_again.read_bytes()
    assert path.stat().st_size < 0.52 * files["float32"].stat().st_size
    with ENGINE.open(Artifact(path, None), ONE_THREAD) as runtime, torch.no_grad():
        expected = networks["float16"](torch.from_numpy(make_noise_input())).numpy()
        error = compute_relative_error(runtime.run(channels_last(make_noise_input())), expected)
    assert 0 < error < 5e-3


def test_only_large_constants_become_float16(files: dict[str, Path]) -> None:
    model = read_model(files["int8"])
    float32_sizes = {
        i: len(model.buffers[tensor.buffer].data)
        for i, tensor in enumerate(model.subgraphs[0].tensors)
        if tensor.type == schema.TensorType.FLOAT32
        and model.buffers[tensor.buffer].data is not None
    }
    min_bytes = sorted(float32_sizes.values())[len(float32_sizes) // 2]
    float16_before = find_float16_tensors(model)
    dequantizations_before = count_operators(model)["DEQUANTIZE FLOAT32"]
    store_constants_as_float16(model, min_bytes)
    changed = {i for i, size in float32_sizes.items() if size >= min_bytes}
    assert find_float16_tensors(model) - float16_before == changed
    dequantizations = count_operators(model)["DEQUANTIZE FLOAT32"] - dequantizations_before
    assert dequantizations == len(changed)


def test_tensors_that_share_a_buffer_become_float16_with_equal_values() -> None:
    values = np.linspace(-2, 2, 16, dtype=np.float32)
    model, graph, buffer = schema.ModelT(), schema.SubGraphT(), schema.BufferT()
    buffer.data = values.view(np.uint8)
    model.buffers, model.subgraphs, model.operatorCodes = [buffer], [graph], []
    graph.operators, graph.tensors = [], [schema.TensorT(), schema.TensorT()]
    for tensor in graph.tensors:
        tensor.shape, tensor.type, tensor.buffer = [16], schema.TensorType.FLOAT32, 0
    store_constants_as_float16(model, min_bytes=1)
    assert find_float16_tensors(model) == {0, 1}
    assert np.array_equal(buffer.data.view(np.float16), values.astype(np.float16))


def find_float16_tensors(model: Any) -> set[int]:
    tensors = enumerate(model.subgraphs[0].tensors)
    return {i for i, tensor in tensors if tensor.type == schema.TensorType.FLOAT16}


def test_metadata_describe_the_input_and_the_labels(files: dict[str, Path]) -> None:
    metadata, preprocess = read_tflite_metadata(files["int8"]), DEMO.preprocess
    assert metadata["names"] == (DEMO.name, "image", "logits")
    assert metadata["file"] == ("labels.txt", 2), "TENSOR_AXIS_LABELS"
    assert metadata["mean"] == pytest.approx([255 * value for value in preprocess.mean])
    assert metadata["std"] == pytest.approx([255 * value for value in preprocess.std])


def test_manifest_is_in_an_archive_behind_the_model(files: dict[str, Path]) -> None:
    with zipfile.ZipFile(files["int8"]) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["labels.txt", "tinyvit.json"]
        labels = archive.read("labels.txt").decode().splitlines()
        assert labels == [label.name for label in DEMO.labels]
        assert Manifest.from_json(archive.read("tinyvit.json").decode()).precision == "int8"


def test_unsupported_requests_are_refused() -> None:
    graph = Graph(None, SIZE, 10, 1, 20)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="resize"):
        TARGET.lower(graph, DEMO.preprocess, "full", "float32")
    open_graph = dataclasses.replace(graph, batch=None)
    with pytest.raises(RequestError, match="fixed number"):
        TARGET.lower(open_graph, DEMO.preprocess, "host", "float32")
    assert set(TARGET.unsupported) == {"int8-weights", "full"}
