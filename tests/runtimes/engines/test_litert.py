"""The LiteRT engine honors or refuses options, and no file crashes the process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("ai_edge_litert")

from tests.helpers.tflite_model import (
    INT8_WEIGHTS,
    SCALES,
    WEIGHTS,
    build_model,
    serialize_model,
)
from tests.hostile.loaders.tflite_networks import repeat_table
from tinyvit import Classifier
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.manifest_parts import TensorSpec
from tinyvit.runtimes import trial
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engines import litert
from tinyvit.runtimes.engines.litert import ENGINE

SaveArtifact = Callable[[bytes], Artifact]
_CUSTOM_OPERATOR = 32


@pytest.fixture(autouse=True)
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not run every file in another process first, which takes half a second; see test_trial."""
    monkeypatch.setattr(litert, "run_trial", lambda *_: None)


@pytest.fixture
def save_artifact(tmp_path: Path) -> SaveArtifact:
    """Return a function that saves bytes as a .tflite file."""

    def save(data: bytes) -> Artifact:
        path = tmp_path / "some.tflite"
        path.write_bytes(data)
        return Artifact(path, None)

    return save


@pytest.fixture
def artifact(save_artifact: SaveArtifact) -> Artifact:
    """Save a float32 model without a manifest."""
    return save_artifact(serialize_model(build_model()))


def make_random_image(seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(1, 8, 8, 3)).astype(np.float32)


def open_file(artifact: Artifact, **options: Any) -> Runtime:
    return ENGINE.open(artifact, RuntimeOptions(**options))


def test_input_output_and_results(artifact: Artifact) -> None:
    with open_file(artifact) as runtime:
        assert runtime.inputs == (TensorSpec("image", (1, 8, 8, 3), "float32", "NHWC"),)
        assert runtime.outputs == (TensorSpec("logits", (1, 10), "float32", "NC"),)
        logits = runtime.run(make_random_image())
        assert np.abs(logits - make_random_image().mean((1, 2)) @ WEIGHTS.T).max() < 1e-5
        original_logits = logits.copy()
        assert not np.array_equal(logits, runtime.run(make_random_image(1)))
        assert np.array_equal(logits, original_logits), "the next call must not overwrite them"
        strided = make_random_image()[:, ::-1].copy()[:, ::-1]
        assert np.array_equal(runtime.run(strided), original_logits)
        info = runtime.describe()
        assert isinstance(info, RuntimeInfo)
        assert (info.engine, info.device) == ("litert", "CPU")
        assert info.version
        assert info.threads
        assert info.precision == "unstated (float32 output)"


def test_int8_results_are_exact(save_artifact: SaveArtifact) -> None:
    runtime = open_file(save_artifact(serialize_model(build_model(int8=True))))
    logits = runtime.run(make_random_image())
    mean = np.round(make_random_image().mean((1, 2)) / SCALES["input"]) * SCALES["input"]
    weights = INT8_WEIGHTS * SCALES["weight"]
    assert np.abs(logits - mean @ weights.T).max() <= SCALES["output"] / 2 + 1e-6


@pytest.mark.parametrize(
    "batch",
    [
        make_random_image()[0],
        make_random_image()[:, :7],
        make_random_image().astype(np.float64),
        make_random_image().transpose(0, 3, 1, 2),
    ],
)
def test_wrong_inputs_are_refused(artifact: Artifact, batch: npt.NDArray[Any]) -> None:
    with pytest.raises(ArtifactError, match="the file takes"):
        open_file(artifact).run(batch)


def test_closed_runtime_refuses_to_run(artifact: Artifact) -> None:
    runtime = open_file(artifact)
    runtime.close()
    runtime.close()
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(make_random_image())


