"""The commands make no network call, and write nothing outside their output.

Each command runs under strace with an empty home folder, outside of what onnxruntime and OpenVINO
recognize as continuous integration, where they would send nothing anyway.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.observed_process import Observation, observe, require_strace
from tests.helpers.random_images import save_random_images
from tests.helpers.records import make_latency, make_latency_record
from tests.helpers.small_classifiers import build_classifier
from tinyvit import Classifier

COMMANDS = {
    "export": "tinyvit.export.cli:main",
    "predict": "tinyvit.runtimes.cli:predict",
    "verify": "tinyvit.runtimes.cli:verify",
    "inspect": "tinyvit.runtimes.cli:inspect",
    "bench": "tinyvit.bench.cli:main",
    "distill": "tinyvit.distill.cli:main",
}
TARGETS = ("onnx", "ort", "openvino", "litert", "executorch", "coreml")
ENGINES = {".onnx": "onnxruntime", ".xml": "openvino"}
"""Suffix of a small classifier -> the engine that runs it."""

WAIT_FOR_THE_UPLOAD = """
import sys, time
from tinyvit import Classifier
with Classifier(sys.argv[1]) as classifier:
    classifier.predict(sys.argv[2])
    time.sleep(12)  # onnxruntime asks for its collector 9.5 s after the start
"""


@pytest.fixture(autouse=True, scope="module")
def strace() -> None:
    """Skip all tests of this file if strace cannot be used."""
    require_strace()


@pytest.fixture
def artifact(request: pytest.FixtureRequest, demo_64_artifacts: dict[str, Any]) -> Path:
    """The artifact of the demo model for the target that is the parameter."""
    if request.param not in demo_64_artifacts:
        pytest.skip(f"the tools of the target {request.param} are not installed")
    return Path(demo_64_artifacts[request.param].path)


@pytest.fixture(params=ENGINES)
def small_artifact(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that runs in microseconds, for onnxruntime and for OpenVINO."""
    pytest.importorskip("onnx")
    pytest.importorskip(ENGINES[request.param])
    folder = tmp_path / "small"
    folder.mkdir()
    return build_classifier(folder, request.param, "host", batch="batch", with_manifest=True)


def run(name: str, *arguments: object, folder: Path, **variables: str) -> Observation:
    """Run a command of this package under observation.

    Args:
        name: A key of `COMMANDS`.
        *arguments: The arguments of the command.
        folder: A folder for the home folder of the command.
        **variables: Environment variables for the command.
    """
    module, function = COMMANDS[name].split(":")
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    command = [sys.executable, "-c", code, *arguments]
    return observe(command, folder / "observed", **variables)


def assert_quiet(observation: Observation, *outputs: Path) -> None:
    """Check that a command succeeded, used no network, and wrote only below `outputs`."""
    assert observation.exit_code == 0, observation.output
    assert observation.network_calls == []
    assert observation.remaining_paths == []
    outside = [
        path
        for path in observation.written_paths
        if not any(path.is_relative_to(output) for output in outputs)
    ]
    assert outside == []


def test_the_observer_notices_telemetry(tmp_path: Path) -> None:
    """This also shows that a setting of the user wins.

    The process ends long before onnxruntime would send anything, and its queue of events is in the
    temporary home folder.
    """
    code = "import tinyvit, onnxruntime"
    observation = observe(
        [sys.executable, "-c", code], tmp_path / "observed", ORT_DISABLE_TELEMETRY="0"
    )
    queue = "home/.cache/Microsoft/DeveloperTools/.onnxruntime/onnxruntime.db"
    if not any("Microsoft" in path for path in observation.remaining_paths):
        pytest.skip("this build of onnxruntime has no telemetry")
    assert queue in observation.remaining_paths
    assert tmp_path / "observed" / queue in observation.written_paths
    with pytest.raises(AssertionError):
        assert_quiet(observation)


def test_the_observer_notices_network_calls_and_files(tmp_path: Path) -> None:
    code = """
import os, pathlib, socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
pathlib.Path(os.environ["HOME"], "x").touch()
os.unlink(os.environ["HOME"] + "/x")
open("y", "w").close()
os.mkdir(os.environ["TMPDIR"] + "/z")
"""
    observation = observe([sys.executable, "-c", code], tmp_path / "observed")
    (call,) = observation.network_calls
    assert call.startswith("socket(AF_INET, SOCK_DGRAM")
    folder = tmp_path / "observed"
    assert observation.written_paths == [folder / "home/x", folder / "working/y"]
    assert observation.remaining_paths == ["temporary/z", "working/y"]


