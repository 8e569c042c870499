"""Multiply-accumulates are counted separately for integer and float kernels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.onnx_graphs import save_attention, save_convolutions, save_linear_layers
from tinyvit.bench import kernel_profile
from tinyvit.bench.kernel_profile import can_profile_kernels, profile_kernels
from tinyvit.errors import ArtifactError, RequestError


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine whose kernels can be profiled."""
    name: str = request.param
    pytest.importorskip(name)
    return name


@pytest.mark.parametrize(
    ("target", "engine_name"), [("onnx", "onnxruntime"), ("openvino", "openvino")]
)
def test_all_multiply_accumulates_of_the_demo_are_counted(
    target: str, engine_name: str, demo: dict[str, Path], demo_macs: int
) -> None:
    if target not in demo:
        pytest.skip("needs OpenVINO")
    profile = profile_kernels(demo[target])
    assert profile.engine == engine_name
    assert (profile.integer_macs, profile.float_macs) == (0, demo_macs)
    assert profile.integer_share == 0
    assert sum(kernel.time_ms for kernel in profile.kernels) > 1


@pytest.fixture(scope="session")
def demo_macs() -> int:
    """The multiply-accumulates of the demo model, counted in PyTorch."""
    pytest.importorskip("torch")
    import tinyvit
    from tinyvit.nn.checkpoints.loading import load_checkpoint
    from tinyvit.nn.cost import count_macs

    checkpoint = Path(tinyvit.__file__).with_name("assets") / "demo.safetensors"
    return count_macs(load_checkpoint(checkpoint).build().eval())


def test_int8_linear_layers_run_in_integers(engine: str, tmp_path: Path) -> None:
    path = save_linear_layers(tmp_path / "a.onnx", has_float_bias=False)
    profile = profile_kernels(path, engine_name=engine)
    assert (profile.integer_macs, profile.float_macs) == (64 * 48 + 48 * 10, 0)
    assert profile.integer_share == 1


def test_float_bias_keeps_onnxruntime_from_integers(tmp_path: Path) -> None:
    """Both layers have the same quantize and dequantize nodes; only the second has a float bias."""
    path = save_linear_layers(tmp_path / "a.onnx", has_float_bias=True)
    profile = profile_kernels(path, engine_name="onnxruntime")
    assert (profile.integer_macs, profile.float_macs) == (64 * 48, 48 * 10)
    assert {kernel.name: kernel.is_integer for kernel in profile.kernels if kernel.macs} == {
        "QGemm": True,
        "Gemm": False,
    }


@pytest.mark.parametrize("has_int8_activations", [False, True])
def test_convolutions_are_counted_by_groups_and_strides(
    engine: str, has_int8_activations: bool, tmp_path: Path
) -> None:
    path = save_convolutions(tmp_path / "a.onnx", has_int8_activations)
    profile = profile_kernels(path, engine_name=engine)
    macs = 20 * 20 * 16 * 8 * 9 + 10 * 10 * 16 * 9
    expected = (macs, 0) if has_int8_activations else (0, macs)
    assert (profile.integer_macs, profile.float_macs) == expected


@pytest.mark.parametrize("int8_products", [0, 1, 2])
def test_products_of_an_attention_are_counted_one_by_one(
    engine: str, int8_products: int, tmp_path: Path
) -> None:
    path = save_attention(tmp_path / "a.onnx", int8_products)
    profile = profile_kernels(path, engine_name=engine)
    assert profile.integer_macs + profile.float_macs == 2 * 4 * 49 * 49 * 32
    assert profile.integer_share == int8_products / 2


def test_impossible_requests_are_refused(demo: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--runtime onnxruntime or openvino"):
        profile_kernels(demo["onnx"], engine_name="other")
    with pytest.raises(ArtifactError):
        profile_kernels(tmp_path / "none.onnx")
    if "openvino" in demo:
        with pytest.raises(RequestError, match="use --runtime openvino"):
            profile_kernels(demo["openvino"], engine_name="onnxruntime")


def test_engine_with_a_profiler_is_recognized(demo: dict[str, Path]) -> None:
    assert can_profile_kernels(demo["onnx"])


def test_command_prints_a_table_or_json(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(save_linear_layers(tmp_path / "a.onnx", has_float_bias=False))
    assert kernel_profile.main([path, "--runtime", engine]) == 0
    assert "100.0% of 0 million" in capsys.readouterr().out
    assert kernel_profile.main([path, "--runtime", engine, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["integer_share"], facts["engine"]) == (1, engine)
    assert sum(kernel["macs"] for kernel in facts["kernels"]) == facts["integer_macs"]