def test_threads_share_a_runtime(artifact: Artifact) -> None:
    runtime = open_file(artifact, threads=2)
    images = [make_random_image(seed) for seed in range(32)]
    expected = [runtime.run(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        logits = list(pool.map(runtime.run, images))
    assert all(map(np.array_equal, logits, expected))


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="counts the threads that Linux lists"
)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_engine_starts_the_requested_threads(artifact: Artifact, threads: int) -> None:
    """Count threads of the process; the calling thread is one of those that LiteRT uses."""
    open_file(artifact, threads=1).run(make_random_image())
    before = len(os.listdir("/proc/self/task"))
    with open_file(artifact, threads=threads) as runtime:
        runtime.run(make_random_image())
        assert len(os.listdir("/proc/self/task")) - before == threads - 1
        assert runtime.describe().threads == threads


@pytest.mark.parametrize(
    "options",
    [
        RuntimeOptions(device="gpu"),
        RuntimeOptions(device="npu"),
        RuntimeOptions(precision="bfloat16"),
        RuntimeOptions(precision="float16"),
    ],
)
def test_other_devices_and_precisions_are_refused(
    artifact: Artifact, options: RuntimeOptions
) -> None:
    with pytest.raises(RequestError):
        ENGINE.open(artifact, options)


def test_opening_prints_nothing(artifact: Artifact) -> None:
    """Open the file in a separate process, because LiteRT logs only once per process."""
    code = f"""
from pathlib import Path
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines.litert import ENGINE
ENGINE.open(Artifact(Path({str(artifact.path)!r}), None), RuntimeOptions())"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert (process.stdout, process.stderr) == ("", "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"TFL3",
        b"\0\0\0\0TFL3",
        b"\x1c\0\0\0TFL3",
        b"\xff" * 4 + b"TFL3" + b"\xff" * 64,
        b"PK\3\4" * 99,
    ],
)
def test_foreign_bytes_are_refused(save_artifact: SaveArtifact, data: bytes) -> None:
    with pytest.raises(ArtifactError):
        open_file(save_artifact(data))


def test_truncated_files_are_refused(save_artifact: SaveArtifact) -> None:
    data = serialize_model(build_model(int8=True))
    for end in range(8, len(data) - 4, 37):
        with pytest.raises(ArtifactError):
            open_file(save_artifact(data[:end]))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(ArtifactError):
            open_file(Artifact(path, None))


@pytest.mark.parametrize(
    ("scales", "zero_point"),
    [
        ({"weight": 1e20}, 0),
        ({"output": 1e-20}, 0),
        ({"input": -0.05}, 0),
        ({"input": float("nan")}, 0),
        ({"output": float("inf")}, 0),
        ({}, 31488),
        ({}, -129),
    ],
)
def test_scales_that_crash_the_interpreter_are_refused(
    save_artifact: SaveArtifact, scales: dict[str, float], zero_point: int
) -> None:
    model = build_model(int8=True, scales={**SCALES, **scales}, zero_point=zero_point)
    with pytest.raises(ArtifactError, match=r"scale|zero point"):
        open_file(save_artifact(serialize_model(model)))


def make_operator_custom(model: Any) -> None:
    code = model.operatorCodes[1]
    code.builtinCode = code.deprecatedBuiltinCode = _CUSTOM_OPERATOR
    code.customCode = "Foreign"


def set_field(path: str, value: Any) -> Callable[[Any], None]:
    """Make a function that sets one field of a model, such as "subgraphs.0.outputs"."""

    def change(model: Any) -> None:
        *owners, field = path.split(".")
        target = model
        for owner in owners:
            target = target[int(owner)] if owner.isdigit() else getattr(target, owner)
        setattr(target, field, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        make_operator_custom,
        set_field("subgraphs.0.operators.1.inputs", np.array([99, 1, -1], np.int32)),
        set_field("subgraphs.0.operators.1.outputs", np.array([0], np.int32)),
        set_field("subgraphs.0.operators.1.opcodeIndex", 7),
        set_field("subgraphs.0.outputs", np.array([-1], np.int32)),
        set_field("subgraphs.0.outputs", np.array([500], np.int32)),
        set_field("subgraphs.0.tensors.0.shape", np.array([1, -8, 8, 3], np.int32)),
        set_field("subgraphs.0.tensors.0.shape", np.array([2**30, 2**30, 8, 3], np.int32)),
        set_field("subgraphs.0.tensors.0.type", 99),
        set_field("subgraphs.0.tensors.0.buffer", 1000),
        set_field("subgraphs.0.tensors.4.shape", np.array([1000, 3], np.int32)),
        set_field("buffers.1.size", 2**40),
    ],
)
def test_impossible_indices_and_sizes_are_refused(
    save_artifact: SaveArtifact, change: Callable[[Any], None]
) -> None:
    model = build_model()
    change(model)
    with pytest.raises(ArtifactError):
        open_file(save_artifact(serialize_model(model)))


def set_operator(code: int) -> bytes:
    """Return a model whose first operator, a mean, is of another kind."""
    model = build_model()
    operator_code, operator = model.operatorCodes[0], model.subgraphs[0].operators[0]
    operator_code.builtinCode, operator_code.deprecatedBuiltinCode = code, min(code, 127)
    operator_code.version, operator.builtinOptions, operator.builtinOptionsType = 1, None, 0
    return serialize_model(model)


@pytest.mark.parametrize(("code", "name"), [(119, "WHILE"), (94, "FILL"), (148, "RANDOM_UNIFORM")])
def test_foreign_operators_are_refused_unless_they_are_allowed(
    save_artifact: SaveArtifact, code: int, name: str
) -> None:
    artifact = save_artifact(set_operator(code))
    with pytest.raises(ArtifactError) as error:
        open_file(artifact)
    assert str(error.value) == (
        f"some.tflite contains operators that image classifiers do not need ({name}); they could"
        " run forever or fill the memory: if you trust the file, use --allow-foreign-operators, in"
        " Python allow_foreign_operators=True"
    )
    with pytest.raises(ArtifactError, match="LiteRT cannot open"):
        open_file(artifact, allow_foreign_operators=True)


@pytest.mark.parametrize(("code", "name"), [(45, "STRIDED_SLICE"), (49, "SPLIT")])
def test_operators_without_their_inputs_only_crash_another_process(
    save_artifact: SaveArtifact, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    monkeypatch.setattr(litert, "run_trial", trial.run_trial)
    with pytest.raises(
        ArtifactError, match=r"that failed \((the library that reads it crashes|RuntimeError)"
    ):
        open_file(save_artifact(set_operator(code)))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("tensors", "it has 200000 tensors, more than 20000"),
        ("operators", "it has 200000 operators, more than 20000"),
        ("buffers", "the model has 0 subgraphs instead of one"),
        ("subgraphs", "the model has 200000 subgraphs instead of one"),
    ],
)
def test_one_table_that_is_listed_many_times_is_refused(
    save_artifact: SaveArtifact, kind: str, message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        open_file(save_artifact(repeat_table(kind, 200_000)))


def test_names_that_are_not_utf8_are_refused(save_artifact: SaveArtifact) -> None:
    data = serialize_model(build_model()).replace(b"\6\0\0\0logits\0", b"\6\0\0\0log\xe9ts\0")
    assert b"\xe9ts" in data
    with pytest.raises(ArtifactError):
        open_file(save_artifact(data))


def test_damaged_bytes_never_crash_the_process(tmp_path: Path) -> None:
    """Open 300 int8 files with one to three changed bits each, in a separate process."""
    (tmp_path / "whole.tflite").write_bytes(serialize_model(build_model(int8=True)))
    code = f"""
from pathlib import Path
import numpy as np
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines import litert
from tinyvit.runtimes.engines.litert import ENGINE
litert.run_trial = lambda *_: None  # Without it, this process must survive, too.
folder = Path({str(tmp_path)!r})
path, whole = folder / "some.tflite", (folder / "whole.tflite").read_bytes()
rng, open_count = np.random.default_rng(0), 0
for _ in range(300):
    data = np.frombuffer(whole, np.uint8).copy()
    where = rng.integers(len(data), size=rng.integers(1, 4))
    data[where] ^= (1 << rng.integers(8, size=len(where))).astype(np.uint8)
    path.write_bytes(data.tobytes())
    try:
        with ENGINE.open(Artifact(path, None), RuntimeOptions(threads=1)) as runtime:
            runtime.run(np.zeros(runtime.inputs[0].shape, runtime.inputs[0].dtype))
            open_count += 1
    except ArtifactError:
        pass
print(open_count)"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert 0 < int(process.stdout) < 300, "some changes do no harm, and some are refused"


def test_a_trial_is_skipped_only_on_request(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    monkeypatch.setattr(litert, "run_trial", lambda path, *_: names.append(path.name))
    open_file(artifact, skip_trial=True).close()
    with pytest.warns(UserWarning, match="preprocessing"):
        Classifier(artifact.path, skip_trial=True).close()
    assert names == []
    open_file(artifact).close()
    assert names == ["some.tflite"]


def test_the_tables_of_a_file_are_checked_without_a_trial(save_artifact: SaveArtifact) -> None:
    data = serialize_model(build_model())
    with pytest.raises(ArtifactError):
        open_file(save_artifact(data[: len(data) // 2]), skip_trial=True)