@pytest.mark.parametrize("command", ["predict", "verify", "inspect"])
def test_running_a_file(small_artifact: Path, command: str, images: Path, tmp_path: Path) -> None:
    arguments = [images / "coffee.jpg"] if command == "predict" else []
    assert_quiet(run(command, small_artifact, *arguments, folder=tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("artifact", TARGETS, indirect=True)
@pytest.mark.parametrize("command", ["predict", "verify"])
def test_running_the_file_of_every_target(
    artifact: Path, command: str, images: Path, tmp_path: Path
) -> None:
    arguments = [images / "coffee.jpg"] if command == "predict" else []
    if artifact.suffix == ".mlpackage":
        arguments += ["--runtime", "coreml-reference"]
    assert_quiet(run(command, artifact, *arguments, folder=tmp_path))


@pytest.mark.slow
def test_nothing_is_sent_later(small_artifact: Path, images: Path, tmp_path: Path) -> None:
    arguments = [small_artifact, images / "coffee.jpg"]
    command = [sys.executable, "-c", WAIT_FOR_THE_UPLOAD, *arguments]
    assert_quiet(observe(command, tmp_path / "observed"))


def test_bench_latency(small_artifact: Path, tmp_path: Path) -> None:
    """The engine is also imported in the new processes that measure the cold start."""
    options = ("--runs", "5", "--cold", "1", "--json")
    assert_quiet(run("bench", "latency", small_artifact, *options, folder=tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("artifact", ["onnx", "openvino", "litert"], indirect=True)
def test_bench_latency_with_operators(artifact: Path, tmp_path: Path) -> None:
    options = ("--runs", "5", "--operators", "--roofline", "--json")
    assert_quiet(run("bench", "latency", artifact, *options, folder=tmp_path))


def test_bench_accuracy(small_artifact: Path, images: Path, tmp_path: Path) -> None:
    with Classifier(small_artifact) as classifier:
        label = classifier.labels[0].name
    (tmp_path / "data" / label).mkdir(parents=True)
    shutil.copy(images / "coffee.jpg", tmp_path / "data" / label)
    data = ("--data", tmp_path / "data", "--json")
    assert_quiet(run("bench", "accuracy", small_artifact, *data, folder=tmp_path))


@pytest.mark.parametrize("suffix", ["html", "md", "csv"])
def test_bench_report_and_compare(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    record = tmp_path / "latency.json"
    record.write_text(make_latency_record(make_latency("demo.onnx", 2.0)).to_json())
    output = tmp_path / "output"
    output.mkdir()
    report = ("report", record, "-o", output / f"report.{suffix}")
    assert_quiet(run("bench", *report, folder=tmp_path / "report"), output)
    assert (output / f"report.{suffix}").is_file()
    assert_quiet(run("bench", "compare", record, record, folder=tmp_path / "compare"))


@pytest.mark.slow
@pytest.mark.parametrize("small_artifact", [".onnx"], indirect=True)
def test_bench_device_here(small_artifact: Path, tmp_path: Path) -> None:
    """The bundle is installed and run as on another device."""
    output = tmp_path / "output"
    options = ("--local", "--use-env", Path(sys.executable).parent.parent, "--runs", "5")
    observation = run("bench", "device", small_artifact, *options, "-o", output, folder=tmp_path)
    assert_quiet(observation, output)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_export(target: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    output = tmp_path / "output"
    small = ("--img-size", "64", "--windows", "scaled")
    command = ("--model", "demo", "--target", target, *small, "-o", f"{output}/")
    observation = run("export", *command, folder=tmp_path)
    if "pip install" in observation.output:
        pytest.skip(f"the tools of the target {target} are not installed")
    assert_quiet(observation, output)
    assert list(output.iterdir())


@pytest.mark.slow
def test_int8_export(tmp_path: Path) -> None:
    """Besides the output, only this package's cache is written."""
    pytest.importorskip("torch")
    folder = save_random_images(tmp_path / "images", range(64))
    small = ("--img-size", "64", "--windows", "scaled", "--calib-count", "32")
    command = ("--model", "demo", "--int8", "--calib-data", folder, *small)
    output, cache = tmp_path / "output", tmp_path / "cache"
    command = (*command, "--min-agreement", "0", "-o", output / "demo.onnx")
    observation = run("export", *command, folder=tmp_path, TINYVIT_CACHE=str(cache))
    assert_quiet(observation, output, cache)
    assert (output / "demo.onnx").is_file()


@pytest.mark.slow
def test_distill_save_logits(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "images" / "espresso").mkdir(parents=True)
    shutil.copy(images / "coffee.jpg", tmp_path / "images" / "espresso")
    settings = ("--teacher", "demo", "--epochs", "1", "--top-k", "2", "--img-size", "64")
    command = ("save-logits", "--data", tmp_path / "images", *settings)
    output = tmp_path / "output"
    assert_quiet(run("distill", *command, "-o", output, folder=tmp_path), output)
