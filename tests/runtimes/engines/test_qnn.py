"""The engines qnn and qnn-emulator, and files that are compiled for a Hexagon NPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx

from tests.helpers.qnn_models import make_gelu_model
from tests.helpers.small_classifiers import ArtifactBuilder
from tests.hostile.loaders import qnn_files
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.runtimes import qualcomm, registry
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.cli import verify
from tinyvit.runtimes.network_analysis.npu_operators import describe_operators
from tinyvit.runtimes.registry import engines_for_format, get_engine, open_runtime

needs_package = pytest.mark.skipif(
    find_spec("onnxruntime_qnn") is None, reason="onnxruntime-qnn (extra qnn) is not installed"
)


def write_context_file(path: Path, operators: Sequence[str] = (), **attributes: Any) -> Path:
    """Write a file in the form of a compiled network, with bytes that are none.

    Args:
        path: Where to write it.
        operators: Names of operators on the CPU that follow.
        attributes: Attributes of the compiled network.
    """
    node = onnx.helper.make_node(
        "EPContext", ["x"], ["y"], domain="com.microsoft", ep_cache_context=b"none", **attributes
    )
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, 64]) for name in ("x", "y")]
    nodes = [onnx.helper.make_node(operator, ["y"], ["z"]) for operator in operators]
    graph = onnx.helper.make_graph([node, *nodes], "graph", ends[:1], ends[1:])
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    return path


def test_a_compiled_network_is_recognized_whatever_its_name(tmp_path: Path) -> None:
    path = write_context_file(tmp_path / "model.bin", embed_mode=1)
    artifact = read_artifact(path)
    assert artifact.format.name == "qnn-context"
    assert set(engines_for_format(artifact.format)) == {"qnn", "qnn-emulator"}


@pytest.mark.parametrize("mode", [0, 2, 1.0, "1", [1]])
def test_a_compiled_network_in_another_file_is_refused(mode: Any, tmp_path: Path) -> None:
    path = write_context_file(tmp_path / "model.qnn.onnx", embed_mode=mode)
    with pytest.raises(ArtifactError, match="names another file"):
        open_runtime(path, "qnn-emulator")


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    path = write_context_file(tmp_path / "model.qnn.onnx", embed_mode=1)
    model = onnx.load_model(path)
    tensor = model.graph.initializer.add(name="w", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="/etc/passwd")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="names another file"):
        open_runtime(path, "qnn-emulator")


def test_operators_on_the_cpu_may_not_enlarge_anything(tmp_path: Path) -> None:
    path = write_context_file(tmp_path / "a.onnx", ["LayerNormalization"], embed_mode=1)
    with pytest.raises(ArtifactError, match="without a manifest"):
        open_runtime(path, "qnn-emulator")
    write_context_file(path, ["MatMul", "Expand"], embed_mode=1)
    with pytest.raises(ArtifactError, match=r"do not need \(Expand, MatMul\)"):
        open_runtime(path, "qnn-emulator")
    write_context_file(path, ["Identity"] * 1000, embed_mode=1)
    with pytest.raises(ArtifactError, match="1001 operators, more than 1000"):
        open_runtime(path, "qnn-emulator")


def test_the_command_verifies_a_file_in_the_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    qnn_files.install_fake(monkeypatch)
    (path,) = qnn_files.make_samples(tmp_path)
    assert verify([str(path), "--runtime", "qnn-emulator"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("PASS")
    assert "engine: qnn-emulator, version onnxruntime-qnn 2.7.0" in output
    assert "device emulated NPU of sm8650" in output


def test_the_command_refuses_the_network_of_another_chip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    qnn_files.install_fake(monkeypatch)
    path = qnn_files.make_other_network(tmp_path)
    assert verify([str(path), "--runtime", "qnn-emulator"]) == 1
    message = capsys.readouterr().err
    assert "is compiled for sm8650 with QAIRT 2.51.0, and this device does not" in message
    assert message.count("\n") == 1


def test_a_compiled_network_without_a_manifest_is_refused(tmp_path: Path) -> None:
    path = write_context_file(tmp_path / "model.qnn.onnx", embed_mode=1)
    with pytest.raises(ArtifactError, match="without a manifest"):
        open_runtime(path, "qnn-emulator")


def test_the_emulator_is_a_reference_and_never_the_default(tmp_path: Path) -> None:
    assert get_engine("qnn-emulator").is_reference
    path = tmp_path / "gelu.onnx"
    path.write_bytes(make_gelu_model())
    assert engines_for_format(read_artifact(path).format)[0] == "onnxruntime"


@pytest.mark.parametrize("engine", ["qnn", "qnn-emulator"])
def test_a_machine_without_the_package_gets_one_line(engine: str, tmp_path: Path) -> None:
    if find_spec("onnxruntime_qnn") is not None:
        pytest.skip("onnxruntime-qnn is installed")
    path = tmp_path / "gelu.onnx"
    path.write_bytes(make_gelu_model())
    with pytest.raises(MissingDependencyError, match="onnxruntime-qnn") as error:
        open_runtime(path, engine)
    assert "[qnn]" in error.value.remedy
    assert "\n" not in str(error.value)


def test_a_file_for_the_npu_names_the_missing_package(
    build_artifact: ArtifactBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    # Another test may have registered Qualcomm's provider, which stays in the process.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, qualcomm.PACKAGE, None)
    monkeypatch.setattr(registry, "is_installed", lambda name: name == "onnxruntime")
    artifact, npu = read_artifact(build_artifact()), RuntimeOptions(device="npu")
    assert artifact.manifest is not None
    with pytest.raises(RequestError, match="this build of onnxruntime has no device 'npu'"):
        open_runtime(artifact, options=npu)
    manifest = replace(artifact.manifest, target="qnn", precision="float16")
    for_npu = replace(artifact, manifest=manifest)
    with pytest.raises(MissingDependencyError, match="onnxruntime-qnn is not installed"):
        open_runtime(for_npu, options=npu)
    with open_runtime(for_npu) as runtime:
        assert runtime.describe().engine == "onnxruntime"


@needs_package
def test_the_emulator_computes_gelu(tmp_path: Path) -> None:
    path = tmp_path / "gelu.onnx"
    path.write_bytes(make_gelu_model())
    with open_runtime(path, "qnn-emulator") as runtime:
        batch = np.tile(np.float32([-1.0, 0.0, 1.0, 2.0]), 16)[None]
        outputs = runtime.run(batch)
        assert outputs[0, :4] == pytest.approx([-0.1587, 0.0, 0.8413, 1.9545], abs=2e-3)
        info = runtime.describe()
        assert (info.engine, info.device, info.threads) == (
            "qnn-emulator",
            "emulated NPU of sm8550",
            None,
        )


@needs_package
def test_a_machine_without_an_npu_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "gelu.onnx"
    path.write_bytes(make_gelu_model())
    with pytest.raises(RequestError, match="finds no Qualcomm NPU"):
        open_runtime(path, None, RuntimeOptions(device="npu"))


@needs_package
@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("qnn", {"device": "cpu"}, "has no device 'cpu'"),
        ("qnn", {"device": "npu", "threads": 2}, "--threads"),
        ("qnn-emulator", {"device": "npu"}, "has no device 'npu'"),
        ("qnn-emulator", {"threads": 2}, "cannot be changed"),
        ("qnn-emulator", {"precision": "float16"}, "in float16"),
    ],
)
def test_impossible_options_are_refused(
    engine: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "gelu.onnx"
    path.write_bytes(make_gelu_model())
    with pytest.raises(RequestError, match=message):
        open_runtime(path, engine, RuntimeOptions(**options))


def test_float32_files_are_refused(demo: dict[str, Path]) -> None:
    with pytest.raises(RequestError, match="float32, and Hexagon NPUs compute in float16"):
        open_runtime(demo["onnx"], "qnn-emulator")


@needs_package
@pytest.mark.parametrize("name", list(qualcomm.CHIPS))
def test_a_quantized_network_is_compiled_for_every_chip(name: str) -> None:
    compiled = qualcomm.compile_network(make_gelu_model(), qualcomm.CHIPS[name])
    assert compiled.cpu_outputs == {}
    assert compiled.compiler.startswith("QAIRT 2.")
    operators = [node.op_type for node in onnx.load_model_from_string(compiled.data).graph.node]
    assert sorted(operators) == ["DequantizeLinear", "EPContext", "QuantizeLinear"]


def test_conversions_between_two_parts_for_the_npu_stay_on_the_cpu() -> None:
    make = onnx.helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["x8"]),
        make("EPContext", ["x8"], ["a8"], domain="com.microsoft"),
        make("DequantizeLinear", ["a8", "s", "z"], ["a"]),
        make("QuantizeLinear", ["a", "t", "z"], ["b8"]),
        make("EPContext", ["b8"], ["y8"], domain="com.microsoft"),
        make("DequantizeLinear", ["y8", "s", "z"], ["y"]),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, 64]) for name in ("x", "y")]
    graph = onnx.helper.make_graph(nodes, "graph", ends[:1], ends[1:])
    assert qualcomm.find_cpu_outputs(graph) == {"a": "DequantizeLinear", "b8": "QuantizeLinear"}


@needs_package
def test_what_stays_on_the_cpu_is_listed() -> None:
    model = make_gelu_model(has_norm_for_cpu=True)
    compiled = qualcomm.compile_network(model, qualcomm.DEFAULT_CHIP)
    assert compiled.cpu_outputs["norm"] == "LayerNormalization"
    assert "1 LayerNormalization" in describe_operators(compiled.cpu_outputs)


@needs_package
def test_a_changed_compiled_network_is_refused(tmp_path: Path, compiled_file: Path) -> None:
    data = bytearray(compiled_file.read_bytes())
    data[data.index(b"ep_cache_context") + 1000] ^= 0xFF
    changed = tmp_path / compiled_file.name
    changed.write_bytes(data)
    with pytest.raises(ArtifactError, match="was changed after the export"):
        open_runtime(changed, "qnn-emulator")


@needs_package
def test_a_compiled_file_runs_in_the_emulator(compiled_file: Path) -> None:
    artifact = read_artifact(compiled_file)
    assert artifact.manifest is not None
    with open_runtime(compiled_file, "qnn-emulator") as runtime:
        assert runtime.describe().device == "emulated NPU of sm8650"
        batch = np.zeros((1, 64), np.float32)
        assert np.abs(runtime.run(batch)).max() < 1e-3


@pytest.fixture
def compiled_file(tmp_path: Path) -> Path:
    """A file with GELU, compiled for sm8650, with a manifest."""
    from tests.helpers.demo_network import make_demo_manifest
    from tinyvit.export.targets.qnn.writer import QnnModel
    from tinyvit.runtimes.artifact import content_sha256

    chip = qualcomm.CHIPS["sm8650"]
    data = make_gelu_model()
    model = QnnModel(data, qualcomm.compile_network(data, chip), chip, True, {})
    manifest = model.add_to_manifest(make_demo_manifest("qnn", "float16"))
    path = tmp_path / "gelu.sm8650.qnn.onnx"
    model.save(path, manifest)
    model.save(path, replace(manifest, content_sha256=content_sha256(path)))
    return path
