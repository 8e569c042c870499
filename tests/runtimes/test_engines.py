"""ONNX Runtime and OpenVINO behave alike, and the registry chooses an engine."""

from __future__ import annotations

import dataclasses
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers.small_classifiers import ArtifactBuilder
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError, TinyViTError
from tinyvit.runtimes import RuntimeOptions, open_runtime, read_artifact, registry
from tinyvit.runtimes.base import Engine, RuntimeInfo
from tinyvit.runtimes.formats.openvino_ir import OPENVINO_IR

RNG = np.random.default_rng(0)


def random_batch(size: int = 2) -> npt.NDArray[np.float32]:
    return RNG.normal(size=(size, 3, 32, 32)).astype(np.float32)


def test_input_output_and_results(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str]
) -> None:
    engine, suffix = engine_and_suffix
    with open_runtime(build_artifact(suffix), engine) as runtime:
        (input_spec,), (output_spec,) = runtime.inputs, runtime.outputs
        assert isinstance(input_spec.shape[0], str)
        assert input_spec.shape[1:] == (3, 32, 32)
        assert (input_spec.dtype, input_spec.layout) == ("float32", "NCHW")
        assert output_spec.shape[1:] == (10,)
        assert (output_spec.dtype, output_spec.layout) == ("float32", "NC")
        batch = random_batch()
        original_batch = batch.copy()
        logits = runtime.run(batch)
        assert (logits.shape, logits.dtype) == ((2, 10), np.float32)
        other_logits = runtime.run(random_batch())
        assert not np.array_equal(logits, other_logits)
        assert np.array_equal(logits, runtime.run(batch))
        assert np.array_equal(batch, original_batch)
        logits += 1  # the caller may change the array
        assert np.array_equal(other_logits.shape, logits.shape)


def test_info_describes_the_engine(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str]
) -> None:
    engine, suffix = engine_and_suffix
    with open_runtime(build_artifact(suffix), engine) as runtime:
        info = runtime.describe()
    assert isinstance(info, RuntimeInfo)
    assert info.engine == engine
    assert info.version
    assert info.device
    assert info.precision == "float32"


def test_engines_agree(build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str]) -> None:
    engine, suffix = engine_and_suffix
    pytest.importorskip("onnxruntime")
    batch = random_batch(3)
    expected = open_runtime(build_artifact(), "onnxruntime").run(batch)
    logits = open_runtime(build_artifact(suffix), engine).run(batch)
    assert np.abs(logits - expected).max() < 1e-3


def test_strided_input_and_nan_are_handled(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str]
) -> None:
    engine, suffix = engine_and_suffix
    runtime = open_runtime(build_artifact(suffix), engine)
    batch = random_batch(4)
    strided = batch[::2, :, ::-1]
    expected = runtime.run(np.ascontiguousarray(strided))
    assert np.abs(runtime.run(strided) - expected).max() == 0
    batch[0] = np.nan  # not rejected; what a ReLU makes of it differs between engines
    assert np.isfinite(runtime.run(batch)[1:]).all()


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 3, 32, 31), np.float32),
        np.zeros((3, 32, 32), np.float32),
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((1, 3, 32, 32), np.float64),
        np.zeros((1, 3, 32, 32), np.uint8),
        np.zeros((1, 3, 32, 32), ">f4"),
        np.zeros((0, 3, 32, 32), np.float32),
        np.zeros((), np.float32),
    ],
    ids=lambda batch: f"{batch.shape} {batch.dtype.str}",
)
def test_wrong_inputs_are_refused_before_the_engine(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str], batch: npt.NDArray[Any]
) -> None:
    engine, suffix = engine_and_suffix
    runtime = open_runtime(build_artifact(suffix), engine)
    with pytest.raises(ArtifactError, match="the file takes"):
        runtime.run(batch)


