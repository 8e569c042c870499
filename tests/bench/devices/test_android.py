"""Devices are measured over adb (with a fake adb), and outputs of benchmark programs are parsed.

No Android device was available.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.android_workspace import device_folder, make_workspace
from tests.helpers.fake_perf_test import write_perf_test
from tests.helpers.fake_tensorrt import make_manifest
from tests.helpers.hostile_text import has_control_characters
from tinyvit.bench import cli
from tinyvit.bench.devices.adb import AdbDevice
from tinyvit.bench.devices.android import measure_on_android
from tinyvit.bench.devices.android_runners import RUNNERS, read_times
from tinyvit.bench.devices.config import AndroidConfig
from tinyvit.bench.devices.process import CompletedCommand
from tinyvit.bench.record import read_record
from tinyvit.errors import RequestError
from tinyvit.runtimes.formats.sidecar import manifest_path

PROGRAM_OUTPUTS = {
    "percentiles": "Total inference run time: 13.2 s\\nMin Latency: 0.0181 s\\n"
    "Max Latency: 0.0253 s\\nP50 Latency: 0.0199 s\\nP90 Latency: 0.0207 s\\n"
    "P95 Latency: 0.0212 s\\nP99 Latency: 0.0231 s",
    "only the mean": "Average inference time cost: 19.9 ms",
    "failure": "",
}
"""Name of a case -> output of a fake onnxruntime_perf_test."""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a fake adb on PATH in "bin", and the fake device's file system in "root"."""
    return make_workspace(tmp_path, monkeypatch)


def write_runner(workspace: Path, kind: str) -> str:
    """Write a fake onnxruntime_perf_test that records its arguments and the telemetry setting."""
    path = workspace / "onnxruntime_perf_test"
    path.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" >> {workspace}/arguments\n"
        f'printf %s "$ORT_DISABLE_TELEMETRY" > {workspace}/telemetry\n'
        f"printf '{PROGRAM_OUTPUTS[kind]}\\n'\nexit {int(kind == 'failure')}\n"
    )
    return str(path)


def measure(
    workspace: Path, artifact: Path | str, *options: str, runner: str = "percentiles"
) -> int:
    """Run tinyvit-bench device --adb, and return its exit code."""
    command = ["device", str(artifact), "-o", str(workspace), *options]
    return cli.main([*command, "--runner", write_runner(workspace, runner)])


def test_record_contains_the_printed_statistics(workspace: Path, small_classifier: Path) -> None:
    assert measure(workspace, small_classifier, "--adb", "--threads", "2") == 0
    record = read_record(workspace / "R5CT.latency.json")
    device = record.device
    assert (device.name, device.system) == ("Stand-in 9", "Android 15")
    assert (device.cpu_features, device.core_count) == (("dotprod", "i8mm"), 2)
    (result,) = record.latency
    times_ms = (result.median_ms, result.p90_ms, result.p99_ms, result.min_ms, result.max_ms)
    assert times_ms == pytest.approx((19.9, 20.7, 23.1, 18.1, 25.3))
    assert (result.sample_count, result.p99_bound_ms) == (662, None)
    assert (result.benchmark_tool, result.warmup_queries) == ("onnxruntime_perf_test", 1)
    engine = result.artifact.engine
    assert (engine.engine, engine.device, engine.threads) == ("onnxruntime", "cpu", 2)
    arguments = (workspace / "arguments").read_text().split()
    assert arguments[:8] == ["-I", "-e", "cpu", "-m", "times", "-r", "662", "-x"]
    assert not list(device_folder(workspace).iterdir())


