"""The target qnn: networks in which every tensor is quantized, and files for chips."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("torchao")

import onnx
import torch

from tinyvit.errors import RequestError
from tinyvit.export import ExportConfig, export
from tinyvit.export.targets import get_target
from tinyvit.export.targets.qnn.options import QnnOptions
from tinyvit.export.targets.qnn.target import TARGET, QnnTarget
from tinyvit.export.tracing import Graph, trace
from tinyvit.quant.calibration import CalibrationOptions, measure_tensors
from tinyvit.quant.quantized_network import quantize_network, with_exact_arithmetic
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes import qualcomm
from tinyvit.runtimes.qualcomm import CHIPS

needs_package = pytest.mark.skipif(
    find_spec("onnxruntime_qnn") is None, reason="onnxruntime-qnn (extra qnn) is not installed"
)
EIGHT_BITS = QnnTarget(QnnOptions(has_8bit_activations=True))
IMAGE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def full_recipe(demo_network: Any, demo_recipe: Recipe) -> Recipe:
    """A recipe of the shortened demo model with the scales of every tensor."""
    noise = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    measured = measure_tensors(demo_network, noise, options=CalibrationOptions(every_tensor=True))
    return replace(demo_recipe, scales=measured.scales, ranges=measured.ranges)


def quantized_model(target: QnnTarget, network: Any, recipe: Recipe) -> tuple[bytes, Any]:
    """Return the ONNX model of a target and the network that it must equal."""
    quantized = quantize_network(network, recipe, target.scheme)
    graph = trace(quantized)
    data = target.make_parity_model(graph, None, "host", "int8")  # type: ignore[arg-type]
    return data, with_exact_arithmetic(quantized)


@pytest.mark.parametrize(
    ("target", "allowed_difference"), [(TARGET, 0.05), (EIGHT_BITS, 0.5)], ids=["16", "8"]
)
def test_every_operator_computes_with_quantized_tensors(
    target: QnnTarget, allowed_difference: float, demo_network: Any, full_recipe: Recipe
) -> None:
    data, exact = quantized_model(target, demo_network, full_recipe)
    model = onnx.load_model_from_string(data)
    assert model.opset_import[0].version == 21
    dequantized = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    quantized = {n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            assert set(node.input) - constants <= dequantized, node.name
            assert set(node.output) <= quantized, node.name
    # Weights are int8 and per channel, in the form that the compiler multiplies exactly.
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    assert gemms
    for node in gemms:
        assert [a.i for a in node.attribute if a.name == "transB"] == [1]

    import onnxruntime

    session = onnxruntime.InferenceSession(data)
    outputs = session.run(None, {"image": IMAGE.numpy()})[0]
    expected = exact(IMAGE.double()).numpy()
    assert np.abs(outputs - expected).max() < allowed_difference


def test_options_select_chips_and_bits() -> None:
    target = TARGET.with_options({"soc": "sm8550, QCS6490", "activations": "8", "strict": "yes"})
    parts = target.split()
    assert [part.suffix for part in parts] == [".sm8550.qnn.onnx", ".qcs6490.qnn.onnx"]
    assert all(part.scheme.activations == "uint8" for part in parts)
    assert all(part.qnn_options.is_strict for part in parts)
    assert TARGET.suffix == ".qnn.onnx"
    assert TARGET.scheme.activations == "uint16"
    assert get_target("snapdragon") is get_target("hexagon") is get_target("qualcomm") is TARGET


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"soc": "sm1"}, "--soc sm1 is not a chip of Qualcomm"),
        ({"soc": ","}, "--soc names no chip"),
        ({"activations": "4"}, "--activations 4 is not possible"),
        ({"strict": "perhaps"}, "strict='perhaps' is not possible"),
    ],
)
def test_unknown_values_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TARGET.with_options(options)


def test_chips_have_the_numbers_of_the_sdk() -> None:
    numbers = {name: (chip.soc_model, chip.htp_arch) for name, chip in CHIPS.items()}
    assert numbers == {
        "sm8550": (43, 73),
        "sm8650": (57, 75),
        "sm8750": (69, 79),
        "x-elite": (60, 73),
        "qcs6490": (35, 68),
    }


def test_one_export_makes_one_file(tmp_path: Path) -> None:
    config = ExportConfig(
        model="demo",
        targets=("qnn",),
        float16=True,
        target_options={"soc": "sm8550,sm8650"},
        output_path=f"{tmp_path}/",
    )
    with pytest.raises(RequestError, match="requests several"):
        export(config)


def test_an_old_opset_is_refused(demo_graph: Graph) -> None:
    with pytest.raises(RequestError, match="opset 18 has no GELU"):
        TARGET.make_parity_model(
            replace(demo_graph, opset=18),
            None,  # type: ignore[arg-type]
            "host",
            "float16",
        )


@needs_package
def test_float16_is_refused_for_an_npu_without_it(demo_graph: Graph) -> None:
    (target,) = TARGET.with_options({"soc": "qcs6490"}).split()
    with pytest.raises(RequestError, match="qcs6490 does not compute in float16"):
        target.lower(demo_graph, None, "host", "float16")  # type: ignore[arg-type]


def test_strict_refuses_a_network_that_stays_on_the_cpu_in_part(
    demo_graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = list(demo_graph.to_onnx().graph)[-1].outputs[0].name
    compiled = qualcomm.CompiledNetwork(b"", "QAIRT 2", {str(output): "Gemm"})
    monkeypatch.setattr(qualcomm, "compile_network", lambda *_: compiled)
    lowered = TARGET.lower(demo_graph, None, "host", "float16")  # type: ignore[arg-type]
    assert "leaves 1 Gemm to the CPU" in lowered.notes("float16")[0]
    assert "; this chip is an example, because" in lowered.notes("float16")[0]
    (for_chip,) = TARGET.with_options({"soc": "sm8650"}).split()
    lowered = for_chip.lower(demo_graph, None, "host", "float16")  # type: ignore[arg-type]
    assert "example" not in lowered.notes("float16")[0]
    strict = TARGET.with_options({"strict": "yes"})
    with pytest.raises(RequestError, match=r"--strict was given, and QAIRT 2 .* leaves 1 Gemm"):
        strict.lower(demo_graph, None, "host", "float16")  # type: ignore[arg-type]


def test_8bit_activations_are_refused_for_a_float_network(demo_graph: Graph) -> None:
    with pytest.raises(RequestError, match="--activations 8 was given for a float16 network"):
        EIGHT_BITS.lower(demo_graph, None, "host", "float16")  # type: ignore[arg-type]


def test_the_error_for_float32_names_the_precisions_of_the_target(demo_graph: Graph) -> None:
    with pytest.raises(RequestError, match=r"or give --float16 or --int8$"):
        TARGET.lower(demo_graph, None, "host", "float32")  # type: ignore[arg-type]


@needs_package
@pytest.mark.parametrize("bits", ["16", "8"])
def test_the_whole_quantized_network_is_compiled(
    bits: str, demo_network: Any, full_recipe: Recipe
) -> None:
    target = TARGET.with_options({"soc": "sm8650", "activations": bits, "strict": "yes"})
    graph = trace(quantize_network(demo_network, full_recipe, target.scheme))
    first = target.lower(graph, None, "host", "int8")  # type: ignore[arg-type]
    assert first.compiled.cpu_outputs == {}
    assert first.cpu_share == 0
    assert "takes the whole network to the NPU" in first.describe_cpu_operators()
    # The same network gives the same bytes.
    again = target.make_parity_model(graph, None, "host", "int8")  # type: ignore[arg-type]
    assert first.data == again
