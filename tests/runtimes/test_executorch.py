"""ExecuTorch as an engine: what was asked for runs or is refused, answers are copies, and damaged or strange files end nothing."""

from __future__ import annotations

import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("executorch")
pytest.importorskip("torch")

import torch

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.manifest import Manifest, SourceCheckpoint, TensorSpec
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines import _pte
from tinyvit.runtimes.engines import executorch as engine

SHAPE = (2, 3, 32, 32)


@pytest.fixture(scope="module")
def data() -> bytes:
    """A convolution and a linear layer in XNNPACK's delegate, and a gather outside of it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    root.handlers[:] = handlers
    root.setLevel(level)
    torch.manual_seed(0)

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = torch.nn.Conv2d(3, 8, 5, 2), torch.nn.Linear(8 * 14 * 14, 10)
            self.register_buffer("order", torch.arange(9, -1, -1))

        def forward(self, x):
            return self.fc(self.conv(x).relu().flatten(1)).index_select(1, self.order)

    program = torch.export.export(Small().eval(), (torch.zeros(SHAPE),))
    return bytes(
        to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        .to_executorch()
        .buffer
    )


@pytest.fixture
def artifact(data: bytes, tmp_path: Path) -> Artifact:
    (tmp_path / "small.pte").write_bytes(data)
    return Artifact(tmp_path / "small.pte", None)


def batch(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def refused(artifact: Artifact, data: bytes) -> str:
    artifact.path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        engine.open_runtime(artifact, RuntimeOptions())
    assert "\n" not in str(caught.value)
    assert artifact.path.name in str(caught.value)
    return str(caught.value)


def test_contract(artifact):
    with engine.open_runtime(artifact, RuntimeOptions()) as runtime:
        (given,), (answer,) = runtime.inputs, runtime.outputs
        assert (given.shape, given.dtype, given.layout) == (SHAPE, "float32", "NCHW")
        assert (answer.shape, answer.dtype, answer.layout) == ((2, 10), "float32", "NC")
        x = batch()
        kept = x.copy()
        first = runtime.run(x)
        wanted = first.copy()
        second = runtime.run(batch(1))
        assert np.array_equal(first, wanted), "the next call does not overwrite it"
        assert not np.array_equal(first, second)
        first += 1
        assert np.array_equal(runtime.run(x), wanted)
        assert np.array_equal(x, kept)
        assert {"engine", "version", "device", "threads", "precision"} <= runtime.describe().keys()
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(x)


def test_inputs_that_torch_does_not_like(artifact):
    with engine.open_runtime(artifact, RuntimeOptions()) as runtime:
        x = batch()
        wanted = runtime.run(np.ascontiguousarray(x[:, ::-1]))
        assert np.array_equal(runtime.run(x[:, ::-1]), wanted)
        x.flags.writeable = False
        assert runtime.run(x).shape == (2, 10)
        for wrong in (x[:1], x.astype(np.float64), x.astype(">f4"), x[0]):
            with pytest.raises(ArtifactError, match="the file takes"):
                runtime.run(wrong)


def test_threads_share_a_runtime(artifact):
    with (
        engine.open_runtime(artifact, RuntimeOptions(threads=2)) as runtime,
        ThreadPoolExecutor(8) as pool,
    ):
        inputs = [batch(i) for i in range(40)]
        wanted = [runtime.run(x) for x in inputs]
        for _ in range(3):
            assert all(np.array_equal(a, b) for a, b in zip(pool.map(runtime.run, inputs), wanted))


def test_threads_are_what_was_asked_for(artifact):
    from executorch.extension.pybindings import portable_lib

    for threads in (1, 3, 2):
        with engine.open_runtime(artifact, RuntimeOptions(threads=threads)) as runtime:
            assert (
                runtime.describe()["threads"]
                == threads
                == portable_lib._threadpool_get_thread_count()
            )
            runtime.run(batch())


def test_the_pool_is_not_changed_under_an_open_file(artifact):
    first = engine.open_runtime(artifact, RuntimeOptions(threads=1))
    wanted = first.run(batch())
    with pytest.raises(RequestError, match="close that file first, or ask for 1"):
        engine.open_runtime(artifact, RuntimeOptions(threads=2))
    with engine.open_runtime(artifact, RuntimeOptions()) as second:
        assert second.describe()["threads"] == 1
    assert np.array_equal(first.run(batch()), wanted)
    first.close()
    first.close()
    engine.open_runtime(
        artifact, RuntimeOptions(threads=2)
    )  # nor does one that was let go without a word
    engine.open_runtime(artifact, RuntimeOptions(threads=1)).close()


def test_other_devices_and_precisions_are_refused(artifact):
    for options in (
        RuntimeOptions("gpu"),
        RuntimeOptions("npu"),
        RuntimeOptions("OpenvinoBackend"),
        RuntimeOptions(precision="bf16"),
        RuntimeOptions(precision="f16"),
    ):
        with pytest.raises(RequestError):
            engine.open_runtime(artifact, options)
    engine.open_runtime(artifact, RuntimeOptions(precision="f32")).close()


def test_what_stands_behind_a_program_is_not_the_engines(artifact, data):
    with engine.open_runtime(artifact, RuntimeOptions()) as runtime:
        wanted = runtime.run(batch())
    artifact.path.write_bytes(data + b"PK" + bytes(range(256)) * 40)
    with engine.open_runtime(artifact, RuntimeOptions()) as runtime:
        assert np.array_equal(runtime.run(batch()), wanted)
    program = _pte.read(artifact.path.read_bytes())
    assert program == _pte.Program(
        ("forward",), ("XnnpackBackend",), ("aten::index_select.out",), len(data)
    )


@pytest.mark.parametrize("kept", [0, 7, 8, 40, 100, 2000, 0.5, 0.999])
def test_files_cut_short(artifact, data, kept, capfd):
    refused(artifact, data[: kept if isinstance(kept, int) else int(kept * len(data))])
    assert capfd.readouterr() == ("", "")


def test_foreign_files(artifact, data, capfd):
    noise = np.random.default_rng(0).integers(0, 256, 10_000, np.uint8).tobytes()
    for strange in (
        noise,
        b"\x08\x09" + noise,
        data[:4] + b"TFL3" + data[8:],
        data[:8] + b"eh99" + data[12:],
        data[:40] + noise + data[10_040:],
    ):
        refused(artifact, strange)
    assert capfd.readouterr() == ("", "")


def test_no_delegate_but_xnnpack_is_let_through(artifact, data):
    """Some that the package has load a library that an environment variable, or the file, names."""
    assert data.count(b"XnnpackBackend\0") == 1
    assert "OpenvinoBackend" in refused(
        artifact, data.replace(b"\x0e\0\0\0XnnpackBackend\0", b"\x0f\0\0\0OpenvinoBackend")
    )
    assert "no method forward" in refused(
        artifact, data.replace(b"\x07\0\0\0forward\0", b"\x07\0\0\0fordraw\0")
    )


def test_tables_that_point_anywhere_end_nothing(data):
    size = int.from_bytes(data[16:24], "little")
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(2000):
        changed = bytearray(data)
        for at in rng.integers(8, size, 8):
            changed[at] = rng.integers(256)
        try:
            _pte.read(bytes(changed))
        except ValueError:
            refusals += 1
    assert refusals > 100


def test_a_file_that_ends_the_process_ends_another_one(artifact, data):
    """Found by trying: a byte in a table of the program, which ExecuTorch's own verifier lets through."""
    ended = 0
    for seed in range(6):
        changed, rng = bytearray(data), np.random.default_rng(seed)
        for at in rng.integers(48, int.from_bytes(data[16:24], "little"), 3):
            changed[at] = rng.integers(256)
        artifact.path.write_bytes(changed)
        try:
            engine.open_runtime(artifact, RuntimeOptions()).close()
        except ArtifactError as error:
            ended += "ends the process" in str(error)
    assert ended > 0


def test_content_that_the_manifest_was_not_written_for(artifact, monkeypatch):
    monkeypatch.setattr(engine, "content_sha256", lambda path: "1" * 64)
    spec = TensorSpec("image", SHAPE, "float32", "NCHW")
    manifest = Manifest(
        "test", "test", 32, "executorch", "float32", "host", spec, spec, Preprocess(32, 32), (), SourceCheckpoint("a", "0" * 64), "mit", {},
        content_sha256="1" * 64,
    )  # fmt: skip
    engine.open_runtime(dataclasses.replace(artifact, manifest=manifest), RuntimeOptions()).close()
    with pytest.raises(ArtifactError, match="is damaged"):
        engine.open_runtime(
            Artifact(artifact.path, dataclasses.replace(manifest, content_sha256="2" * 64)),
            RuntimeOptions(),
        )