@pytest.mark.parametrize("setting", ["1", "0; touch pwned"])
def test_telemetry_has_the_setting_of_this_machine(
    workspace: Path, small_classifier: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", setting)
    assert measure(workspace, small_classifier, "--adb") == 0
    assert (workspace / "telemetry").read_text() == setting
    assert not list(workspace.rglob("pwned"))


ODD_NAMES = [
    "-rf.onnx",
    "a b.onnx",
    'it\'s $(touch pwned) `touch pwned`;"x".onnx',
    "m.onnx $(touch pwned) 'x",
    "demo.$(touch pwned)",
    "demo.`touch pwned`",
    "demo.;touch pwned",
    "demo.&touch pwned|touch pwned>pwned",
    "line\ntouch pwned\n.onnx",
    "demo.\ntouch pwned\n",
    "demo.${IFS}$((1))*?[a]~",
    os.fsdecode(b"\xff\xfe$(touch pwned).\xff"),
    "\x1b]0;title\x07.on\x1bnx",
]


def test_names_of_files_are_never_interpreted_by_the_device(
    workspace: Path,
    small_classifier: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ODD_NAMES:
        shutil.copy(small_classifier, workspace / name)
    monkeypatch.chdir(workspace)
    runner = workspace / "$(touch pwned) it's a runner"
    shutil.copy(write_runner(workspace, "percentiles"), runner)
    command = ["device", *(f"./{name}" for name in ODD_NAMES), "-o", str(workspace)]
    assert cli.main([*command, "--runner", str(runner), "--adb"]) == 0
    arguments = (workspace / "arguments").read_text().splitlines()
    options = ["-I", "-e", "cpu", "-m", "times", "-r", "662", "-x", "4"]
    calls = [arguments[start : start + 10] for start in range(0, len(arguments), 10)]
    assert [call[:9] for call in calls] == [options] * len(ODD_NAMES)
    assert [Path(call[9]).name for call in calls] == ["model.onnx"] * len(ODD_NAMES)
    assert not list(workspace.rglob("pwned"))
    assert not list(device_folder(workspace).iterdir())
    assert not has_control_characters("".join(capsys.readouterr()))


@pytest.mark.parametrize(
    ("runner", "text"),
    [
        ("only the mean", "onnxruntime_perf_test on R5CT printed no median latency"),
        ("failure", "onnxruntime_perf_test failed on R5CT"),
    ],
)
def test_program_without_a_median_is_an_error(
    runner: str,
    text: str,
    workspace: Path,
    small_classifier: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert measure(workspace, small_classifier, "--adb", "R5CT", runner=runner) == 1
    assert text in capsys.readouterr().err
    assert not list(device_folder(workspace).iterdir())


def test_a_damaged_artifact_does_not_prevent_the_others(
    workspace: Path, small_classifier: Path
) -> None:
    damaged = workspace / "damaged.onnx"
    damaged.write_bytes(b"not a model")
    config = AndroidConfig(
        paths=(damaged, small_classifier),
        runner=Path(write_runner(workspace, "percentiles")),
        threads=1,
        runs=100,
        timeout_s=60,
    )
    record = measure_on_android(AdbDevice(), config)
    assert [result.artifact.path for result in record.latency] == [str(small_classifier)]
    (failure,) = record.failures
    assert "damaged.onnx is damaged" in failure


@pytest.mark.parametrize(
    ("devices", "serial", "text"),
    [
        ("", None, "adb lists no device"),
        ("A device,B device", None, "2 devices (A, B)"),
        ("A unauthorized", None, "A is unauthorized"),
        ("A device", "B", "B is not connected"),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_unusable_devices_are_explained(
    devices: str, serial: str | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ADB_DEVICES", devices)
    with pytest.raises(RequestError) as caught:
        AdbDevice(serial)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "output",
    [
        "P50 Latency: 1.2.3 s",
        "P50 Latency: ... s",
        "P50 Latency: 1e+999 s",
        f"P50 Latency: {'9' * 400} s",
        "P50 Latency: 0.0 s",
    ],
)
def test_an_impossible_latency_is_an_error(
    output: str,
    workspace: Path,
    small_classifier: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(PROGRAM_OUTPUTS, "impossible", output)
    assert measure(workspace, small_classifier, "--adb", runner="impossible") == 1
    assert "printed no median latency" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "cause"), [("", "is not a file"), ("absent", "does not exist")])
def test_a_runner_that_is_no_file_is_refused(
    name: str,
    cause: str,
    workspace: Path,
    small_classifier: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = workspace / name
    assert cli.main(["device", str(small_classifier), "--adb", "--runner", str(path)]) == 1
    assert f"--runner {path} {cause}: give the path of" in capsys.readouterr().err


def test_a_long_line_of_output_takes_no_long_time() -> None:
    output = "count=1 " * 500_000 + "\ncount=1 median=2000\n"
    assert read_times(RUNNERS["litert"], output) == pytest.approx({"median": 2.0})


def test_output_of_litert_is_read_without_its_warmup() -> None:
    output = (
        "count=20 first=18535 curr=14539 min=14472 max=18535 avg=14900.1 std=72 p5=14500"
        " median=14700 p95=15000\n"
        "count=662 first=14575 curr=14539 min=14472 max=14855 avg=14575.2 std=72 p5=14500"
        " median=14570 p95=14800\n"
    )
    times_ms = read_times(RUNNERS["litert"], output)
    assert times_ms == pytest.approx(
        {"min": 14.472, "max": 14.855, "mean": 14.5752, "median": 14.57}
    )


def test_a_file_for_another_npu_is_not_measured_on_the_cpu(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace / "demo.rknn"
    path.write_bytes(b"RKNN" + bytes(60))
    manifest_path(path).write_text(make_manifest(target="rknn").to_json(), encoding="utf-8")
    assert measure(workspace, path, "--adb") == 1
    error = capsys.readouterr().err
    assert "demo.rknn is made for an NPU, for which no benchmark program for Android" in error
    assert "measure it over --ssh with --use-env" in error


def test_a_file_for_a_gpu_is_not_called_one_for_an_npu(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace / "demo.engine"
    path.write_bytes(b"vtrt".ljust(256, b"\0"))
    manifest_path(path).write_text(make_manifest().to_json(), encoding="utf-8")
    assert measure(workspace, path, "--adb") == 1
    assert "no benchmark program for Android is known for .engine files" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["", "/data/local/tmp/tinyvit-a b|c", "/data/local/tmp/x"])
def test_an_odd_temporary_folder_is_refused(
    folder: str, workspace: Path, small_classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, commands = AdbDevice.run, []

    def answer(device: AdbDevice, command: Sequence[str], *options: Any) -> CompletedCommand:
        commands.append(command[0])
        is_mktemp = command[0] == "mktemp"
        return CompletedCommand(0, folder, "") if is_mktemp else run(device, command, *options)

    monkeypatch.setattr(AdbDevice, "run", answer)
    config = AndroidConfig((small_classifier,), small_classifier, threads=1, runs=1, timeout_s=60)
    with pytest.raises(RequestError, match="no folder can be created in /data/local/tmp"):
        measure_on_android(AdbDevice(), config)
    assert commands[-1] == "mktemp"


def test_an_exit_code_of_ssh_is_not_one_of_adb(
    workspace: Path, small_classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = write_perf_test(workspace / "perf_test", workspace, failure="Permission denied")
    command = ["device", str(small_classifier), "-o", str(workspace), "--adb", "--runner"]
    assert cli.main([*command, str(runner)]) == 1
    error = capsys.readouterr().err
    assert "onnxruntime_perf_test failed on R5CT (Permission denied)" in error
    assert "key" not in error


def test_format_without_a_program_is_refused(
    workspace: Path, small_openvino_classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(workspace, small_openvino_classifier, "--adb") == 1
    err = capsys.readouterr().err
    assert "no benchmark program for Android is known for .xml files" in err


@pytest.mark.parametrize("number", ["0", "9e99", "1e-99", "...", "1.2.3", "nan", "-1"])
def test_times_that_no_record_contains_are_left_out(number: str) -> None:
    output = f"I1 count=9 min=1 max={number} avg={number} median=2"
    expected = {"min": 0.001, "median": 0.002}
    # "1.2.3" begins with the number 1.2.
    expected |= {"max": 0.0012, "mean": 0.0012} if number == "1.2.3" else {}
    assert read_times(RUNNERS["litert"], output) == pytest.approx(expected)
