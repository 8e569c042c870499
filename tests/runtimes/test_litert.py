"""LiteRT as an engine: what was asked for is what runs, and no file ends the process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines.litert import open_runtime

WEIGHTS = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
SCALES = {"x": 0.05, "w": 0.02, "y": 0.1}
TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
}


def model(int8: bool = False, scales: dict[str, float] = SCALES, zero: int = 0) -> Any:
    """(1, 8, 8, 3) -> the mean of its pixels -> a linear layer, in integers or not -> (1, 10)."""
    made = schema.ModelT()
    made.version, made.buffers, made.operatorCodes = 3, [schema.BufferT()], []
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, made.subgraphs = [], [], [graph]

    def tensor(name: str, shape: list[int], kind: Any, data: Any = None, scale: float = 0) -> int:
        found, buffer = schema.TensorT(), schema.BufferT()
        found.name, found.shape, found.type, found.hasRank = (
            name,
            np.array(shape, np.int32),
            TYPES[np.dtype(kind)],
            True,
        )
        if data is not None:
            buffer.data = np.ascontiguousarray(data, kind).reshape(-1).view(np.uint8)
            made.buffers.append(buffer)
            found.buffer = len(made.buffers) - 1
        if scale:
            found.quantization = schema.QuantizationParametersT()
            found.quantization.scale, found.quantization.zeroPoint = (
                np.array([scale], np.float32),
                np.array([zero], np.int64),
            )
        graph.tensors.append(found)
        return len(graph.tensors) - 1

    def operator(
        builtin: int, given: list[int], out: int, options: Any = None, kind: int = 0
    ) -> None:
        code, found = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = (
            builtin,
            builtin,
            4 if builtin == 9 else 2,
        )
        made.operatorCodes.append(code)
        found.opcodeIndex, found.inputs, found.outputs = (
            len(made.operatorCodes) - 1,
            np.array(given, np.int32),
            np.array([out], np.int32),
        )
        found.builtinOptions, found.builtinOptionsType = options, kind
        graph.operators.append(found)

    builtins, kinds = schema.BuiltinOperator, schema.BuiltinOptions
    image, mean = tensor("image", [1, 8, 8, 3], np.float32), tensor("mean", [1, 3], np.float32)
    operator(
        builtins.MEAN,
        [image, tensor("axes", [2], np.int32, [1, 2])],
        mean,
        schema.ReducerOptionsT(),
        kinds.ReducerOptions,
    )
    logits = tensor("logits", [1, 10], np.float32)
    if int8:
        integers = np.round(WEIGHTS / SCALES["w"]).clip(-127, 127)
        x, w, y = (
            tensor(name, shape, np.int8, data, scales[name])
            for name, shape, data in (
                ("x", [1, 3], None),
                ("w", [10, 3], integers),
                ("y", [1, 10], None),
            )
        )
        operator(builtins.QUANTIZE, [mean], x)
        operator(
            builtins.FULLY_CONNECTED,
            [x, w, -1],
            y,
            schema.FullyConnectedOptionsT(),
            kinds.FullyConnectedOptions,
        )
        operator(builtins.DEQUANTIZE, [y], logits)
    else:
        weights = tensor("weights", [10, 3], np.float32, WEIGHTS)
        operator(
            builtins.FULLY_CONNECTED,
            [mean, weights, -1],
            logits,
            schema.FullyConnectedOptionsT(),
            kinds.FullyConnectedOptions,
        )
    graph.inputs, graph.outputs = np.array([image], np.int32), np.array([logits], np.int32)
    return made


def packed(made: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(made.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture
def written(tmp_path: Path) -> Callable[[bytes], Artifact]:
    def write(data: bytes) -> Artifact:
        path = tmp_path / "some.tflite"
        path.write_bytes(data)
        return Artifact(path, None)

    return write


@pytest.fixture
def artifact(written: Callable[[bytes], Artifact]) -> Artifact:
    return written(packed(model()))


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 8, 8, 3)).astype(np.float32)


def test_contract(artifact: Artifact) -> None:
    with open_runtime(artifact, RuntimeOptions()) as runtime:
        (given,), (answer,) = runtime.inputs, runtime.outputs
        assert (given.name, given.shape, given.dtype, given.layout) == (
            "image",
            (1, 8, 8, 3),
            "float32",
            "NHWC",
        )
        assert (answer.name, answer.shape, answer.dtype, answer.layout) == (
            "logits",
            (1, 10),
            "float32",
            "NC",
        )
        first = runtime.run(image())
        assert np.abs(first - image().mean((1, 2)) @ WEIGHTS.T).max() < 1e-5
        kept = first.copy()
        assert not np.array_equal(first, runtime.run(image(1)))
        assert np.array_equal(first, kept), "the caller's to keep"
        assert np.array_equal(runtime.run(image()[:, ::-1].copy()[:, ::-1]), kept), "strided"
        facts = runtime.describe()
        assert (facts["engine"], facts["device"]) == ("litert", "CPU")
        assert {"version", "threads", "precision"} <= facts.keys()


def test_integers(written: Callable[[bytes], Artifact]) -> None:
    answer = open_runtime(written(packed(model(int8=True))), RuntimeOptions()).run(image())
    x = np.round(image().mean((1, 2)) / SCALES["x"]) * SCALES["x"]
    w = np.round(WEIGHTS / SCALES["w"]).clip(-127, 127) * SCALES["w"]
    assert np.abs(answer - x @ w.T).max() <= SCALES["y"] / 2 + 1e-6


@pytest.mark.parametrize(
    "x", [image()[0], image()[:, :7], image().astype(np.float64), image().transpose(0, 3, 1, 2)]
)
def test_another_input_is_refused(artifact: Artifact, x: np.ndarray) -> None:
    with pytest.raises(ArtifactError, match="the file takes"):
        open_runtime(artifact, RuntimeOptions()).run(x)


def test_closed(artifact: Artifact) -> None:
    runtime = open_runtime(artifact, RuntimeOptions())
    runtime.close()
    runtime.close()
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(image())


def test_several_threads_may_call(artifact: Artifact) -> None:
    runtime = open_runtime(artifact, RuntimeOptions(threads=2))
    images = [image(seed) for seed in range(32)]
    alone = [runtime.run(x) for x in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(runtime.run, images))
    assert all(map(np.array_equal, alone, together))


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="counts threads as Linux shows them"
)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_are_those_asked_for(artifact: Artifact, threads: int) -> None:
    open_runtime(artifact, RuntimeOptions(threads=1)).run(image())
    before = len(os.listdir("/proc/self/task"))
    with open_runtime(artifact, RuntimeOptions(threads=threads)) as runtime:
        runtime.run(image())
        assert len(os.listdir("/proc/self/task")) - before == threads - 1, (
            "the calling thread is one of them"
        )
        assert runtime.describe()["threads"] == threads


@pytest.mark.parametrize(
    "options",
    [
        RuntimeOptions(device="gpu"),
        RuntimeOptions(device="npu"),
        RuntimeOptions(precision="bf16"),
        RuntimeOptions(precision="f16"),
    ],
)
def test_what_it_cannot_do_is_refused(artifact: Artifact, options: RuntimeOptions) -> None:
    with pytest.raises(RequestError):
        open_runtime(artifact, options)


def test_nothing_is_said(artifact: Artifact) -> None:
    """In a process of its own: LiteRT speaks once in a process."""
    code = f"""
