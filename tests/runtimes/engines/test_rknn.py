"""The engines rknn and rknn-simulator, and .rknn files."""

from __future__ import annotations

import os
import sys
import types
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.helpers.demo_network import SIZE, make_demo_manifest
from tests.helpers.fake_rknn import write_fake_toolkit
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.export.targets.rknn.writer import RknnModel
from tinyvit.golden import CHIRP_FORMULA, CHIRP_PATTERNS
from tinyvit.manifest import GoldenVectors, Manifest
from tinyvit.runtimes.artifact import content_sha256, list_artifact_files, read_artifact
from tinyvit.runtimes.base import AUTO_DEVICE, RuntimeOptions
from tinyvit.runtimes.cli import verify
from tinyvit.runtimes.golden_comparison import make_golden_batch
from tinyvit.runtimes.registry import engines_for_format, get_engine, open_runtime
from tinyvit.runtimes.rockchip.chips import CHIPS, PYTHON_VARIABLE
from tinyvit.runtimes.rockchip.toolkit import CompiledNetwork, ToolkitRequest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the toolkit is for Linux")

KNOWN_RANGES = '{"quantize_parameters": {"image": {"min": [-128], "max": [127]}}}'
CONTENT = b"RKNN" + bytes(4) + b"exported by tinyvit-edge" + bytes(100)


@pytest.fixture
def rknn_file(tmp_path: Path) -> Path:
    """A file in the form of a compiled network, with its manifest and the network beside it."""
    return write_rknn_file(tmp_path / "demo.float16.rk3588.rknn")


def write_rknn_file(path: Path, quantization: str = "", has_golden: bool = False) -> Path:
    """Write a file with bytes that are no compiled network.

    Args:
        path: Where to write it.
        quantization: The toolkit's configuration, for int8.
        has_golden: Whether the manifest has golden vectors of the fake simulator.
    """
    ranges = {"image": (-128.0, 127.0)} if quantization else None
    request = ToolkitRequest(b"network", CHIPS["rk3588"], ranges=ranges)
    compiled = CompiledNetwork(
        CONTENT,
        "rknn-toolkit2 2.5.0",
        (),
        "layers",
        quantization,
        own_range_count=1,
        tensor_count=2,
    )
    model = RknnModel(request, compiled, {}, None)
    precision = "int8" if quantization else "float16"
    manifest = model.add_to_manifest(make_demo_manifest("rknn", precision))
    if has_golden:
        manifest = replace(manifest, golden=make_golden(manifest))
    model.save(path, manifest)
    model.save(path, replace(manifest, content_sha256=content_sha256(path)))
    return path


def make_golden(manifest: Manifest) -> GoldenVectors:
    """Return the golden vectors of the fake simulator, which computes the mean of the image."""
    empty = GoldenVectors(CHIRP_FORMULA, CHIRP_PATTERNS[:2], SIZE, SIZE, (), (1e-3,))
    means = (make_golden_batch(manifest, empty, index).mean() for index in range(2))
    return replace(empty, outputs=tuple((float(mean),) * len(manifest.labels) for mean in means))


def make_batch(path: Path) -> Any:
    """Return zeros in the shape that a file takes."""
    manifest = read_artifact(path).manifest
    assert manifest is not None
    return np.zeros([int(side) for side in manifest.input.shape], np.float32)


def test_a_file_is_recognized_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"RKNN" + bytes(60))
    artifact = read_artifact(path)
    assert artifact.format.name == "rknn"
    assert artifact.manifest is None
    # The board's engine is the default, although neither is installed.
    assert engines_for_format(artifact.format) == ["rknn", "rknn-simulator"]
    assert get_engine("rknn-simulator").is_reference


def test_the_board_needs_two_files(rknn_file: Path) -> None:
    names = [path.name for path in list_artifact_files(rknn_file)]
    assert names == [rknn_file.name, f"{rknn_file.name}.json"]


def test_a_file_that_lost_its_manifest_is_refused(rknn_file: Path) -> None:
    rknn_file.with_name(f"{rknn_file.name}.json").unlink()
    with pytest.raises(ArtifactError, match="manifest is missing"):
        open_runtime(rknn_file)