def test_closed_runtime_refuses_to_run(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str]
) -> None:
    engine, suffix = engine_and_suffix
    runtime = open_runtime(build_artifact(suffix), engine)
    runtime.run(random_batch())
    runtime.close()
    runtime.close()
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(random_batch())
    assert runtime.describe()


def test_threads_share_a_runtime(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str]
) -> None:
    engine, suffix = engine_and_suffix
    runtime = open_runtime(build_artifact(suffix), engine, RuntimeOptions(threads=1))
    batches = [random_batch(1) for _ in range(40)]
    expected = [runtime.run(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert all(map(np.array_equal, pool.map(runtime.run, batches), expected))


def test_threads_are_reported(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str]
) -> None:
    engine, suffix = engine_and_suffix
    runtime = open_runtime(build_artifact(suffix), engine, RuntimeOptions(threads=1))
    assert runtime.describe().threads == 1


def test_default_number_of_threads_is_reported(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str]
) -> None:
    engine, suffix = engine_and_suffix
    with open_runtime(build_artifact(suffix), engine) as runtime:
        threads = runtime.describe().threads
    assert threads is not None
    assert 1 <= threads <= (os.cpu_count() or 1)


@pytest.mark.parametrize("device", ["nonsense", "AUTO", "HETERO:CPU", "MULTI:CPU"])
def test_unknown_devices_are_refused_with_the_known_ones(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str], device: str
) -> None:
    engine, suffix = engine_and_suffix
    with pytest.raises(RequestError, match=r"(?i)it has .*cpu"):
        open_runtime(build_artifact(suffix), engine, RuntimeOptions(device))


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 0},
        {"threads": -1},
        {"threads": 1.5},
        {"threads": 10**6},
        {"precision": "float64"},
        {"precision": "f32"},
        {"device": ""},
        {"device": None},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        RuntimeOptions(**options)


def test_damage_that_only_the_engine_sees(
    copy_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str]
) -> None:
    engine, suffix = engine_and_suffix
    path = copy_artifact(suffix)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"MatMul", b"MetMul").replace(b"AveragePool", b"AverogePool"))
    with pytest.raises(ArtifactError) as caught:
        open_runtime(path, engine)
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_registry_finds_engines_by_listing() -> None:
    assert {"onnxruntime", "openvino"} <= set(registry.engine_names())
    for name in registry.engine_names():
        engine = registry.get_engine(name)
        assert isinstance(engine, Engine)
        assert engine.name == name
        assert engine.formats
        assert engine.package
        assert isinstance(engine.extra, str)
    assert registry.engines_for_format(OPENVINO_IR) == ["openvino"]


def test_engine_is_chosen_by_name_or_format(
    build_artifact: ArtifactBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    assert open_runtime(read_artifact(build_artifact())).describe().engine == "onnxruntime"
    with pytest.raises(RequestError, match=r"choose one of coreml, .*onnxruntime, openvino"):
        open_runtime(build_artifact(), "tensorflow")
    with pytest.raises(RequestError, match="--runtime openvino"):
        open_runtime(build_artifact(".xml"), "onnxruntime")
    pytest.importorskip("openvino")
    monkeypatch.setattr(registry, "is_installed", lambda name: name == "openvino")
    assert open_runtime(build_artifact()).describe().engine == "openvino"


def test_error_for_a_missing_engine_names_how_to_install_it(
    build_artifact: ArtifactBuilder,
    engine_and_suffix: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, suffix = engine_and_suffix
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        open_runtime(build_artifact(suffix), engine)


def test_engines_do_not_trust_the_manifest(build_artifact: ArtifactBuilder) -> None:
    artifact = read_artifact(build_artifact())
    assert artifact.manifest
    wrong_manifest = dataclasses.replace(artifact.manifest, img_size=999)
    with pytest.raises(TinyViTError):
        open_runtime(dataclasses.replace(artifact, manifest=wrong_manifest)).run(
            np.zeros((1, 3, 999, 999), np.float32)
        )
