"""Files for Hexagon NPUs are measured over adb, with a fake adb and a fake benchmark program.

No Android device was available.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("onnx")

import onnx

from tests.helpers.android_libraries import NAMES, write_libraries
from tests.helpers.android_workspace import device_folder, make_workspace
from tests.helpers.fake_perf_test import write_perf_test
from tests.helpers.qnn_models import make_gelu_model
from tests.hostile.loaders import qnn_files
from tinyvit.bench import cli
from tinyvit.bench.devices.adb import AdbDevice
from tinyvit.bench.devices.android import measure_on_android
from tinyvit.bench.devices.android_runners import RUNNERS
from tinyvit.bench.devices.config import AndroidConfig
from tinyvit.bench.record import read_record
from tinyvit.errors import RequestError
from tinyvit.manifest import MANIFEST_KEY
from tinyvit.runtimes import qualcomm
from tinyvit.runtimes.artifact import read_artifact


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a fake adb and device, and the libraries in "libs"."""
    write_libraries(tmp_path / "libs")
    return make_workspace(tmp_path, monkeypatch)


def write_network(path: Path, small_classifier: Path, precision: str = "float16") -> Path:
    """Write a network that is compiled on the device: a small classifier for the target qnn."""
    model = onnx.load_model(small_classifier)
    manifest = read_artifact(small_classifier).manifest
    assert manifest is not None
    changed = replace(manifest, target="qnn", precision=precision)
    onnx.helper.set_model_props(model, {MANIFEST_KEY: changed.to_json()})
    onnx.save_model(model, path)
    return path


@pytest.fixture
def network(workspace: Path, small_classifier: Path) -> Path:
    """A network that is compiled on the device."""
    return write_network(workspace / "demo.qnn.onnx", small_classifier)


@pytest.fixture
def compiled(workspace: Path) -> Path:
    """A network that is compiled for a chip; the compiled bytes are invented."""
    (path,) = qnn_files.make_samples(workspace)
    return path


def measure(workspace: Path, *words: Path | str, failure: str | None = None) -> int:
    """Run tinyvit-bench device with a fake program, and return its exit code.

    Args:
        workspace: The folder.
        words: Paths of the artifacts and options.
        failure: Error message of the program; None if it succeeds.
    """
    runner = write_perf_test(workspace / "onnxruntime_perf_test", workspace, failure)
    options = ["-o", str(workspace), "--runner", str(runner)]
    return cli.main(["device", *map(str, words), *options])


def test_a_network_runs_wholly_on_the_npu(workspace: Path, network: Path) -> None:
    words = (network, "--adb", "--runs", "150", "--runner-libs", workspace / "libs")
    assert measure(workspace, *words) == 0
    arguments = (workspace / "arguments").read_text().splitlines()
    folder = Path(arguments[-1]).parent
    assert arguments == [
        *("-C", "session.disable_cpu_ep_fallback|1"),
        *("-I", "--plugin_ep_libs"),
        f"QNNExecutionProvider|{folder}/libonnxruntime_providers_qnn.so",
        *("--plugin_eps", "QNNExecutionProvider"),
        *("--plugin_ep_options", f"backend_path|{folder}/libQnnHtp.so"),
        *("-m", "times", "-r", "150", f"{folder}/model.onnx"),
    ]
    assert (workspace / "variables").read_text() == f"1|{folder}|{folder}|"
    files = (workspace / "files").read_text().splitlines()
    assert sorted(files) == sorted([*NAMES, "model.onnx", "runner"])
    assert not list(device_folder(workspace).iterdir())


def test_the_record_states_the_npu(workspace: Path, network: Path) -> None:
    assert measure(workspace, network, "--adb", "--runner-libs", workspace / "libs") == 0
    record = read_record(workspace / "R5CT.latency.json")
    assert record.settings["runner"] == "onnxruntime_perf_test"
    (result,) = record.latency
    engine = result.artifact.engine
    assert (engine.engine, engine.device, engine.threads) == ("qnn", "npu", None)
    assert (result.benchmark_tool, result.warmup_queries) == ("onnxruntime_perf_test", 1)
    times_ms = (result.median_ms, result.p90_ms, result.p99_ms, result.min_ms, result.max_ms)
    assert times_ms == pytest.approx((19.9, 20.7, 23.1, 18.1, 25.3))


def test_a_compiled_network_keeps_its_conversions_on_the_cpu(
    workspace: Path, compiled: Path
) -> None:
    assert measure(workspace, compiled, "--adb", "--runner-libs", workspace / "libs") == 0
    arguments = (workspace / "arguments").read_text().splitlines()
    assert "-C" not in arguments
    assert "--plugin_ep_libs" in arguments
    assert arguments[-1].endswith("/model.qnn.onnx")
    (result,) = read_record(workspace / "R5CT.latency.json").latency
    assert (result.artifact.engine.engine, result.artifact.engine.device) == ("qnn", "npu")