def test_a_file_of_another_tool_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "yolo.rknn"
    path.write_bytes(b"RKNN" + bytes(60))
    for engine in ("rknn", "rknn-simulator"):
        with pytest.raises(ArtifactError, match="has no manifest"):
            open_runtime(path, engine, RuntimeOptions(device=AUTO_DEVICE))


def test_a_changed_file_is_refused(rknn_file: Path) -> None:
    data = bytearray(rknn_file.read_bytes())
    data[-1] ^= 1
    rknn_file.write_bytes(data)
    for engine in ("rknn", "rknn-simulator"):
        with pytest.raises(ArtifactError, match="was changed after the export"):
            open_runtime(rknn_file, engine, RuntimeOptions(device=AUTO_DEVICE))


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("rknn", {"device": "cpu"}, "has no device 'cpu'"),
        ("rknn", {"device": "npu", "threads": 2}, "--threads"),
        ("rknn", {"device": "npu", "precision": "float32"}, "in float32"),
        ("rknn-simulator", {"device": "npu"}, "has no device 'npu'"),
        ("rknn-simulator", {"threads": 2}, "chooses its threads itself"),
    ],
)
def test_impossible_options_are_refused(
    engine: str, options: dict[str, Any], message: str, rknn_file: Path
) -> None:
    with pytest.raises(RequestError, match=message):
        open_runtime(rknn_file, engine, RuntimeOptions(**options))


