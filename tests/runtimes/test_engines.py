"""The contract of every engine, and what is an engine's own: each does exactly what was asked, or refuses."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError, TinyViTError
from tinyvit.runtimes import RuntimeOptions, open_artifact, open_runtime, registry
from tinyvit.runtimes.formats.openvino_ir import OPENVINO_IR

RNG = np.random.default_rng(0)


def batch(n: int = 2) -> np.ndarray:
    return RNG.normal(size=(n, 3, 32, 32)).astype(np.float32)


def test_contract(build_artifact: Any, engine_and_suffix: tuple[str, str]) -> None:
    engine, suffix = engine_and_suffix
    with open_runtime(build_artifact(suffix), engine) as runtime:
        (given,), (answer,) = runtime.inputs, runtime.outputs
        assert (given.shape[1:], given.dtype, given.layout) == ((3, 32, 32), "float32", "NCHW")
        assert isinstance(given.shape[0], str)
        assert (answer.shape[1:], answer.dtype, answer.layout) == ((10,), "float32", "NC")
        x = batch()
        kept = x.copy()
        first = runtime.run(x)
        assert (first.shape, first.dtype) == ((2, 10), np.float32)
        second = runtime.run(batch())
        assert not np.array_equal(first, second)
        assert np.array_equal(first, runtime.run(x))
        assert np.array_equal(x, kept)
        first += 1  # the caller's to keep, and to write to
        assert np.array_equal(second.shape, first.shape)
        assert {"engine", "version", "device", "threads", "precision"} <= runtime.describe().keys()


def test_engines_agree(build_artifact: Any, engine_and_suffix: tuple[str, str]) -> None:
    engine, suffix = engine_and_suffix
    pytest.importorskip("onnxruntime")
    x = batch(3)
    expected = open_runtime(build_artifact(), "onnxruntime").run(x)
    assert np.abs(open_runtime(build_artifact(suffix), engine).run(x) - expected).max() < 1e-3


def test_strided_input_and_nan(build_artifact: Any, engine_and_suffix: tuple[str, str]) -> None:
    runtime = open_runtime(build_artifact(engine_and_suffix[1]), engine_and_suffix[0])
    x = batch(4)
    assert (
        np.abs(
            runtime.run(x[::2, :, ::-1]) - runtime.run(np.ascontiguousarray(x[::2, :, ::-1]))
        ).max()
        == 0
    )
    x[0] = np.nan  # let through; what a ReLU makes of it differs between engines
    assert np.isfinite(runtime.run(x)[1:]).all()


@pytest.mark.parametrize(
    "x",
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
    ids=lambda x: f"{x.shape} {x.dtype.str}",
)
def test_wrong_inputs_are_refused_before_the_engine(
    build_artifact: Any, engine_and_suffix: tuple[str, str], x: np.ndarray
) -> None:
    runtime = open_runtime(build_artifact(engine_and_suffix[1]), engine_and_suffix[0])
    with pytest.raises(ArtifactError, match="the file takes"):
        runtime.run(x)


def test_closing(build_artifact: Any, engine_and_suffix: tuple[str, str]) -> None:
    runtime = open_runtime(build_artifact(engine_and_suffix[1]), engine_and_suffix[0])
    runtime.run(batch())
    runtime.close()
    runtime.close()
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(batch())
    assert runtime.describe()


def test_threads_share_a_runtime(build_artifact: Any, engine_and_suffix: tuple[str, str]) -> None:
    runtime = open_runtime(
        build_artifact(engine_and_suffix[1]), engine_and_suffix[0], RuntimeOptions(threads=1)
    )
    inputs = [batch(1) for _ in range(40)]
    expected = [runtime.run(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for got, wanted in zip(pool.map(runtime.run, inputs), expected):
                assert np.array_equal(got, wanted)


def test_threads_are_reported(build_artifact: Any, engine_and_suffix: tuple[str, str]) -> None:
    assert (
        open_runtime(
            build_artifact(engine_and_suffix[1]), engine_and_suffix[0], RuntimeOptions(threads=1)
        ).describe()["threads"]
        == 1
    )


@pytest.mark.parametrize("device", ["nonsense", "AUTO", "HETERO:CPU", "MULTI:CPU"])
def test_absent_devices_are_refused_with_what_there_is(
    build_artifact: Any, engine_and_suffix: tuple[str, str], device: str
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
        {"precision": "f64"},
        {"device": ""},
        {"device": None},
    ],
)
def test_impossible_options(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        RuntimeOptions(**options)


def test_damaged_files_that_only_the_engine_sees(
    build_artifact: Any, copy_artifact: Any, engine_and_suffix: tuple[str, str]
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


def test_onnxruntime_precision_and_provider_names(build_artifact: Any) -> None:
    pytest.importorskip("onnxruntime")
    for device in ("cpu", "CPU", "CPUExecutionProvider"):
        assert (
            open_runtime(
                build_artifact(), "onnxruntime", RuntimeOptions(device, precision="f32")
            ).describe()["device"]
            == "CPUExecutionProvider"
        )
    with pytest.raises(RequestError, match="bf16"):
        open_runtime(build_artifact(), "onnxruntime", RuntimeOptions(precision="bf16"))


def test_onnxruntime_says_the_precision_that_the_file_states(build_artifact: Any) -> None:
    pytest.importorskip("onnxruntime")
    assert open_runtime(build_artifact(), "onnxruntime").describe()["precision"] == "float32"
    assert (
        open_runtime(build_artifact(manifest=False), "onnxruntime").describe()["precision"]
        == "unstated (float32 output)"
    )
    artifact = open_artifact(build_artifact())
    assert artifact.manifest
    quantized = dataclasses.replace(
        artifact, manifest=dataclasses.replace(artifact.manifest, precision="int8")
    )
    assert open_runtime(quantized, "onnxruntime").describe()["precision"] == "int8"
    with pytest.raises(RequestError, match=r"in f32: leave --precision out.*int8"):
        open_runtime(quantized, "onnxruntime", RuntimeOptions(precision="f32"))


def test_onnxruntime_never_falls_back_to_the_cpu(build_artifact: Any) -> None:
    ort = pytest.importorskip("onnxruntime")
    if "AzureExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this build has no provider that refuses every node")
    with pytest.raises(RequestError, match="cannot run"):
        open_runtime(build_artifact(), "onnxruntime", RuntimeOptions("azure"))


def test_onnxruntime_says_nothing_on_stderr(
    build_artifact: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(build_artifact().read_bytes().replace(b"MatMul", b"MetMul"))
    with pytest.raises(ArtifactError):
        open_runtime(tmp_path / "a.onnx", "onnxruntime")
    assert capfd.readouterr() == ("", "")


def test_openvino_computes_in_what_was_asked(build_artifact: Any) -> None:
    pytest.importorskip("openvino")
    assert open_runtime(build_artifact(".xml"), "openvino").describe()["precision"] == "f32"
    for precision in ("bf16", "f16"):
        # A processor without the instructions refuses, and says what it computes in.
        with contextlib.suppress(RequestError):
            assert (
                open_runtime(
                    build_artifact(".xml"), "openvino", RuntimeOptions(precision=precision)
                ).describe()["precision"]
                == precision
            )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_signal_is_handled_after_files_were_closed_in_the_order_of_opening(
    build_artifact: Any,
) -> None:
    pytest.importorskip("openvino")
    code = (
        "import gc, os, signal, sys; from tinyvit.runtimes import open_runtime;"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'));"
        "first, second = (open_runtime(sys.argv[1], 'openvino') for _ in range(2));"
        "first.close(); del first; gc.collect(); second.close(); del second; gc.collect();"
        "os.kill(os.getpid(), signal.SIGUSR1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(build_artifact(".xml"))], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_openvino_keeps_what_it_compiled(build_artifact: Any, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    cache, x, compiled, answers = tmp_path / "new" / "folder", batch(), [], []
    for damage in (False, False, True):
        if damage:
            for blob in cache.iterdir():
                blob.chmod(0o600)
                blob.write_bytes(blob.read_bytes()[:1000])
        with open_runtime(
            build_artifact(".xml"), "openvino", RuntimeOptions(cache=cache)
        ) as runtime:
            answers.append(runtime.run(x))
            compiled.append(runtime.describe()["compiled"])
    assert compiled == ["now", "before", "now"]
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="cannot be a folder"):
        open_runtime(
            build_artifact(".xml"), "openvino", RuntimeOptions(cache=tmp_path / "file" / "x")
        )


def test_an_engine_without_a_cache_refuses_one(build_artifact: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"onnxruntime keeps nothing .*--runtime openvino"):
        open_runtime(build_artifact(), "onnxruntime", RuntimeOptions(cache=tmp_path))


def test_openvino_refuses_an_onnx_that_resizes(build_artifact: Any) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(RequestError, match="--target openvino --preprocess full"):
        open_runtime(build_artifact(stage="full"), "openvino")


def test_openvino_wants_both_files(copy_artifact: Any) -> None:
    pytest.importorskip("openvino")
    path = copy_artifact(".xml")
    path.with_suffix(".bin").write_bytes(b"12")
    with pytest.raises(ArtifactError):
        open_runtime(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(ArtifactError, match="beside"):
        open_runtime(path)


def test_registry_finds_engines_by_listing() -> None:
    assert {"onnxruntime", "openvino"} <= set(registry.engine_names())
    for name in registry.engine_names():
        engine = registry.get_engine(name)
        assert engine.FORMATS
        assert engine.PACKAGE
        assert isinstance(engine.EXTRA, str)
    assert registry.engines_for_format(OPENVINO_IR) == ["openvino"]


def test_the_choice_of_engine(build_artifact: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    assert open_runtime(open_artifact(build_artifact())).describe()["engine"] == "onnxruntime"
    with pytest.raises(RequestError, match=r"there are coreml, .*onnxruntime, openvino"):
        open_runtime(build_artifact(), "tensorflow")
    with pytest.raises(RequestError, match="--runtime openvino"):
        open_runtime(build_artifact(".xml"), "onnxruntime")
    pytest.importorskip("openvino")
    monkeypatch.setattr(registry, "is_installed", lambda name: name == "openvino")
    assert open_runtime(build_artifact()).describe()["engine"] == "openvino"


def test_a_missing_engine_names_how_to_install_it(
    build_artifact: Any, engine_and_suffix: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, engine_and_suffix[0], None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        open_runtime(build_artifact(engine_and_suffix[1]), engine_and_suffix[0])


def test_manifests_say_nothing_that_an_engine_must_believe(build_artifact: Any) -> None:
    artifact = open_artifact(build_artifact())
    assert artifact.manifest
    lying = dataclasses.replace(
        artifact, manifest=dataclasses.replace(artifact.manifest, img_size=999)
    )
    with pytest.raises(TinyViTError):
        open_runtime(lying).run(np.zeros((1, 3, 999, 999), np.float32))


def test_threads_are_said_when_nothing_was_asked(
    build_artifact: Any, engine_and_suffix: tuple[str, str]
) -> None:
    engine, suffix = engine_and_suffix
    with open_runtime(build_artifact(suffix), engine) as runtime:
        assert 1 <= int(runtime.describe()["threads"]) <= (os.cpu_count() or 1)
