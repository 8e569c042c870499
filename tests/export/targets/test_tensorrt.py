"""TensorRT artifacts are built from correct ONNX models, and impossible builds are refused."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers.install_commands import install_command

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx

from tests.helpers.demo_network import (
    ATTENTION_BLOCKS,
    SIZE,
    compute_exact_logits,
    compute_relative_error,
    load_small_demo,
    make_demo_manifest,
)
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.export.passes.product_macs import count_product_macs
from tinyvit.export.targets import get_target
from tinyvit.export.targets.tensorrt.engine_builder import (
    BuildConfig,
    EnginePlan,
    build_engine,
    parse_inspector_json,
)
from tinyvit.export.targets.tensorrt.options import TensorRtOptions
from tinyvit.export.targets.tensorrt.target import TARGET, TensorRtTarget
from tinyvit.export.targets.tensorrt.writer import TensorRtModel
from tinyvit.export.tracing import Graph, trace
from tinyvit.golden import CHIRP_PATTERNS, make_golden_input
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import Precision, Quantization
from tinyvit.quant.quantized_network import quantize_network
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes import cuda

PREPROCESS = load_small_demo().preprocess
RTX = TensorRtTarget(TensorRtOptions("rtx"))
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")

Images = npt.NDArray[Any]


@pytest.fixture(scope="module")
def quantized_network(demo_network: Any, demo_recipe: Recipe) -> Any:
    return quantize_network(demo_network, demo_recipe, TARGET.scheme).eval()


@pytest.fixture(scope="module")
def graphs(demo_graph: Graph, quantized_network: Any) -> dict[str, Graph]:
    """The graph that each precision is built from."""
    return {"float32": demo_graph, "float16": demo_graph, "int8": trace(quantized_network)}


@pytest.fixture(scope="module")
def rtx_models(graphs: dict[str, Graph]) -> dict[str, TensorRtModel]:
    """One engine of each precision, built by TensorRT-RTX."""
    pytest.importorskip("tensorrt_rtx", reason="builds engines")
    return {name: RTX.lower(graphs[name], PREPROCESS, "host", name) for name in PRECISIONS}


@pytest.fixture
def requires_rtx() -> None:
    """Skip where TensorRT-RTX is not installed."""
    pytest.importorskip("tensorrt_rtx", reason="builds engines")


def make_manifest(precision: Precision, batch: int | None = 1) -> Manifest:
    manifest = make_demo_manifest("tensorrt", precision, batch=batch)
    if precision != "int8":
        return manifest
    record = Quantization("", "", 8, "", 7, "any", (), trials=("a trial",))
    return dataclasses.replace(manifest, quantization=record)


def golden_pixels() -> Images:
    return np.stack([make_golden_input(seed, SIZE, SIZE) for seed in CHIRP_PATTERNS])


def golden_images() -> Images:
    return np.stack([PREPROCESS.normalize(pixels) for pixels in golden_pixels()])


def run_in_onnxruntime(model: bytes, images: Images) -> Images:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-5), ("float16", 0.01), ("int8", 0.05)]
)
def test_parity_model_computes_the_network(
    graphs: dict[str, Graph],
    demo_network: Any,
    quantized_network: Any,
    precision: Precision,
    tolerance: float,
) -> None:
    network = quantized_network if precision == "int8" else demo_network
    expected = compute_exact_logits(network, golden_images())
    model = TARGET.make_parity_model(graphs[precision], PREPROCESS, "host", precision)
    assert compute_relative_error(run_in_onnxruntime(model, golden_images()), expected) < tolerance
    assert np.ptp(expected) > 1


def test_only_a_cast_reads_pixels(graphs: dict[str, Graph]) -> None:
    """TensorRT refuses every other operator on uint8."""
    model = TARGET.make_parity_model(graphs["float32"], PREPROCESS, "normalize", "float32")
    first = onnx.load_from_string(model).graph.node[0]
    assert (first.op_type, list(first.input)) == ("Cast", ["image"])
    host_model = TARGET.make_parity_model(graphs["float32"], PREPROCESS, "host", "float32")
    expected = run_in_onnxruntime(host_model, golden_images())
    assert compute_relative_error(run_in_onnxruntime(model, golden_pixels()), expected) < 1e-4


def test_int8_model_has_the_types_that_tensorrt_takes(graphs: dict[str, Graph]) -> None:
    """8-bit integers are symmetric int8; all floats are float16 except the input and output."""
    model = onnx.load_from_string(
        TARGET.make_parity_model(graphs["int8"], PREPROCESS, "host", "int8")
    )
    assert {tensor.data_type for tensor in model.graph.initializer} == {
        onnx.TensorProto.INT8,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT32,
        onnx.TensorProto.INT64,
    }
    constants = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer
    }
    assert Counter(node.op_type for node in model.graph.node)["QuantizeLinear"] > 0
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert (constants[node.input[1]] > 0).all()
            assert not constants[node.input[2]].any()
        groups = [attribute.i for attribute in node.attribute if attribute.name == "group"]
        if node.op_type == "Conv" and groups and groups[0] > 1:
            weight = constants[node.input[1]]
            assert weight.dtype == np.float16, "TensorRT pads depthwise int8 weights"


def test_scales_too_small_for_float16_stay_positive(demo_recipe: Recipe, demo_network: Any) -> None:
    network = quantize_network(demo_network, demo_recipe, TARGET.scheme).eval()
    name, layer = next(
        (name, module) for name, module in network.named_modules() if hasattr(module, "scales")
    )
    layer.scales.data[0] = 1e-12
    model = TARGET.make_parity_model(trace(network), PREPROCESS, "host", "int8")
    constants = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load_from_string(model).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT16
    ]
    assert any(
        constant.size == len(layer.scales) and constant.ravel()[0] == np.float16(2.0**-24)
        for constant in constants
    ), name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rtx_builds_reproducible_engines_without_a_gpu(
    rtx_models: dict[str, TensorRtModel],
    graphs: dict[str, Graph],
    tmp_path: Path,
    precision: Precision,
) -> None:
    model, path = rtx_models[precision], tmp_path / f"demo{RTX.suffix}"
    manifest = model.add_to_manifest(make_manifest(precision))
    written = model.save(path, manifest)
    assert [file.name for file in written] == ["demo.rtx.engine.json", "demo.rtx.engine"]
    assert path.read_bytes().startswith(b"vtrt")
    saved_manifest = Manifest.from_json(written[0].read_text())
    assert saved_manifest.is_intact
    assert saved_manifest == manifest
    rebuilt = RTX.lower(graphs[precision], PREPROCESS, "host", precision)
    assert rebuilt.plan.data == path.read_bytes()


def test_engine_is_built_once(graphs: dict[str, Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lowering builds the engine; saving it and asking about it does not."""
    from tinyvit.export.targets.tensorrt import target as target_module

    configs: list[BuildConfig] = []

    def fake_build(model: bytes, config: BuildConfig) -> EnginePlan:
        configs.append(config)
        return EnginePlan(b"vtrt", "1.0", ())

    monkeypatch.setattr(target_module, "build_engine", fake_build)
    monkeypatch.setattr(cuda, "import_tensorrt", lambda flavor: None)
    model = RTX.lower(graphs["int8"], PREPROCESS, "host", "int8")
    model.add_to_manifest(make_manifest("int8"))
    model.notes("int8")
    assert [config.allow_tf32 for config in configs] == [True]