from pathlib import Path
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines.litert import open_runtime
open_runtime(Artifact(Path({str(artifact.path)!r}), None), RuntimeOptions())"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


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
def test_foreign_bytes_are_refused(written: Callable[[bytes], Artifact], data: bytes) -> None:
    with pytest.raises(ArtifactError):
        open_runtime(written(data), RuntimeOptions())


def test_no_cut_is_opened(written: Callable[[bytes], Artifact]) -> None:
    data = packed(model(int8=True))
    for end in range(8, len(data) - 4, 37):
        with pytest.raises(ArtifactError):
            open_runtime(written(data[:end]), RuntimeOptions())


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(ArtifactError):
            open_runtime(Artifact(path, None), RuntimeOptions())


@pytest.mark.parametrize(
    ("scales", "zero"),
    [
        ({"w": 1e20}, 0),
        ({"y": 1e-20}, 0),
        ({"x": -0.05}, 0),
        ({"x": float("nan")}, 0),
        ({"y": float("inf")}, 0),
        ({}, 31488),
        ({}, -129),
    ],
)
def test_scales_that_end_the_interpreter_are_refused(
    written: Callable[[bytes], Artifact], scales: dict[str, float], zero: int
) -> None:
    with pytest.raises(ArtifactError, match=r"scale|zero point"):
        open_runtime(
            written(packed(model(int8=True, scales={**SCALES, **scales}, zero=zero))),
            RuntimeOptions(),
        )


