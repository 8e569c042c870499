"""A session returns the device's results; this machine stands for the device."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.hostile_text import has_control_characters
from tests.helpers.records import (
    make_accuracy,
    make_accuracy_record,
    make_latency,
    make_latency_record,
)
from tinyvit.bench import cli
from tinyvit.bench.devices import transport
from tinyvit.bench.devices.config import SessionConfig
from tinyvit.bench.devices.process import CompletedCommand
from tinyvit.bench.devices.session import measure_on_device
from tinyvit.bench.devices.transport import LocalTransport
from tinyvit.bench.record import read_record
from tinyvit.errors import RequestError
from tinyvit.progress import NullProgress


def test_records_are_returned_and_the_folder_is_deleted(
    small_classifier: Path,
    predicted_class_folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    output = tmp_path / "out"
    command = ["device", str(small_classifier), "--local", "--use-env", sys.prefix]
    options = ["--threads", "1", "--images", "8", "--runs", "3", "-o", str(output)]
    assert cli.main([*command, *options, "--data", str(predicted_class_folders)]) == 0
    printed = capsys.readouterr().out
    assert "| artifact | engine | images | top-1 (95% interval)" in printed
    assert "| 8 | 100.0" in printed
    latency = read_record(output / "local.latency.json")
    assert latency.latency[0].artifact.engine.threads == 1
    accuracy = read_record(output / "local.accuracy.json")
    assert (accuracy.accuracy[0].classified_count, accuracy.accuracy[0].top1) == (8, 100)
    verified = json.loads((output / "local.verify.json").read_text())
    assert verified["test.onnx"]["passed"] is True
    assert not [*tmp_path.glob("tinyvit-*"), *tmp_path.glob(".tinyvit*")]


def test_name_with_a_leading_dash_is_not_an_option(
    small_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = tmp_path / "--json $(touch pwned) it's.onnx"
    shutil.copy(small_classifier, artifact)
    config = SessionConfig(
        (artifact,), use_env=sys.prefix, latency_arguments=("--runs", "3", "--cold", "0")
    )
    results = measure_on_device(LocalTransport(), config, NullProgress())
    assert results.problems == ()
    assert results.latency is not None
    assert results.verifications[artifact.name]["passed"] is True
    assert Path(results.latency.latency[0].artifact.path).name == artifact.name


class DishonestTransport(LocalTransport):
    """A device whose commands print something else than what was requested."""

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output

    def run(
        self, command: Sequence[str], timeout_s: float, cwd: str | None = None
    ) -> CompletedCommand:
        if cwd is None:
            return super().run(command, timeout_s)
        return CompletedCommand(0, self.output, "")


@pytest.mark.parametrize(
    "output",
    [
        '{"schema": 3, "kind": "latency", "results": [7], "passed": "yes"}',
        '{"schema": 3, "kind": "latency", "passed": 1}',
        "[" * 100_000,
        "",
        '"passed"',
    ],
    ids=["wrong types", "no results", "deep", "empty", "no object"],
)
def test_output_of_the_device_is_not_trusted(output: str, small_classifier: Path) -> None:
    config = SessionConfig((small_classifier,), use_env=sys.prefix)
    results = measure_on_device(DishonestTransport(output), config, NullProgress())
    assert results.latency is None
    assert results.verifications == {}
    assert len(results.problems) == 2


class FailingTransport(LocalTransport):
    """A device on which every command fails with a message that contains the temporary folder."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = ""

    def run(
        self, command: Sequence[str], timeout_s: float, cwd: str | None = None
    ) -> CompletedCommand:
        if cwd is None:
            return super().run(command, timeout_s)
        self.folder = cwd
        return CompletedCommand(1, "", f"cannot read {cwd}/test.onnx")


def test_a_problem_with_a_file_does_not_mean_that_the_folder_remains(
    small_classifier: Path,
) -> None:
    device = FailingTransport()
    config = SessionConfig((small_classifier,), use_env=sys.prefix)
    results = measure_on_device(device, config, NullProgress())
    assert len(results.problems) == 2
    assert all(device.folder in problem for problem in results.problems)
    assert results.remaining_folder is None
    assert not Path(device.folder).exists()


@pytest.mark.parametrize(
    "output",
    [
        '{"passed": false, "reasons": 5}',
        '{"passed": false, "reasons": ["\\u001b[2J\\ud800"]}',
        make_accuracy_record(make_accuracy("a", 1)).to_json(),
        make_latency_record(make_latency("a", 1), settings={}).to_json(),
    ],
    ids=["no list", "escape sequence", "another kind", "no settings"],
)
def test_hostile_output_of_the_device_is_reported(
    output: str,
    small_classifier: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(transport, "LocalTransport", lambda: DishonestTransport(output))
    command = ["device", str(small_classifier), "--local", "--use-env", sys.prefix]
    assert cli.main([*command, "-o", str(tmp_path)]) == 1
    text = "".join(capsys.readouterr())
    assert "unexpected" not in text
    assert not has_control_characters(text)


@pytest.mark.parametrize("version", ["3", "9" * 5000, "\x1b[2J 3", ""], ids=range(4))
def test_an_impossible_version_of_python_is_refused(version: str, small_classifier: Path) -> None:
    class OddTransport(LocalTransport):
        def run(
            self, command: Sequence[str], timeout_s: float, cwd: str | None = None
        ) -> CompletedCommand:
            return CompletedCommand(0, version, "")

    config = SessionConfig((small_classifier,), use_env=sys.prefix)
    with pytest.raises(RequestError, match="states no version of Python: name Python 3"):
        measure_on_device(OddTransport(), config, NullProgress())


def test_failed_verification_is_returned_and_is_a_problem(small_classifier: Path) -> None:
    output = '{"passed": false, "reasons": ["the network was changed"]}'
    config = SessionConfig((small_classifier,), use_env=sys.prefix)
    results = measure_on_device(DishonestTransport(output), config, NullProgress())
    assert results.verifications["test.onnx"]["passed"] is False
    assert "tinyvit-verify test.onnx did not pass: the network was changed" in results.problems


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"' + "x" * 2**20 + '"'])
def test_a_verification_that_is_no_plain_json_is_not_written(
    value: str, small_classifier: Path
) -> None:
    output = f'{{"passed": true, "max_abs_diff": {value}}}'
    config = SessionConfig((small_classifier,), use_env=sys.prefix)
    results = measure_on_device(DishonestTransport(output), config, NullProgress())
    assert results.verifications == {}
    assert "tinyvit-verify test.onnx failed: exit code 0" in results.problems


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--local", "--port", "3"], "--port has no effect with --local"),
        (["--adb", "--runner", "x", "--data", "d"], "--data has no effect with --adb"),
        (["--ssh", "host", "--runner", "x"], "--runner has no effect with --ssh"),
        (["--adb"], "--adb needs the engine's benchmark program"),
        (["--local", "--python", "no-such-python"], "no-such-python"),
        (["--local", "--use-env", "/no/such/env"], "/no/such/env"),
    ],
)
def test_options_without_effect_are_refused(
    options: list[str],
    text: str,
    small_classifier: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["device", str(small_classifier), "-o", str(tmp_path), *options]) == 1
    assert text in capsys.readouterr().err
