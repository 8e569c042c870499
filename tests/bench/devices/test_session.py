"""A visit to a device that is this machine: what is sent, what comes back, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tinyvit.bench import cli
from tinyvit.bench.devices import bundle
from tinyvit.bench.devices.session import RemoteMeasurement, measure_on_device
from tinyvit.bench.devices.transport import CompletedCommand, Local, run_process
from tinyvit.bench.record import read_record
from tinyvit.errors import RequestError


def test_the_wheel_is_this_package(tmp_path: Path) -> None:
    wheel = bundle.make_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for needed in (
        "__init__.py",
        "bench/cli.py",
        "bench/report/page.css",
        "runtimes/engines/onnxruntime.py",
        "assets/demo.safetensors",
    ):
        assert f"tinyvit/{needed}" in names
    assert not [name for name in names if "__pycache__" in name]
    assert len(set(names)) == len(names)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--no-index",
            "--target",
            str(tmp_path / "site"),
            str(wheel),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    code = "import tinyvit.bench.cli as cli; print(cli.__file__); cli.main(['--version'])"
    path = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); "
    told = subprocess.run([sys.executable, "-I", "-c", path + code], capture_output=True, text=True)
    assert told.stdout.startswith(str(tmp_path / "site"))
    assert "tinyvit-bench" in told.stdout


def test_a_bundle_holds_all_files_and_few_pictures(
    demo: dict[str, Path], folders: Path, tmp_path: Path
) -> None:
    bundle.make(list(demo.values()), folders, 7, None, tmp_path)
    for path in demo.values():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    if "openvino" in demo:
        assert (tmp_path / demo["openvino"].with_suffix(".bin").name).is_file()
    pictures = list((tmp_path / bundle.PICTURES).rglob("*.png"))
    assert len(pictures) == 7
    assert {path.parent.name for path in pictures} <= {each.name for each in folders.iterdir()}


def test_two_files_of_one_name(demo: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="same name"):
        bundle.make([demo["onnx"], demo["onnx"]], None, 1, None, tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(RequestError, match="no wheels"):
        bundle.make([demo["onnx"]], None, 1, tmp_path / "none", tmp_path)


def test_the_whole_visit(
    demo: dict[str, Path], folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [
        "device",
        str(demo["onnx"]),
        "--local",
        "--use-env",
        sys.prefix,
        "-o",
        str(tmp_path / "out"),
        "--threads",
        "1",
    ]
    assert cli.main([*command, "--data", str(folders), "--images", "8", "--runs", "3"]) == 0
    latency, accuracy = (
        read_record(tmp_path / "out" / "local.latency.json"),
        read_record(tmp_path / "out" / "local.accuracy.json"),
    )
    assert latency.latency[0].subject.engine["threads"] == 1
    assert (accuracy.accuracy[0].images, accuracy.accuracy[0].top1) == (8, 100)
    verified = json.loads((tmp_path / "out" / "local.verify.json").read_text())
    assert verified["demo.onnx"]["passed"] is True
    assert not list(tmp_path.glob("tinyvit-*"))


def test_what_comes_back_is_not_trusted(demo: dict[str, Path]) -> None:
    """A device whose commands print something else."""

    class Liar(Local):
        def run(
            self, argv: Sequence[str], timeout_s: float, cwd: str | None = None
        ) -> CompletedCommand:
            if cwd is None:
                return super().run(argv, timeout_s)
            return CompletedCommand(
                0, '{"schema": 1, "kind": "latency", "results": [7], "passed": "yes"}', ""
            )

    found = measure_on_device(
        Liar(), RemoteMeasurement((demo["onnx"],), use_env=sys.prefix), lambda line: None
    )
    assert found.latency is None
    assert found.verified == {}
    assert len(found.problems) == 2


def test_output_and_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyvit.bench.devices.transport.MAX_OUTPUT", 2**20)
    with pytest.raises(RequestError, match="printed more than 1 MiB"):
        run_process([sys.executable, "-c", "while True: print('x' * 10000)"], "it", 60)
    with pytest.raises(RequestError, match=r"took more than 0\.5 s"):
        run_process([sys.executable, "-c", "import time; time.sleep(60)"], "it", 0.5)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--local", "--port", "3"], "--port has no meaning"),
        (["--adb", "--runner", "x", "--data", "d"], "--data has no meaning"),
        (["--ssh", "host", "--runner", "x"], "--runner has no meaning"),
        (["--adb"], "needs an engine's own benchmark"),
        (["--local", "--python", "no-such-python"], "no-such-python"),
        (["--local", "--use-env", "/no/such/env"], "/no/such/env"),
    ],
)
def test_options_of_another_way(
    options: list[str],
    why: str,
    demo: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["device", str(demo["onnx"]), "-o", str(tmp_path), *options]) == 1
    assert why in capsys.readouterr().err
