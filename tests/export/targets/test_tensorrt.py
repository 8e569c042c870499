"""TensorRT's target: what it hands to TensorRT, what TensorRT-RTX plans of it without a GPU, what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx
import torch

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.export.manifest_builder import build_manifest
from tinyvit.export.targets import get_target
from tinyvit.export.targets.tensorrt import engine_builder as plan_tensorrt
from tinyvit.export.targets.tensorrt.passes import product_macs
from tinyvit.export.targets.tensorrt.target import TARGET, TensorRtOptions, TensorRtTarget
from tinyvit.export.tracing import Graph, trace
from tinyvit.golden import PATTERNS, make_pattern
from tinyvit.labels import numbered_labels
from tinyvit.manifest import Manifest, Precision, Quantization
from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.preprocess import Preprocess
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.quantized_network import quantize_network, with_exact_arithmetic
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes import cuda as nvidia

SIZE = 64
PREPROCESS = load_released("demo").at_size(SIZE).preprocess
RTX = TensorRtTarget(TensorRtOptions("rtx"))


@pytest.fixture(scope="module")
def folded() -> torch.nn.Module:
    return fold_model(load_released("demo").at_size(SIZE).build())


@pytest.fixture(scope="module")
def recipe(folded: Any) -> Recipe:
    noise = torch.randn(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return Recipe("abc", SIZE, calibrate(folded, noise), 7, (), "", "", 8)


@pytest.fixture(scope="module")
def quantized(folded: Any, recipe: Recipe) -> Any:
    return quantize_network(folded, recipe, TARGET.placement).eval()


@pytest.fixture(scope="module")
def graphs(folded: Any, quantized: Any) -> dict[str, Graph]:
    floats = trace(folded)
    return {
        "float32": floats,
        "float16": floats,
        "int8": trace(quantized),
        "any": trace(quantized, batch=None),
    }


@pytest.fixture
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="builds for real")


def manifest(precision: Precision, batch: int | None = 1) -> Manifest:
    checkpoint = load_released("demo").at_size(SIZE)
    record = (
        Quantization("", "", 8, "", 7, "any", (), trials=("a trial",))
        if precision == "int8"
        else None
    )
    draft = build_manifest(checkpoint, numbered_labels(10), batch, "host", precision)
    return dataclasses.replace(draft, target="tensorrt", quantization=record)


def images(preprocess: Preprocess = PREPROCESS) -> np.ndarray:
    return np.stack([preprocess.normalize(make_pattern(s, SIZE, SIZE)) for s in PATTERNS])


def in_onnxruntime(model: bytes, batch: np.ndarray) -> np.ndarray:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": one[None]})[0] for one in batch])


@pytest.mark.parametrize(
    ("precision", "most"), [("float32", 1e-5), ("float16", 0.01), ("int8", 0.03)]
)
def test_the_stand_in_answers_as_the_network(
    graphs: Any, folded: Any, quantized: Any, precision: Precision, most: float
) -> None:
    with torch.no_grad():
        wanted = with_exact_arithmetic(quantized if precision == "int8" else folded)(
            torch.from_numpy(images()).double()
        ).numpy()
    given = in_onnxruntime(
        TARGET.stand_in(graphs[precision], PREPROCESS, "host", precision), images()
    )
    assert np.abs(given - wanted).max() < most * np.abs(wanted).max()
    assert np.ptp(wanted) > 1


def test_pixels_in_the_file(graphs: Any) -> None:
    """The same answer, and no operation but Cast meets uint8, which TensorRT refuses."""
    pixels = np.stack([make_pattern(s, SIZE, SIZE) for s in PATTERNS])
    model = TARGET.stand_in(graphs["float32"], PREPROCESS, "normalize", "float32")
    first = onnx.load_from_string(model).graph.node[0]
    assert (first.op_type, list(first.input)) == ("Cast", ["image"])
    wanted = in_onnxruntime(
        TARGET.stand_in(graphs["float32"], PREPROCESS, "host", "float32"), images()
    )
    assert np.abs(in_onnxruntime(model, pixels) - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_what_tensorrt_is_given(graphs: Any) -> None:
    """8-bit integers are signed, symmetric and int8; all floats are 16 bits but input, output and indices."""
    model = onnx.load_from_string(TARGET.stand_in(graphs["int8"], PREPROCESS, "host", "int8"))
    types = Counter(tensor.data_type for tensor in model.graph.initializer)
    assert set(types) == {
        onnx.TensorProto.INT8,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT32,
        onnx.TensorProto.INT64,
    }
    constants = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer
    }
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["QuantizeLinear"] > 0
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert (constants[node.input[1]] > 0).all()
            assert not constants[node.input[2]].any()
        if node.op_type == "Conv" and any(
            attribute.name == "group" and attribute.i > 1 for attribute in node.attribute
        ):
            assert constants[node.input[1]].dtype == np.float16, (
                "depthwise: TensorRT pads it in int8"
            )


def test_scales_too_small_for_16_bits_stay_positive(recipe: Recipe, folded: Any) -> None:
    network = quantize_network(folded, recipe, TARGET.placement).eval()
    name, layer = next(
        (name, module) for name, module in network.named_modules() if hasattr(module, "scales")
    )
    layer.scales.data[0] = 1e-12
    model = onnx.load_from_string(TARGET.stand_in(trace(network), PREPROCESS, "host", "int8"))
    scales = [
        onnx.numpy_helper.to_array(x)
        for x in model.graph.initializer
        if x.data_type == onnx.TensorProto.FLOAT16
    ]
    assert any(
        scale.size == len(layer.scales) and scale.ravel()[0] == np.float16(2.0**-24)
        for scale in scales
    ), name


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_rtx_builds_without_a_gpu(
    rtx: Any, graphs: Any, tmp_path: Path, precision: Precision
) -> None:
    lowered = RTX.lower(graphs[precision], PREPROCESS, "host")
    path = tmp_path / f"demo{RTX.suffix}"
    written = lowered.save(path, manifest(precision))
    assert [file.name for file in written] == ["demo.rtx.engine.json", "demo.rtx.engine"]
    assert path.read_bytes().startswith(b"vtrt")
    told = Manifest.from_json(written[0].read_text())
    assert told.intact
    assert told == lowered.recorded(manifest(precision))
    again = RTX.lower(graphs[precision], PREPROCESS, "host")
    again.save(tmp_path / "again.rtx.engine", manifest(precision))
    assert (tmp_path / "again.rtx.engine").read_bytes() == path.read_bytes(), (
        "the same input gives the same bytes"
    )


def test_what_becomes_of_int8(rtx: Any, graphs: Any, quantized: Any, tmp_path: Path) -> None:
    """Every linear layer and convolution whose weights and input are rounded takes 8-bit integers in the plan; nothing else does."""
    model = onnx.load_from_string(TARGET.stand_in(graphs["int8"], PREPROCESS, "host", "int8"))
    restored = {
        output
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        for output in node.output
    }
    wanted = {
        node.name
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm") and {*node.input[:2]} <= restored
    }
    assert len(wanted) == 60 + 11
    lowered = RTX.lower(graphs["int8"], PREPROCESS, "host")
    plan, macs = lowered._plan("int8")
    assert plan.integers(macs) == wanted
    record = lowered.recorded(manifest("int8")).quantization
    assert record is not None
    assert record.int8_macs == pytest.approx(
        sum(macs[name] for name in wanted) / sum(macs.values()), abs=1e-4
    )
    assert record.int8_macs > 0.85
    assert record.trials[0] == "a trial"
    assert "71 of 108 products" in record.trials[1]
    assert "prefer --float16" in record.trials[1]
    assert lowered.recorded(lowered.recorded(manifest("int8"))) == lowered.recorded(
        manifest("int8")
    )
    assert {layer.first for layer in plan.layers} >= {"Half", "Int8"}


def test_in_half_no_layer_has_integers_and_attention_is_one_kernel(rtx: Any, graphs: Any) -> None:
    plan, macs = RTX.lower(graphs["float16"], PREPROCESS, "host")._plan("float16")
    assert plan.integers(macs) == set()
    assert {layer.first for layer in plan.layers if layer.multiplies} == {"Half"}
    assert sum("gemm_mha" in layer.name for layer in plan.layers) == 10


def test_a_free_batch(rtx: Any, graphs: Any, tmp_path: Path) -> None:
    lowered = RTX.lower(graphs["any"], PREPROCESS, "normalize")
    (beside, path) = lowered.save(tmp_path / "any.rtx.engine", manifest("int8", None))
    fixed = product_macs(TARGET.model(graphs["int8"], PREPROCESS, "host", half=True))
    assert lowered._plan("int8")[1] == fixed, "counted for one picture"
    assert path.stat().st_size > 2**20
    assert json.loads(beside.read_text())["input"]["shape"][0] == "batch"


def test_turing_has_an_engine_of_its_own(rtx: Any, graphs: Any, tmp_path: Path) -> None:
    turing = TensorRtTarget(TensorRtOptions("rtx", ("7.5",)))
    with pytest.raises(RequestError, match="no float32 products on Turing"):
        turing.lower(graphs["float32"], PREPROCESS, "host").save(
            tmp_path / "a.engine", manifest("float32")
        )
    turing.lower(graphs["int8"], PREPROCESS, "host").save(tmp_path / "a.engine", manifest("int8"))
    assert (tmp_path / "a.engine").read_bytes().startswith(b"vtrt")


def test_tensorrts_complaint_is_one_line_and_nothing_else_is_said(rtx: Any, capfd: Any) -> None:
    settings = plan_tensorrt.BuildConfig(
        "rtx", ("7.5",), None, False, "image", (3, 64, 64), 1, True
    )
    with pytest.raises(ArtifactError, match="cannot read the network") as error:
        plan_tensorrt.build_engine(b"no onnx", settings)
    assert "\n" not in str(error.value)
    make = onnx.helper
    ends = [
        make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [64, 64])
        for name in ("image", "logits")
    ]
    weight = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    product = make.make_graph(
        [make.make_node("MatMul", ["image", "w"], ["logits"])], "g", ends[:1], ends[1:], [weight]
    )
    model = make.make_model(product, opset_imports=[make.make_opsetid("", 18)], ir_version=9)
    with pytest.raises(ArtifactError, match="FP32 GEMM is not supported"):
        plan_tensorrt.build_engine(model.SerializeToString(), settings)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"flavor": "trt"}, "no flavor"),
        ({"flavor": "rtx", "compute": ("8.7",)}, "no compute capability 8.7"),
        ({"flavor": "rtx", "compute": ("9.0",)}, "no compute capability 9.0"),
        ({"flavor": "rtx", "compute": ("7.5", "8.6")}, "of its own"),
        ({"flavor": "rtx", "timing_cache": Path("x")}, "measures nothing"),
        ({"flavor": "rtx", "version_compatible": True}, "its own release"),
        ({"flavor": "classic", "compute": ("8.7",)}, "the GPU it runs on"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        TensorRtOptions(**options)


def test_requests_that_are_refused(graphs: Any, recipe: Recipe, folded: Any) -> None:
    with pytest.raises(RequestError, match="cannot resize"):
        TARGET.stand_in(graphs["float32"], PREPROCESS, "full", "float32")
    old = trace(quantize_network(folded, recipe, TARGET.placement).eval(), opset=18)
    with pytest.raises(RequestError, match="use --opset 19"):
        TARGET.stand_in(old, PREPROCESS, "host", "int8")


def test_classic_needs_its_package_and_a_gpu(graphs: Any, monkeypatch: Any) -> None:
    classic = TensorRtTarget(TensorRtOptions("classic"))
    assert (classic.suffix, classic.extra, classic.tools[-1]) == (".engine", "tensorrt", "tensorrt")
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match=r"tinyvit-edge\[tensorrt\]"):
        classic.lower(graphs["float16"], PREPROCESS, "host")
    monkeypatch.setattr(nvidia, "import_tensorrt", lambda flavor: None)
    monkeypatch.setattr(nvidia.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    with pytest.raises(RequestError, match="builds on the device it is for, and here is none"):
        classic.lower(graphs["float16"], PREPROCESS, "host")


def test_names() -> None:
    assert get_target("tensorrt") is get_target("trt") is get_target("engine") is TARGET
    assert TARGET.placement == QuantScheme("int8", biases="float32", attention=False)


def test_layers_as_the_engine_inspector_tells_them() -> None:
    """In TensorRT 10's words and in later ones'."""
    layers = [
        {
            "Name": "a",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}
            ],
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
        "only a name",
    ]
    plan = plan_tensorrt.EnginePlan(
        b"", "10", tuple(plan_tensorrt.inspected(json.dumps({"Layers": layers})))
    )
    assert [layer.first for layer in plan.layers] == ["Int8", "Half", "Int8"]
    assert plan.integers(["conv1", "fc", "add"]) == {"conv1"}
