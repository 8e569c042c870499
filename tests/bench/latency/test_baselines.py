"""Outputs of benchmark tools are parsed, and a missing tool is reported."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.small_classifiers import build_classifier
from tinyvit.bench.failures import Failures
from tinyvit.bench.latency import measure
from tinyvit.bench.latency.baselines import measure_baselines, run_tool
from tinyvit.bench.latency.benchmark_tools import BENCHMARK_TOOLS
from tinyvit.bench.latency.config import LatencyConfig
from tinyvit.bench.latency.open_artifact import OpenArtifact, open_in_engine
from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.runtimes.base import RuntimeOptions

TOOL_OUTPUTS = {
    "openvino": (
        "[ INFO ] Latency:\n[ INFO ]    Median:        18.99 ms\n"
        "[ INFO ]    Average:       19.25 ms\n",
        18.99,
    ),
    "litert": (
        '{\n "latency": {\n  "avg_ms": 6.79,\n  "median_ms": 6.77,\n  "std_ms": 0.1\n }\n}',
        6.77,
    ),
    "onnxruntime": (
        "Min Latency: 0.0164 s\nP50 Latency: 0.0171201 s\nP90 Latency: 0.0192 s\n",
        17.1201,
    ),
    "tensorrt": (
        "[I] Enqueue Time: min = 0.1 ms, median = 0.2 ms\n"
        "[I] Latency: min = 1.1 ms, max = 2 ms, mean = 1.2 ms, median = 1.25 ms, x\n",
        1.25,
    ),
}
"""Engine -> what its tool prints, and the median latency in it in milliseconds."""


@pytest.fixture
def open_artifact(small_classifier: str) -> Iterator[OpenArtifact]:
    """The small classifier, open on one thread."""
    with open_in_engine(small_classifier, None, RuntimeOptions(threads=1)) as open_artifact:
        yield open_artifact


@pytest.mark.parametrize("engine", sorted(BENCHMARK_TOOLS))
def test_median_is_read_from_the_output_of_a_tool(engine: str) -> None:
    output, median_ms = TOOL_OUTPUTS[engine]
    match = BENCHMARK_TOOLS[engine].median_pattern.search(output)
    assert match is not None
    assert float(match[1]) * BENCHMARK_TOOLS[engine].unit_ms == pytest.approx(median_ms)


def test_missing_tool_is_reported_with_its_source(
    open_artifact: OpenArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    failures = Failures()
    assert measure_baselines(["tool"], open_artifact, 1, failures) == []
    (line,) = failures.messages
    assert "onnxruntime_perf_test is not on PATH" in line
    assert "build onnxruntime" in line


@pytest.mark.parametrize("name", ["timm", "timm-compiled", "timm-export", "tool"])
def test_a_missing_program_is_reported_before_the_measurement(
    name: str, small_classifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(measure, "time_combinations", None)  # a call would raise TypeError
    config = LatencyConfig(engine_names=("onnxruntime",), baselines=(name,))
    with pytest.raises(MissingDependencyError, match=r"timm is not|onnxruntime_perf_test is not"):
        measure.measure_latency([small_classifier], config)


def test_missing_timm_is_reported_with_its_source(
    demo: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    failures = Failures()
    with open_in_engine(str(demo["onnx"]), None, RuntimeOptions(threads=1)) as open_artifact:
        assert measure_baselines(["timm"], open_artifact, 1, failures) == []
    (line,) = failures.messages
    assert "pip install timm" in line


def test_file_without_a_known_variant_is_refused(open_artifact: OpenArtifact) -> None:
    failures = Failures()
    assert measure_baselines(["timm"], open_artifact, 1, failures) == []
    (line,) = failures.messages
    assert "does not state which TinyViT variant it is" in line


def test_timm_has_no_encoder_of_a_mobile_sam(open_artifact: OpenArtifact) -> None:
    artifact = open_artifact.artifact
    assert artifact.manifest is not None
    manifest = replace(artifact.manifest, variant="mobile_sam_5m")
    encoder = replace(open_artifact, artifact=replace(artifact, manifest=manifest))
    failures = Failures()
    assert measure_baselines(["timm"], encoder, 1, failures) == []
    (line,) = failures.messages
    assert "is the image encoder of a MobileSAM, which timm does not have" in line


@pytest.mark.parametrize("name", ["timm", "timm-compiled", "timm-export", "tool"])
def test_file_with_a_fixed_batch_of_several_images_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: program)
    path = str(build_classifier(tmp_path, ".onnx", "host", 2, with_manifest=True))
    failures = Failures()
    with open_in_engine(path, None, RuntimeOptions(threads=1)) as open_artifact:
        assert measure_baselines([name], open_artifact, 1, failures) == []
    (line,) = failures.messages
    assert "takes 2 images per run" in line
    assert "compare a file that takes one image per run" in line


def test_tool_is_run_alternately_with_the_artifact(
    open_artifact: OpenArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "onnxruntime_perf_test"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho "P50 Latency: 0.002 s"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    failures = Failures()
    (result,) = measure_baselines(["tool"], open_artifact, 3, failures)
    assert failures.messages == []
    assert (result.name, result.artifact_path) == ("onnxruntime_perf_test", open_artifact.path)
    assert result.median_ms == pytest.approx(2)
    assert result.ratio.low is not None
    assert result.ratio.high is not None
    assert result.ratio.low <= result.ratio.median <= result.ratio.high
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"-I -e cpu -m times -r 100 -x 3 {open_artifact.artifact.path}"] * 6


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["openvino"])
def test_real_tool_of_an_engine_is_run(engine: str, demo: dict[str, Path]) -> None:
    if shutil.which(BENCHMARK_TOOLS[engine].program) is None:
        pytest.skip(f"{BENCHMARK_TOOLS[engine].program} is not on PATH")
    failures = Failures()
    with open_in_engine(str(demo[engine]), None, RuntimeOptions(threads=1)) as open_artifact:
        (result,) = measure_baselines(["tool"], open_artifact, 1, failures)
    assert failures.messages == []
    assert result.median_ms > 0
    assert result.ratio.low is not None
    assert result.ratio.high is not None
    assert result.ratio.low <= result.ratio.median <= result.ratio.high


def write_program(folder: Path, script: str) -> Path:
    """Write a benchmark program that runs a shell script."""
    program = folder / "tool"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def check_refusal(tool: str, program: Path, artifact: Path, message: str) -> None:
    """Check that a program in place of a benchmark tool is refused."""
    with (
        open_in_engine(str(artifact), "onnxruntime", RuntimeOptions()) as open_artifact,
        pytest.raises(RequestError, match=message),
    ):
        run_tool(BENCHMARK_TOOLS[tool], str(program), open_artifact, 1)


@pytest.mark.parametrize("number", [".", "1.2.3", "0", "9e99", "9" * 400, "1e-99", "nan", "-1"])
def test_a_number_that_is_no_latency_is_refused(
    number: str, small_classifier: Path, tmp_path: Path
) -> None:
    program = write_program(tmp_path, f'echo "P50 Latency: {number} s"')
    check_refusal("onnxruntime", program, small_classifier, "reported no median latency")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": ' + "9" * 5000 + "}", " " * 2**21])
def test_a_damaged_json_file_of_a_tool_is_refused(
    text: str, small_classifier: Path, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text(text)
    program = write_program(tmp_path, f'for last; do :; done\ncat {tmp_path}/text > "$last"')
    message = "the JSON file of litert-benchmark cannot be read"
    check_refusal("litert", program, small_classifier, message)


def test_endless_output_of_a_tool_is_refused(small_classifier: Path, tmp_path: Path) -> None:
    program = write_program(tmp_path, "yes")
    check_refusal(
        "onnxruntime", program, small_classifier, "printed more than 16 MiB: leave 'tool'"
    )
