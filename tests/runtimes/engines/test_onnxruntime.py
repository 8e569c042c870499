"""The ONNX Runtime engine honors providers and precisions, and prints nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.helpers.small_classifiers import ArtifactBuilder
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.runtimes import RuntimeOptions, open_runtime, read_artifact

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("device", ["cpu", "CPU", "CPUExecutionProvider"])
def test_names_of_the_cpu(build_artifact: ArtifactBuilder, device: str) -> None:
    options = RuntimeOptions(device, precision="float32")
    runtime = open_runtime(build_artifact(), "onnxruntime", options)
    assert runtime.describe().device == "CPUExecutionProvider"


def test_other_precisions_are_refused(build_artifact: ArtifactBuilder) -> None:
    with pytest.raises(RequestError, match="bfloat16"):
        open_runtime(build_artifact(), "onnxruntime", RuntimeOptions(precision="bfloat16"))


def test_precision_is_the_one_that_the_file_states(build_artifact: ArtifactBuilder) -> None:
    assert open_runtime(build_artifact(), "onnxruntime").describe().precision == "float32"
    without_manifest = open_runtime(build_artifact(manifest=False), "onnxruntime")
    assert without_manifest.describe().precision == "unstated (float32 output)"
    artifact = read_artifact(build_artifact())
    assert artifact.manifest
    int8_manifest = dataclasses.replace(artifact.manifest, precision="int8")
    int8_artifact = dataclasses.replace(artifact, manifest=int8_manifest)
    assert open_runtime(int8_artifact, "onnxruntime").describe().precision == "int8"
    with pytest.raises(RequestError, match=r"in float32: leave --precision out.*int8"):
        open_runtime(int8_artifact, "onnxruntime", RuntimeOptions(precision="float32"))


def test_no_fallback_to_the_cpu(build_artifact: ArtifactBuilder) -> None:
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this build has no provider that refuses every node")
    with pytest.raises(RequestError, match="cannot run"):
        open_runtime(build_artifact(), "onnxruntime", RuntimeOptions("azure"))


def test_errors_print_nothing(
    build_artifact: ArtifactBuilder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(build_artifact().read_bytes().replace(b"MatMul", b"MetMul"))
    capfd.readouterr()
    with pytest.raises(ArtifactError):
        open_runtime(path, "onnxruntime")
    assert capfd.readouterr() == ("", "")


def test_a_cache_is_refused(build_artifact: ArtifactBuilder, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"onnxruntime keeps no .*--runtime openvino"):
        open_runtime(build_artifact(), "onnxruntime", RuntimeOptions(cache=tmp_path))