def test_int8_engine_computes_the_recipes_layers_in_integers(
    rtx_models: dict[str, TensorRtModel], graphs: dict[str, Graph]
) -> None:
    """Exactly the layers whose input and weights are quantized take 8-bit integers."""
    onnx_model = TARGET.make_parity_model(graphs["int8"], PREPROCESS, "host", "int8")
    nodes = onnx.load_from_string(onnx_model).graph.node
    dequantized = {
        output for node in nodes if node.op_type == "DequantizeLinear" for output in node.output
    }
    expected = {
        node.name
        for node in nodes
        if node.op_type in ("Conv", "Gemm") and {*node.input[:2]} <= dequantized
    }
    assert len(expected) == 6 * ATTENTION_BLOCKS + 9
    model = rtx_models["int8"]
    assert model.plan.find_int8_nodes(model.macs) == expected
    assert {layer.input_type for layer in model.plan.layers} >= {"Half", "Int8"}


def test_manifest_records_the_share_of_integers(rtx_models: dict[str, TensorRtModel]) -> None:
    model = rtx_models["int8"]
    manifest = model.add_to_manifest(make_manifest("int8"))
    record = manifest.quantization
    assert record is not None
    int8_nodes = model.plan.find_int8_nodes(model.macs)
    share = sum(model.macs[name] for name in int8_nodes) / sum(model.macs.values())
    assert record.int8_mac_fraction == pytest.approx(share, abs=1e-4)
    assert record.int8_mac_fraction > 0.85
    assert record.trials == ("a trial",)
    assert "33 of 51 matrix products and convolutions" in record.int8_summary
    assert "prefer --float16" in record.int8_summary
    assert model.add_to_manifest(manifest) == manifest


