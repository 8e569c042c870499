"""The target rknn: options, the network that is compiled, and the files.

The tests with rknn-toolkit2 need its Python in the environment variable TINYVIT_RKNN_PYTHON.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("torchao")

import onnx
import onnx_ir as ir
import torch

from tests.helpers.fake_rknn import write_fake_toolkit
from tinyvit.errors import RequestError
from tinyvit.export import ExportConfig, export, export_all
from tinyvit.export.passes.product_macs import count_product_macs
from tinyvit.export.plan import resolve_targets
from tinyvit.export.targets import get_target
from tinyvit.export.targets.rknn import target
from tinyvit.export.targets.rknn.attention import transpose_scores
from tinyvit.export.targets.rknn.float16_ranges import LargestValue, find_largest_value
from tinyvit.export.targets.rknn.passes import add_batch_axis_to_norms, remove_quantizers
from tinyvit.export.targets.rknn.target import TARGET, make_onnx_model, make_test_images
from tinyvit.export.targets.rknn.writer import RknnModel, is_layer_of
from tinyvit.export.tracing import Graph, trace
from tinyvit.preprocess import Preprocess
from tinyvit.quant.calibration import CalibrationOptions, measure_tensors
from tinyvit.quant.quantized_layers import QuantizedLayer
from tinyvit.quant.quantized_network import quantize_network
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes.rockchip.chips import CHIPS, PYTHON_VARIABLE
from tinyvit.runtimes.rockchip.log import Layer
from tinyvit.runtimes.rockchip.ranges import Range
from tinyvit.runtimes.rockchip.simulator import Simulator
from tinyvit.runtimes.rockchip.toolkit import CompiledNetwork, ToolkitRequest

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the toolkit is for Linux")
needs_toolkit = pytest.mark.skipif(
    PYTHON_VARIABLE not in os.environ,
    reason=f"{PYTHON_VARIABLE} does not name a Python with rknn-toolkit2",
)


@pytest.fixture(scope="module")
def quantized(demo_network: Any, demo_recipe: Recipe) -> Any:
    """The shortened demo model in which every tensor is quantized."""
    noise = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    measured = measure_tensors(demo_network, noise, options=CalibrationOptions(every_tensor=True))
    recipe = replace(demo_recipe, scales=measured.scales, ranges=measured.ranges)
    return quantize_network(demo_network, recipe, TARGET.scheme)


def test_options_select_chips() -> None:
    both = TARGET.with_options({"soc": "rk3588, RK3566", "rknn_python": "/env/bin/python"})
    parts = both.split()
    assert [part.suffix for part in parts] == [".rk3588.rknn", ".rk3566.rknn"]
    assert all(part.rknn_options.python == "/env/bin/python" for part in parts)
    assert TARGET.suffix == ".rk3588.rknn"
    assert TARGET.split() == (TARGET,)
    assert get_target("rockchip") is TARGET


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"soc": "rk1"}, "--soc rk1 is not a chip of Rockchip"),
        ({"soc": "sm8650"}, "--soc sm8650 is not a chip of Rockchip"),
        ({"soc": ","}, "--soc names no chip"),
        ({"rknn_python": " "}, "--rknn-python is empty"),
    ],
)
def test_unknown_values_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TARGET.with_options(options)


def test_each_vendor_gets_its_own_chips() -> None:
    def list_suffixes(targets: tuple[str, ...], soc: str) -> list[str]:
        config = ExportConfig(model="demo", targets=targets, target_options={"soc": soc})
        return [target.suffix for target in resolve_targets(config)]

    both = ("qnn", "rknn")
    assert list_suffixes(both, "sm8650, rk3576") == [".sm8650.qnn.onnx", ".rk3576.rknn"]
    assert list_suffixes(both, "RK3566") == [".qnn.onnx", ".rk3566.rknn"]
    for targets in (both, ("qnn",), ("rknn",)):
        with pytest.raises(RequestError, match="--soc chip1 is not"):
            list_suffixes(targets, "chip1")
    with pytest.raises(RequestError, match="--soc rk3566 is not a chip of Qualcomm"):
        list_suffixes(("qnn",), "rk3566")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ExportConfig(model="demo", targets=("rknn",)), "not made in float32"),
        (
            ExportConfig(model="demo", targets=("rknn",), float16=True, preprocess="full"),
            "takes normalized images",
        ),
        (ExportConfig(model="demo", targets=("rknn",), float16=True, batch=2), "one image"),
        (
            ExportConfig(
                model="demo",
                targets=("rknn",),
                float16=True,
                target_options={"soc": "rk3588,rk3576"},
                output_path="out/",
            ),
            "requests several",
        ),
    ],
)
def test_impossible_requests_are_refused(
    config: ExportConfig, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=message):
        export(config)


def test_a_machine_without_the_toolkit_is_reported_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    config = ExportConfig(model="demo", targets=("rknn",), float16=True, output_path=f"{tmp_path}/")
    (failure,) = export_all(config).failures
    assert failure.is_skipped
    assert "pip install --no-deps rknn-toolkit2" in failure.error.remedy
    assert "\n" not in str(failure.error)
    assert not list(tmp_path.iterdir())


def test_the_network_has_an_opset_that_the_toolkit_reads(demo_graph: Graph) -> None:
    assert make_onnx_model(demo_graph).graph.opset_imports[""] == 19
    older = replace(demo_graph, opset=18)
    assert make_onnx_model(older).graph.opset_imports[""] == 18


def test_quantizers_become_ranges(quantized: Any) -> None:
    model = make_onnx_model(trace(quantized))
    ranges = remove_quantizers(model)
    operators = {node.op_type for node in model.graph}
    assert not operators & {"QuantizeLinear", "DequantizeLinear"}
    assert [value.name for value in model.graph.outputs] == ["logits"]
    computed = {value.name for node in model.graph for value in node.outputs}
    own = {name for name in ranges if "_2sdpa" not in name}
    assert own <= computed | {"image"}
    assert {"image", "logits"} <= own
    # Every convolution, LayerNorm and softmax has a range. That of a softmax begins with 0.
    for node in model.graph:
        if node.op_type in ("Conv", "LayerNormalization", "Softmax"):
            assert node.outputs[0].name in ranges, node.name
        if node.op_type == "Softmax":
            smallest, largest = ranges[node.outputs[0].name or ""]
            assert smallest == 0
            assert 0 < largest <= 1.001
    attention = [node.name for node in model.graph if node.op_type == "Softmax"]
    assert len([name for name in ranges if name.endswith("_2sdpa_q_softmax")]) == len(attention)
    products = count_product_macs(model)
    assert len(products) == sum(node.op_type in ("Conv", "Gemm", "MatMul") for node in model.graph)
    assert all(products.values())
    # The weights are the numbers that the integers represent.
    layer = quantized.get_submodule("patch_embed.conv2")
    layer = layer if isinstance(layer, QuantizedLayer) else layer[0]
    expected = (layer.weight.double() * layer.scales.double()[:, None, None, None]).float()
    weights = [
        value.const_value.numpy()
        for value in model.graph.initializers.values()
        if value.const_value is not None and value.const_value.shape == expected.shape
    ]
    assert any(np.array_equal(array, expected.numpy()) for array in weights)


def test_the_network_without_quantizers_computes_almost_the_same(
    quantized: Any, demo_network: Any
) -> None:
    import onnxruntime

    model = make_onnx_model(trace(quantized))
    remove_quantizers(model)
    proto = ir.serde.serialize_model(model)
    onnx.checker.check_model(proto, full_check=True)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    logits = session.run(None, {"image": image.numpy()})[0]
    with torch.no_grad():
        expected = demo_network(image).numpy()
    # Only the weights are rounded.
    assert 0 < np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


def test_a_norm_of_many_tokens_has_a_batch_axis(quantized: Any) -> None:
    import onnxruntime

    model = make_onnx_model(trace(quantized))
    remove_quantizers(model)
    before = ir.serde.serialize_model(model)
    add_batch_axis_to_norms(model)
    after = ir.serde.serialize_model(model)
    onnx.checker.check_model(after, full_check=True)
    ranks = []
    for node in model.graph:
        if node.op_type == "LayerNormalization":
            value = node.inputs[0]
            assert value is not None
            assert value.shape is not None
            ranks.append(len(value.shape))
    # The last norm has a single token.
    assert set(ranks[:-1]) == {3}
    assert ranks[-1] == 2
    names = [{value.name for value in proto.graph.value_info} for proto in (before, after)]
    assert names[0] <= names[1]
    image = np.random.default_rng(1).standard_normal((1, 3, 64, 64)).astype(np.float32)
    logits = [
        onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"image": image})[0]
        for proto in (before, after)
    ]
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-5, atol=1e-5)


def make_squaring_network(factor: float) -> bytes:
    """Return a network that multiplies an image by a factor and normalizes it."""
    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            node("Mul", ["image", "factor"], ["large"]),
            node("LayerNormalization", ["large", "ones"], ["normed"]),
        ],
        "graph",
        [onnx.helper.make_tensor_value_info("image", 1, [1, 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("normed", 1, [1, 3, 8, 8])],
        [
            onnx.numpy_helper.from_array(np.array(factor, np.float32), "factor"),
            onnx.numpy_helper.from_array(np.ones(8, np.float32), "ones"),
        ],
    )
    opset = [onnx.helper.make_opsetid("", 19)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


@pytest.mark.parametrize(
    ("factor", "is_square", "is_dangerous"), [(1.0, False, False), (200.0, True, True)]
)
def test_values_that_overflow_on_the_chip_are_found(
    factor: float, is_square: bool, is_dangerous: bool
) -> None:
    image = np.tile(np.float32([-1, 1]), 96).reshape(1, 3, 8, 8)
    largest = find_largest_value(make_squaring_network(factor), [image])
    assert largest.is_dangerous == is_dangerous
    assert ("WARNING" in largest.describe()) == is_dangerous
    if is_square:
        assert largest.is_square
        assert largest.name == "large"
    assert largest.value > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 65504.0, 17000.0])
def test_a_warning_has_a_margin(value: float) -> None:
    assert LargestValue("x", value).is_dangerous
    assert not LargestValue("x", 16000.0).is_dangerous


def test_layers_belong_to_nodes() -> None:
    assert is_layer_of("node_linear#2", "node_linear")
    assert is_layer_of("node_conv2d_4_ConvAdd", "node_conv2d_4")
    assert is_layer_of("node_matmul_1_2sdpa", "node_matmul_1")
    assert is_layer_of("node_conv2d", "node_conv2d")
    assert not is_layer_of("node_conv2d_4", "node_conv2d")
    assert not is_layer_of("node_linear_12#2", "node_linear_1")


def make_model(layers: tuple[Layer, ...], ranges: dict[str, Range] | None = None) -> RknnModel:
    compiled = CompiledNetwork(bytes(1_500_000), "rknn-toolkit2 2.5.0", layers, "", "", 3, 4)
    request = ToolkitRequest(b"", CHIPS["rk3576"], ranges=ranges)
    return RknnModel(request, compiled, {"node_a": 3, "node_b": 1}, LargestValue("x", 2.0))


def test_what_stays_on_the_cpu_is_stated() -> None:
    layers = (Layer("Conv", "NPU", "node_a"), Layer("Gemm", "CPU", "node_b#2"))
    model = make_model(layers)
    assert model.cpu_share == 0.25
    assert "leaves 1 Gemm to the CPU (25.0% of" in model.notes("float16")[0]
    assert "takes the whole network" in make_model(layers[:1]).notes("float16")[0]
    assert (
        model.notes("int8")[-1] == "a board needs only the .rknn file (1.5 MB) and its .json file"
    )
    assert "does not state" in make_model(()).notes("float16")[0]
    assert model.describe_quantizer() == ""
    assert "scales for 3 of 4 tensors" in make_model(layers, {"x": (0.0, 1.0)}).describe_quantizer()


@needs_linux
def test_test_images_are_the_golden_inputs(demo_graph: Graph) -> None:
    images = make_test_images(demo_graph.img_size, Preprocess(size=64, resize=64))
    assert [image.shape for image in images] == [(1, 3, 64, 64)] * 3
    assert not np.array_equal(images[0], images[1])


@needs_linux
def test_the_export_writes_the_file_and_what_the_simulator_needs(
    demo_graph: Graph, tmp_path: Path
) -> None:
    fake = TARGET.with_options({"rknn_python": write_fake_toolkit(tmp_path), "soc": "rk3568"})
    model = fake.lower(demo_graph, Preprocess(size=64, resize=64), "host", "float16")
    assert model.request.chip.name == "rk3568"
    assert model.compiled.layer_errors == "[Input] 1"
    assert model.largest_value is not None
    assert not model.largest_value.is_dangerous
    from tests.helpers.demo_network import make_demo_manifest

    manifest = model.add_to_manifest(make_demo_manifest("rknn", "float16"))
    files = model.save(tmp_path / "demo.rknn", manifest)
    assert [file.name for file in files] == [
        "demo.rknn.json",
        "demo.rknn.layers.txt",
        "demo.rknn.onnx",
        "demo.rknn",
    ]
    with fake.open_reference(_read(files[-1])) as runtime:
        assert runtime.describe().device == "simulated NPU of rk3568"


@pytest.mark.parametrize(
    ("soc", "precision", "axis"),
    [
        ("rk3588", "int8", -1),
        ("rk3566", "int8", -2),
        ("rk3568", "int8", -2),
        ("rk3566", "float16", -1),
    ],
)
def test_scores_are_transposed_in_int8_where_attention_is_not_fused(
    soc: str,
    precision: Any,
    axis: int,
    quantized: Any,
    demo_graph: Graph,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled = CompiledNetwork(b"", "", ())
    monkeypatch.setattr(target, "compile_network", lambda request, python: compiled)
    graph = trace(quantized) if precision == "int8" else demo_graph
    chip_target = TARGET.with_options({"soc": soc, "rknn_python": sys.executable})
    model = chip_target.lower(graph, Preprocess(size=64, resize=64), "host", precision)
    network = ir.serde.deserialize_model(onnx.load_model_from_string(model.request.network))
    softmaxes = [node for node in network.graph if node.op_type == "Softmax"]
    assert softmaxes
    assert {node.attributes.get_int("axis") for node in softmaxes} == {axis}


def _read(path: Path) -> Any:
    from tinyvit.runtimes.artifact import read_artifact

    return read_artifact(path)


@needs_toolkit
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chip", ["rk3588", "rk3566"])
def test_the_simulator_computes_the_quantized_network(quantized: Any, chip: str) -> None:
    from tinyvit.export.passes.onnx_serialization import serialize_checked
    from tinyvit.quant.quantized_network import with_exact_arithmetic

    model = make_onnx_model(trace(quantized))
    ranges = remove_quantizers(model)
    add_batch_axis_to_norms(model)
    if not CHIPS[chip].fuses_attention:
        transpose_scores(model)
    images = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    request = ToolkitRequest(
        serialize_checked(model), CHIPS[chip], ranges=ranges, range_images=[images[:1].numpy()]
    )
    simulator = Simulator(request, os.environ[PYTHON_VARIABLE])
    try:
        logits = np.concatenate(
            [simulator.run(image[None], [(1, 12)])[0] for image in images.numpy()]
        )
    finally:
        simulator.close()
    with torch.no_grad():
        expected = with_exact_arithmetic(quantized)(images.double()).numpy()
    # The logits for noise are at most 0.7, of which a few roundings to the other side are a third.
    error = np.sqrt(np.mean(np.square(logits - expected)))
    assert error < 0.5 * np.sqrt(np.mean(np.square(expected)))
    assert simulator.compiled.own_range_count > 0.9 * simulator.compiled.tensor_count