def test_files_for_the_cpu_are_measured_beside(
    workspace: Path, network: Path, small_classifier: Path
) -> None:
    words = (network, small_classifier, "--adb", "--runner-libs", workspace / "libs")
    assert measure(workspace, *words) == 0
    results = read_record(workspace / "R5CT.latency.json").latency
    engines = [result.artifact.engine for result in results]
    assert [(engine.engine, engine.device, engine.threads) for engine in engines] == [
        ("qnn", "npu", None),
        ("onnxruntime", "cpu", 4),
    ]


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (["--adb"], ("demo.qnn.onnx runs on the NPU, for which", "--runner-libs; docs/how-to")),
        (["--adb", "--runner-libs", "libs", "--threads", "2"], ("--threads sets CPU", "omit")),
        (["--adb", "--runner-libs", "bin"], ("bin does not contain libonnx", "copy onnx")),
        (["--adb", "--runner-libs", "absent"], ("absent cannot be listed (No such", "give a")),
        (["--ssh", "me@board", "--runner-libs", "libs"], ("no effect with --ssh", "omit")),
        (["--local", "--runner-libs", "libs"], ("no effect with --local", "omit")),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_sent(
    options: list[str],
    texts: tuple[str, str],
    workspace: Path,
    network: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(workspace)
    (workspace / "bin" / "adb").unlink()
    command = ["device", str(network), *options, "-o", str(workspace)]
    is_android = "--adb" in options
    runner = ["--runner", str(write_perf_test(workspace / "perf", workspace))] if is_android else []
    assert cli.main([*command, *runner]) == 1
    error = capsys.readouterr().err
    assert all(text in error for text in texts)
    assert error.count("\n") == 1


def test_libraries_for_a_file_for_the_cpu_are_refused(
    workspace: Path, small_classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(workspace, small_classifier, "--adb", "--runner-libs", workspace / "libs") == 1
    error = capsys.readouterr().err
    assert "--runner-libs has no effect for these files, which run on the CPU" in error
    assert "omit --runner-libs" in error


def test_a_float32_file_is_refused(
    workspace: Path, small_classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_network(workspace / "demo.qnn.onnx", small_classifier, "float32")
    assert measure(workspace, path, "--adb", "--runner-libs", workspace / "libs") == 1
    assert "demo.qnn.onnx is float32, and Hexagon NPUs compute in" in capsys.readouterr().err


@pytest.mark.parametrize("has_manifest", [True, False])
def test_an_unknown_compiled_network_does_not_reach_the_device(
    has_manifest: bool, workspace: Path, compiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load_model(compiled)
    if has_manifest:
        (context,) = (node for node in model.graph.node if node.op_type == "EPContext")
        (data,) = (part for part in context.attribute if part.name == "ep_cache_context")
        data.s += b"changed"
    else:
        del model.metadata_props[:]
    onnx.save_model(model, compiled)
    assert measure(workspace, compiled, "--adb", "--runner-libs", workspace / "libs") == 1
    error = capsys.readouterr().err
    assert ("was changed after the export" if has_manifest else "without a manifest") in error
    assert not (workspace / "arguments").exists()


def test_a_failure_on_the_npu_is_explained_and_cleaned_up(
    workspace: Path, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = "This session contains graph nodes that are assigned to the default CPU EP"
    words = (network, "--adb", "--runner-libs", workspace / "libs")
    assert measure(workspace, *words, failure=failure) == 1
    error = capsys.readouterr().err
    assert f"onnxruntime_perf_test failed on R5CT ({failure})" in error
    assert "libQnnHtpV...Skel.so" in error
    assert "not compiled for another chip" in error
    assert not list(device_folder(workspace).iterdir())
    assert not list(workspace.glob("*.latency.json"))


def test_a_library_that_cannot_be_sent_leaves_nothing(workspace: Path, network: Path) -> None:
    config = AndroidConfig(
        paths=(network,),
        runner=write_perf_test(workspace / "onnxruntime_perf_test", workspace),
        threads=1,
        runs=100,
        timeout_s=60,
        libraries=(workspace / "libs" / NAMES[0], workspace / "libs" / "gone.so"),
    )
    with pytest.raises(RequestError, match=r"gone\.so cannot be written on R5CT"):
        measure_on_android(AdbDevice(), config)
    assert not list(device_folder(workspace).iterdir())
    assert not (workspace / "arguments").exists()


def test_the_program_and_the_engine_qnn_use_the_same_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: dict[str, Any] = {}

    class Options:
        def add_provider_for_devices(self, _devices: object, options: dict[str, str]) -> None:
            used.update(options)

        def add_session_config_entry(self, key: str, value: str) -> None:
            used[key] = value

    npu = SimpleNamespace(ep_name=qualcomm.PROVIDER, device=SimpleNamespace(type="NPU"))
    onnxruntime = SimpleNamespace(
        SessionOptions=Options,
        InferenceSession=lambda *_: None,
        get_ep_devices=lambda: [npu],
        OrtHardwareDeviceType=SimpleNamespace(NPU="NPU"),
    )
    package = SimpleNamespace(get_qnn_htp_path=lambda: "FOLDER/libQnnHtp.so")
    monkeypatch.setattr(qualcomm, "import_provider", lambda: (onnxruntime, package))
    for format_name, allows_cpu in (("onnx", False), ("qnn-context", True)):
        used.clear()
        qualcomm.create_session(b"", chip=None, allows_cpu=allows_cpu)
        values = {"file": "FILE", "folder": "FOLDER", "threads": 1, "runs": 1}
        words = RUNNERS["qnn"].make_command("./runner", format_name, **values)
        text = words[words.index("--plugin_ep_options") + 1]
        text += f" {words[words.index('-C') + 1]}" if "-C" in words else ""
        assert dict(entry.split("|") for entry in text.split()) == used


def test_onnxruntime_without_the_provider_runs_no_file_on_the_cpu(
    workspace: Path, compiled: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    with pytest.raises(Exception, match="EPContext"):
        onnxruntime.InferenceSession(compiled.read_bytes(), settings)
    settings.add_session_config_entry(*qualcomm.NO_CPU_ENTRY)
    with pytest.raises(Exception, match="fallback to CPU EP has been explicitly disabled"):
        onnxruntime.InferenceSession(make_gelu_model(), settings)
