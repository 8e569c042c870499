"""The protocol of adb against a stand-in (stand_in_adb.py), and what the real runners print. No phone was at hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tinyvit.bench import cli
from tinyvit.bench.record import read_record

STAND_IN = Path(__file__).with_name("stand_in_adb.py")
SAID = {
    "perf_test": "Total inference run time: 13.2 s\\nMin Latency: 0.0181 s\\nMax Latency: 0.0253 s\\nP50 Latency: 0.0199 s\\n"
    "P90 Latency: 0.0207 s\\nP95 Latency: 0.0212 s\\nP99 Latency: 0.0231 s",
    "average only": "Average inference time cost: 19.9 ms",
    "broken": "",
}


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    adb = tmp_path / "bin" / "adb"
    adb.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    adb.chmod(0o755)
    (tmp_path / "root" / "data" / "local" / "tmp").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("STAND_IN_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("STAND_IN_DEVICES", "R5CT device")
    return tmp_path


def runner(folder: Path, kind: str) -> str:
    path = folder / "onnxruntime_perf_test"
    path.write_text(
        f"#!/bin/sh\necho \"$@\" > {folder}/arguments\nprintf '{SAID[kind]}\\n'\nexit {int(kind == 'broken')}\n"
    )
    return str(path)


def test_a_run(device: Path, demo: dict[str, Path]) -> None:
    assert (
        cli.main(
            [
                "device",
                str(demo["onnx"]),
                "--adb",
                "--runner",
                runner(device, "perf_test"),
                "--threads",
                "2",
                "-o",
                str(device),
            ]
        )
        == 0
    )
    record = read_record(device / "R5CT.latency.json")
    (one,) = record.latency
    assert (record.device.name, record.device.system, record.device.features) == (
        "Stand-in 9",
        "Android 15",
        ("dotprod", "i8mm"),
    )
    assert (one.median_ms, one.p90_ms, one.p99_ms, one.min_ms, one.max_ms) == pytest.approx(
        (19.9, 20.7, 23.1, 18.1, 25.3)
    )
    assert (one.samples, one.p99_bound_ms, one.subject.engine["runner"]) == (
        662,
        None,
        "onnxruntime_perf_test",
    )
    arguments = (device / "arguments").read_text().split()
    assert arguments[:8] == ["-I", "-e", "cpu", "-m", "times", "-r", "662", "-x"]
    assert not list((device / "root" / "data" / "local" / "tmp").iterdir())


@pytest.mark.parametrize(
    ("kind", "why"),
    [("average only", "told no median"), ("broken", "onnxruntime_perf_test failed")],
)
def test_a_runner_that_does_not_tell(
    kind: str, why: str, device: Path, demo: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        cli.main(
            [
                "device",
                str(demo["onnx"]),
                "--adb",
                "R5CT",
                "--runner",
                runner(device, kind),
                "-o",
                str(device),
            ]
        )
        == 1
    )
    assert why in capsys.readouterr().err
    assert not list((device / "root" / "data" / "local" / "tmp").iterdir())


@pytest.mark.parametrize(
    ("listed", "asked", "why"),
    [
        ("", None, "adb sees no device"),
        ("A device,B device", None, r"2 devices (A, B)"),
        ("A unauthorized", None, "A is unauthorized"),
        ("A device", "B", "B is not connected"),
    ],
)
def test_devices_that_cannot_be_used(
    listed: str,
    asked: str | None,
    why: str,
    device: Path,
    demo: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STAND_IN_DEVICES", listed)
    command = [
        "device",
        str(demo["onnx"]),
        "--runner",
        runner(device, "perf_test"),
        "-o",
        str(device),
        "--adb",
        *([asked] if asked else []),
    ]
    assert cli.main(command) == 1
    assert why in capsys.readouterr().err


def test_litert_prints_what_is_read() -> None:
    from tinyvit.bench.devices.android import RUNNERS

    said = (
        "count=20 first=18535 curr=14539 min=14472 max=18535 avg=14900.1 std=72 p5=14500 median=14700 p95=15000\n"
        "count=662 first=14575 curr=14539 min=14472 max=14855 avg=14575.2 std=72 p5=14500 median=14570 p95=14800\n"
    )
    times = {
        key: float(pattern.findall(said)[-1]) for key, pattern in RUNNERS["litert"].times.items()
    }
    assert times == {"min": 14472, "max": 14855, "mean": 14575.2, "median": 14570}


def test_files_that_no_runner_runs(
    device: Path, demo: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    if "openvino" not in demo:
        pytest.skip("needs OpenVINO")
    assert (
        cli.main(
            ["device", str(demo["openvino"]), "--adb", "--runner", runner(device, "perf_test")]
        )
        == 1
    )
    assert "no runner for Android is known for openvino-ir files" in capsys.readouterr().err