def _of_operator(change: Callable[[Any], None]) -> bytes:
    made = model()
    change(made)
    return packed(made)


def _custom(made: Any) -> None:
    code = made.operatorCodes[1]
    code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, "Foreign"


def _set(at: str, value: Any) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        owner, _, name = at.rpartition(".")
        target = made
        for part in owner.split("."):
            target = target[int(part)] if part.isdigit() else getattr(target, part)
        setattr(target, name, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        _custom,
        _set("subgraphs.0.operators.1.inputs", np.array([99, 1, -1], np.int32)),
        _set("subgraphs.0.operators.1.outputs", np.array([0], np.int32)),
        _set("subgraphs.0.operators.1.opcodeIndex", 7),
        _set("subgraphs.0.outputs", np.array([-1], np.int32)),
        _set("subgraphs.0.outputs", np.array([500], np.int32)),
        _set("subgraphs.0.tensors.0.shape", np.array([1, -8, 8, 3], np.int32)),
        _set("subgraphs.0.tensors.0.shape", np.array([2**30, 2**30, 8, 3], np.int32)),
        _set("subgraphs.0.tensors.0.type", 99),
        _set("subgraphs.0.tensors.0.buffer", 1000),
        _set("subgraphs.0.tensors.4.shape", np.array([1000, 3], np.int32)),
        _set("buffers.1.size", 2**40),
    ],
)
def test_indices_and_sizes_that_are_not_there_are_refused(
    written: Callable[[bytes], Artifact], change: Callable[[Any], None]
) -> None:
    with pytest.raises(ArtifactError):
        open_runtime(written(_of_operator(change)), RuntimeOptions())


def test_damaged_bytes_never_end_the_process(tmp_path: Path) -> None:
    """In a process of its own, which a crash would end: one to three bytes of an int8 file changed, 300 times."""
    (tmp_path / "whole.tflite").write_bytes(packed(model(int8=True)))
    code = f"""
from pathlib import Path
import numpy as np
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines.litert import open_runtime
folder = Path({str(tmp_path)!r})
whole, rng, opened = (folder / "whole.tflite").read_bytes(), np.random.default_rng(0), 0
for _ in range(300):
    data = np.frombuffer(whole, np.uint8).copy()
    where = rng.integers(len(data), size=rng.integers(1, 4))
    data[where] ^= (1 << rng.integers(8, size=len(where))).astype(np.uint8)
    (folder / "some.tflite").write_bytes(data.tobytes())
    try:
        with open_runtime(Artifact(folder / "some.tflite", None), RuntimeOptions(threads=1)) as runtime:
            runtime.run(np.zeros(runtime.inputs[0].shape, runtime.inputs[0].dtype))
            opened += 1
    except ArtifactError:
        pass
print(opened)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < 300, "some do no harm, some are refused"