def test_float16_engine_has_no_integers_and_fuses_attention(
    rtx_models: dict[str, TensorRtModel],
) -> None:
    plan, macs = rtx_models["float16"].plan, rtx_models["float16"].macs
    assert plan.find_int8_nodes(macs) == set()
    assert {layer.input_type for layer in plan.layers if layer.multiplies_matrices} == {"Half"}
    assert sum("gemm_mha" in layer.name for layer in plan.layers) == ATTENTION_BLOCKS


@pytest.mark.slow
@pytest.mark.usefixtures("requires_rtx")
def test_open_batch_is_built(
    quantized_network: Any, graphs: dict[str, Graph], tmp_path: Path
) -> None:
    graph = trace(quantized_network, batch=None)
    model = RTX.lower(graph, PREPROCESS, "normalize", "int8")
    sidecar, path = model.save(tmp_path / "any.rtx.engine", make_manifest("int8", None))
    fixed = TARGET.make_onnx_model(graphs["int8"], PREPROCESS, "host", "int8")
    assert model.macs == count_product_macs(fixed), "counted for one image"
    assert path.stat().st_size > 2**20
    assert json.loads(sidecar.read_text())["input"]["shape"][0] == "batch"


@pytest.mark.usefixtures("requires_rtx")
def test_turing_has_an_engine_of_its_own_without_float32(graphs: dict[str, Graph]) -> None:
    turing = TensorRtTarget(TensorRtOptions("rtx", ("7.5",)))
    with pytest.raises(RequestError, match="no float32 products on Turing"):
        turing.lower(graphs["float32"], PREPROCESS, "host", "float32")
    model = turing.lower(graphs["int8"], PREPROCESS, "host", "int8")
    assert model.plan.data.startswith(b"vtrt")


def make_product_model() -> bytes:
    """Make an ONNX model with one float32 product, which Turing cannot compute."""
    image, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [64, 64])
        for name in ("image", "logits")
    )
    weight = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "weight")
    node = onnx.helper.make_node("MatMul", ["image", "weight"], ["logits"])
    graph = onnx.helper.make_graph([node], "graph", [image], [logits], [weight])
    opset_imports = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset_imports, ir_version=9)
    return bytes(model.SerializeToString())