def test_a_machine_without_the_packages_gets_one_line(
    rknn_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    with pytest.raises(MissingDependencyError, match="rknn-toolkit-lite2") as error:
        open_runtime(rknn_file)
    assert "--runtime rknn-simulator" in error.value.remedy
    with pytest.raises(MissingDependencyError, match="rknn-toolkit2") as error:
        open_runtime(rknn_file, "rknn-simulator")
    assert PYTHON_VARIABLE in error.value.remedy
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("quantization", ["", KNOWN_RANGES])
def test_the_simulator_runs_the_network_beside_the_file(
    quantization: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rknn_file(tmp_path / "demo.rknn", quantization)
    monkeypatch.setenv(PYTHON_VARIABLE, write_fake_toolkit(tmp_path))
    with open_runtime(path, "rknn-simulator") as runtime:
        info = runtime.describe()
        assert (info.engine, info.device, info.threads) == (
            "rknn-simulator",
            "simulated NPU of rk3588",
            None,
        )
        assert info.version == "rknn-toolkit2 2.5.0"
        assert runtime.run(make_batch(path) + 0.5)[0, 0] == 0.5
        with pytest.raises(ArtifactError, match="the input is"):
            runtime.run(np.zeros((1, 1), np.float32))
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(make_batch(path))
    runtime.close()


def test_the_command_verifies_a_file_in_the_simulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rknn_file(tmp_path / "demo.rknn", has_golden=True)
    command = [str(path), "--runtime", "rknn-simulator"]
    monkeypatch.setenv(PYTHON_VARIABLE, write_fake_toolkit(tmp_path))
    assert verify(command) == 0
    output = capsys.readouterr().out
    assert output.startswith("PASS")
    assert "engine: rknn-simulator, version rknn-toolkit2 2.5.0" in output
    wrong = "def OUTPUTS(image): return [np.full((1, 12), image.mean() + 1, np.float32)]"
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv(PYTHON_VARIABLE, write_fake_toolkit(other, wrong))
    assert verify(command) == 1
    assert capsys.readouterr().out.startswith("FAIL")
    monkeypatch.delenv(PYTHON_VARIABLE)
    assert verify(command) == 1
    message = capsys.readouterr().err
    assert PYTHON_VARIABLE in message
    assert message.count("\n") == 1


def test_the_simulator_refuses_another_network(
    rknn_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    network = rknn_file.with_name(f"{rknn_file.name}.onnx")
    network.write_bytes(b"another network")
    with pytest.raises(ArtifactError, match="is not the network that"):
        open_runtime(rknn_file, "rknn-simulator")
    network.unlink()
    with pytest.raises(ArtifactError, match="cannot read what") as error:
        open_runtime(rknn_file, "rknn-simulator")
    assert network.name in error.value.remedy
    os.mkfifo(network)
    with pytest.raises(ArtifactError, match="cannot read what"):
        open_runtime(rknn_file, "rknn-simulator")


class FakeLite:
    """A class with the methods of rknnlite.api.RKNNLite that the engine calls."""

    code: ClassVar[int] = 0
    released: ClassVar[int] = 0
    outputs: ClassVar[list[Any] | None] = None

    def load_rknn(self, path: str) -> int:
        return 0 if Path(path).read_bytes() == CONTENT else -1

    def init_runtime(self) -> int:
        return self.code

    def inference(self, inputs: list[Any], data_format: list[str]) -> list[Any] | None:
        assert data_format == ["nchw"]
        assert len(inputs) == 1
        return self.outputs

    def release(self) -> None:
        type(self).released += 1


@pytest.fixture
def lite(monkeypatch: pytest.MonkeyPatch) -> type[FakeLite]:
    """The class `FakeLite` in place of the one of rknn-toolkit-lite2."""
    package, api = types.ModuleType("rknnlite"), types.ModuleType("rknnlite.api")
    lite = type("Lite", (FakeLite,), {})
    api.RKNNLite = lite  # type: ignore[attr-defined]
    package.__spec__ = ModuleSpec("rknnlite", None)
    monkeypatch.setitem(sys.modules, "rknnlite", package)
    monkeypatch.setitem(sys.modules, "rknnlite.api", api)
    monkeypatch.setattr("tinyvit.runtimes.engines.rknn.metadata.version", lambda name: "2.5.0")
    return lite


def test_the_board_runs_the_file(rknn_file: Path, lite: type[FakeLite]) -> None:
    lite.outputs = [np.arange(12, dtype=np.float16)]
    with open_runtime(rknn_file, "rknn", RuntimeOptions(device=AUTO_DEVICE)) as runtime:
        assert runtime.describe().version == "rknn-toolkit-lite2 2.5.0"
        assert runtime.describe().precision == "float16"
        output = runtime.run(make_batch(rknn_file))
        assert output.dtype == np.float32
        assert output.tolist() == [list(range(12))]
        for outputs in (None, [], [np.arange(10, dtype=np.float16)]):
            lite.outputs = outputs
            with pytest.raises(ArtifactError, match="no output, or other outputs"):
                runtime.run(make_batch(rknn_file))
    runtime.close()
    assert lite.released == 1
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(make_batch(rknn_file))


def test_a_board_with_another_chip_is_named(rknn_file: Path, lite: type[FakeLite]) -> None:
    lite.code = -1
    with pytest.raises(RequestError, match=r"for rk3588 with rknn-toolkit2 2\.5\.0"):
        open_runtime(rknn_file, "rknn", RuntimeOptions(device=AUTO_DEVICE))
    assert lite.released == 1


def test_an_exception_of_the_library_is_a_refusal(
    rknn_file: Path, lite: type[FakeLite], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: FakeLite, path: str) -> int:
        raise RuntimeError("E RKNN: failed to decode config data!")

    monkeypatch.setattr(lite, "load_rknn", fail)
    with pytest.raises(RequestError, match="this board does not accept it"):
        open_runtime(rknn_file, "rknn", RuntimeOptions(device=AUTO_DEVICE))
    assert lite.released == 1


@pytest.mark.parametrize("engine", ["rknn", "rknn-simulator"])
@pytest.mark.parametrize("field", ["input", "outputs"])
def test_a_manifest_with_a_shape_that_is_not_fixed_is_refused(
    engine: str, field: str, rknn_file: Path
) -> None:
    manifest = read_artifact(rknn_file).manifest
    assert manifest is not None
    if field == "input":
        spec = replace(manifest.input, shape=("batch", *manifest.input.shape[1:]))
        manifest = replace(manifest, input=spec)
    else:
        output = replace(manifest.outputs[0], shape=("batch", len(manifest.labels)))
        manifest = replace(manifest, outputs=(output,))
    rknn_file.with_name(f"{rknn_file.name}.json").write_text(manifest.to_json())
    with pytest.raises(ArtifactError, match="states a shape that is not fixed"):
        open_runtime(rknn_file, engine, RuntimeOptions(device=AUTO_DEVICE))