@pytest.mark.usefixtures("requires_rtx")
def test_builder_errors_are_one_line_and_nothing_is_printed(capfd: Any) -> None:
    options = TensorRtOptions("rtx", ("7.5",))
    config = BuildConfig(options, "image", (3, 64, 64), 1, allow_tf32=False)
    with pytest.raises(ArtifactError, match="cannot read the network") as error:
        build_engine(b"no onnx", config)
    assert "\n" not in str(error.value)
    with pytest.raises(ArtifactError, match="FP32 GEMM is not supported"):
        build_engine(make_product_model(), config)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flavor": "trt"}, "no flavor"),
        ({"flavor": "rtx", "compute": ("8.7",)}, "compute capability 8.7"),
        ({"flavor": "rtx", "compute": ("9.0",)}, "compute capability 9.0"),
        ({"flavor": "rtx", "compute": ("7.5", "8.6")}, "needs a separate engine"),
        ({"flavor": "rtx", "timing_cache": Path("x")}, "measures nothing"),
        ({"flavor": "rtx", "version_compatible": True}, "its own release"),
        ({"flavor": "classic", "compute": ("8.7",)}, "the GPU it runs on"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TensorRtOptions(**options)


def test_unsupported_graphs_are_refused(
    graphs: dict[str, Graph], demo_recipe: Recipe, demo_network: Any
) -> None:
    with pytest.raises(RequestError, match="cannot resize"):
        TARGET.make_parity_model(graphs["float32"], PREPROCESS, "full", "float32")
    network = quantize_network(demo_network, demo_recipe, TARGET.scheme).eval()
    with pytest.raises(RequestError, match="use --opset 19"):
        TARGET.make_parity_model(trace(network, opset=18), PREPROCESS, "host", "int8")


def test_classic_needs_its_package_and_a_gpu(
    graphs: dict[str, Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_os_error(name: str) -> None:
        raise OSError(name)

    classic = TensorRtTarget(TensorRtOptions("classic"))
    assert (classic.suffix, classic.extra, classic.tools[-1]) == (".engine", "tensorrt", "tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("tensorrt"))):
        classic.lower(graphs["float16"], PREPROCESS, "host", "float16")
    monkeypatch.setattr(cuda, "import_tensorrt", lambda flavor: None)
    monkeypatch.setattr(cuda.ctypes, "CDLL", raise_os_error)
    with pytest.raises(RequestError, match="this machine has no usable GPU"):
        classic.lower(graphs["float16"], PREPROCESS, "host", "float16")


def test_aliases_name_the_target_and_its_scheme_is_stated() -> None:
    assert get_target("tensorrt") is get_target("trt") is get_target("engine") is TARGET
    assert TARGET.scheme == QuantScheme("int8", biases="float32", attention=False)


def test_layers_are_read_from_the_engine_inspector() -> None:
    """TensorRT 10 and later releases word the type of an input differently."""
    format_and_type = "Thirty-two wide channel vectorized row major Int8 format"
    layers = [
        {
            "Name": "a",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Format/Datatype": format_and_type}],
            "Metadata": "[ONNX Layer: conv1]\x1f[ONNX Layer: relu]",
        },
        {
            "Name": "b",
            "LayerType": "gemm",
            "Inputs": [{"Datatype": "Half"}],
            "Metadata": "[ONNX Layer: fc]",
        },
        {
            "Name": "c",
            "LayerType": "kgen",
            "Inputs": [{"Datatype": "Int8"}],
            "Metadata": "[ONNX Layer: add]",
        },
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to fc",
            "LayerType": "Reformat",
            "Inputs": [{"Format/Datatype": format_and_type}],
            "Metadata": "[ONNX Layer: fc]",
        },
        "only a name",
    ]
    text = json.dumps({"Layers": layers})
    plan = EnginePlan(b"", "10", tuple(parse_inspector_json(text)))
    assert [layer.input_type for layer in plan.layers] == ["Int8", "Half", "Int8", "Int8"]
    multiply = [layer.multiplies_matrices for layer in plan.layers]
    assert multiply == [True, True, False, False]
    assert plan.find_int8_nodes(["conv1", "fc", "add"]) == {"conv1"}
