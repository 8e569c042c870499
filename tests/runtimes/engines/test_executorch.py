"""The ExecuTorch engine honors options, returns copies, and refuses damaged or hostile files."""

from __future__ import annotations

import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("executorch")
pytest.importorskip("torch")

import torch

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import OutputSpec, SourceCheckpoint, TensorSpec
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engines import _executorch_file, executorch
from tinyvit.runtimes.engines.executorch import ENGINE
from tinyvit.runtimes.formats import flatbuffer_tables
from tinyvit.runtimes.formats.pte_program import PteProgram, read_pte_program

SHAPE = (2, 3, 32, 32)


class SmallNetwork(torch.nn.Module):
    """A convolution and a linear layer for XNNPACK, and a gather that runs outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = torch.nn.Conv2d(3, 8, 5, 2), torch.nn.Linear(8 * 14 * 14, 10)
        self.register_buffer("order", torch.arange(9, -1, -1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.conv(image).relu().flatten(1)
        return self.linear(features).index_select(1, self.order)


@pytest.fixture(scope="module")
def pte_bytes() -> bytes:
    """Return the bytes of a .pte file of the small network."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    root.handlers[:] = handlers  # ExecuTorch configures logging when it is imported
    root.setLevel(level)
    torch.manual_seed(0)
    program = torch.export.export(SmallNetwork().eval(), (torch.zeros(SHAPE),))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    return bytes(lowered.to_executorch().buffer)


@pytest.fixture
def artifact(pte_bytes: bytes, tmp_path: Path) -> Artifact:
    """Save a .pte file without a manifest, which a test may change."""
    path = tmp_path / "small.pte"
    path.write_bytes(pte_bytes)
    return Artifact(path, None)


def random_batch(seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def open_file(artifact: Artifact, **options: Any) -> Runtime:
    return ENGINE.open(artifact, RuntimeOptions(**options))


def program_bytes(data: bytes) -> int:
    """Return the size of the program's tables, which the extended header states."""
    return int.from_bytes(data[16:24], "little")


def refusal_of(artifact: Artifact, data: bytes) -> str:
    """Return the message of the error that opening a file with these bytes raises."""
    artifact.path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        open_file(artifact)
    assert "\n" not in str(caught.value)
    assert artifact.path.name in str(caught.value)
    return str(caught.value)


def test_input_output_and_results(artifact: Artifact) -> None:
    with open_file(artifact) as runtime:
        (input_spec,), (output_spec,) = runtime.inputs, runtime.outputs
        assert input_spec.shape == SHAPE
        assert (input_spec.dtype, input_spec.layout) == ("float32", "NCHW")
        assert output_spec.shape == (2, 10)
        assert (output_spec.dtype, output_spec.layout) == ("float32", "NC")
        batch = random_batch()
        original_batch = batch.copy()
        logits = runtime.run(batch)
        original_logits = logits.copy()
        other_logits = runtime.run(random_batch(1))
        assert np.array_equal(logits, original_logits), "the next call must not overwrite them"
        assert not np.array_equal(logits, other_logits)
        logits += 1
        assert np.array_equal(runtime.run(batch), original_logits)
        assert np.array_equal(batch, original_batch)
        info = runtime.describe()
        assert isinstance(info, RuntimeInfo)
        assert (info.engine, info.device) == ("executorch", "cpu (XNNPACK)")
        assert info.version
        assert info.precision == "unstated (float32 output)"
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(batch)


def test_inputs_that_torch_cannot_share_are_copied(artifact: Artifact) -> None:
    with open_file(artifact) as runtime:
        batch = random_batch()
        expected = runtime.run(np.ascontiguousarray(batch[:, ::-1]))
        assert np.array_equal(runtime.run(batch[:, ::-1]), expected)
        batch.flags.writeable = False
        assert runtime.run(batch).shape == (2, 10)
        for wrong in (batch[:1], batch.astype(np.float64), batch.astype(">f4"), batch[0]):
            with pytest.raises(ArtifactError, match="the file takes"):
                runtime.run(wrong)


def test_threads_share_a_runtime(artifact: Artifact) -> None:
    with open_file(artifact, threads=2) as runtime, ThreadPoolExecutor(8) as pool:
        batches = [random_batch(seed) for seed in range(40)]
        expected = [runtime.run(batch) for batch in batches]
        for _ in range(3):
            assert all(map(np.array_equal, pool.map(runtime.run, batches), expected))


def test_thread_pool_has_the_requested_size(artifact: Artifact) -> None:
    from executorch.extension.pybindings import portable_lib

    for threads in (1, 3, 2):
        with open_file(artifact, threads=threads) as runtime:
            assert runtime.describe().threads == threads
            assert portable_lib._threadpool_get_thread_count() == threads
            runtime.run(random_batch())


def test_thread_pool_is_not_resized_while_a_file_is_open(artifact: Artifact) -> None:
    first = open_file(artifact, threads=1)
    expected = first.run(random_batch())
    with pytest.raises(RequestError, match="close that file first, or use --threads 1"):
        open_file(artifact, threads=2)
    with open_file(artifact) as second:
        assert second.describe().threads == 1
    assert np.array_equal(first.run(random_batch()), expected)
    first.close()
    first.close()
    open_file(artifact, threads=2)  # never closed, but garbage at once, so it holds no pool
    open_file(artifact, threads=1).close()


def test_other_devices_and_precisions_are_refused(artifact: Artifact) -> None:
    for options in (
        RuntimeOptions("gpu"),
        RuntimeOptions("npu"),
        RuntimeOptions("OpenvinoBackend"),
        RuntimeOptions(precision="bfloat16"),
        RuntimeOptions(precision="float16"),
    ):
        with pytest.raises(RequestError):
            ENGINE.open(artifact, options)
    open_file(artifact, precision="float32").close()


def test_bytes_after_the_program_are_ignored(artifact: Artifact, pte_bytes: bytes) -> None:
    with open_file(artifact) as runtime:
        expected = runtime.run(random_batch())
    artifact.path.write_bytes(pte_bytes + b"PK" + bytes(range(256)) * 40)
    with open_file(artifact) as runtime:
        assert np.array_equal(runtime.run(random_batch()), expected)
    assert read_pte_program(artifact.path.read_bytes()) == PteProgram(
        ("forward",), ("XnnpackBackend",), ("aten::index_select.out",), False, len(pte_bytes)
    )


@pytest.mark.parametrize("length", [0, 7, 8, 40, 100, 2000, 0.5, 0.999])
def test_truncated_files_are_refused(
    artifact: Artifact, pte_bytes: bytes, length: float, capfd: pytest.CaptureFixture[str]
) -> None:
    """The length is a number of bytes, or a fraction of the file."""
    end = length if isinstance(length, int) else int(length * len(pte_bytes))
    refusal_of(artifact, pte_bytes[:end])
    assert capfd.readouterr() == ("", "")


def test_foreign_files_are_refused(
    artifact: Artifact, pte_bytes: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 10_000, np.uint8).tobytes()
    for data in (
        noise,
        b"\x08\x09" + noise,
        pte_bytes[:4] + b"TFL3" + pte_bytes[8:],
        pte_bytes[:8] + b"eh99" + pte_bytes[12:],
        pte_bytes[:40] + noise + pte_bytes[10_040:],
    ):
        refusal_of(artifact, data)
    assert capfd.readouterr() == ("", "")


def test_only_the_xnnpack_delegate_is_allowed(artifact: Artifact, pte_bytes: bytes) -> None:
    """Some delegates load a library that the file or an environment variable names."""
    assert pte_bytes.count(b"XnnpackBackend\0") == 1
    other_delegate = pte_bytes.replace(b"\x0e\0\0\0XnnpackBackend\0", b"\x0f\0\0\0OpenvinoBackend")
    assert "OpenvinoBackend" in refusal_of(artifact, other_delegate)
    other_method = pte_bytes.replace(b"\x07\0\0\0forward\0", b"\x07\0\0\0fordraw\0")
    assert "no method forward" in refusal_of(artifact, other_method)


def test_a_program_with_jumps_is_refused(artifact: Artifact, pte_bytes: bytes) -> None:
    """A jump back would never end for images, although it ends for the zeros of the trial."""
    kinds = _find_instruction_kinds(pte_bytes)
    assert [pte_bytes[position] for position in kinds] == [2, 1], "a delegate, then a kernel"
    data = bytearray(pte_bytes)
    data[kinds[-1]] = 4
    assert "has instructions that jump, and may never end" in refusal_of(artifact, bytes(data))


def _find_instruction_kinds(data: bytes) -> list[int]:
    """Find the positions of the bytes that state the kinds of the instructions of `forward`."""
    root = flatbuffer_tables.read_root_table(data[: program_bytes(data)])
    (plan,) = flatbuffer_tables.read_tables(root, 1)
    (chain,) = flatbuffer_tables.read_tables(plan, 5)
    instructions = flatbuffer_tables.read_tables(chain, 2)
    return [instruction.Pos + instruction.Offset(4) for instruction in instructions]


def test_reader_raises_only_value_errors(pte_bytes: bytes) -> None:
    """Tables with random offsets are read or refused, and never read outside of the file."""
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(2000):
        data = bytearray(pte_bytes)
        for position in rng.integers(8, program_bytes(pte_bytes), 8):
            data[position] = rng.integers(256)
        try:
            read_pte_program(bytes(data))
        except ValueError:
            refusals += 1
    assert refusals > 100


@pytest.mark.slow
def test_files_that_crash_only_crash_another_process(artifact: Artifact, pte_bytes: bytes) -> None:
    """ExecuTorch's own verifier accepts some damaged tables that then crash the process."""
    for seed in range(6):
        data, rng = bytearray(pte_bytes), np.random.default_rng(seed)
        for position in rng.integers(48, program_bytes(pte_bytes), 3):
            data[position] = rng.integers(256)
        artifact.path.write_bytes(data)
        try:
            open_file(artifact).close()
        except ArtifactError as error:
            if "crashes the process" in str(error):
                return
    pytest.fail("none of the damaged files crashes, so the test shows nothing")


def test_content_must_have_the_hash_in_the_manifest(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_executorch_file, "content_sha256", lambda path: "1" * 64)
    spec = TensorSpec("image", SHAPE, "float32", "NCHW")
    manifest = Manifest(
        model="test",
        variant="test",
        img_size=32,
        target="executorch",
        precision="float32",
        embedded_preprocessing="host",
        input=spec,
        outputs=(OutputSpec("logits", (1, 10), "float32", "NC"),),
        preprocess=Preprocess(32, 32),
        labels=(),
        source=SourceCheckpoint("a", "0" * 64),
        license="mit",
        tools={},
        content_sha256="1" * 64,
    )
    open_file(dataclasses.replace(artifact, manifest=manifest)).close()
    other_manifest = dataclasses.replace(manifest, content_sha256="2" * 64)
    with pytest.raises(ArtifactError, match="is damaged"):
        open_file(Artifact(artifact.path, other_manifest))


def test_a_trial_is_skipped_only_on_request(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    monkeypatch.setattr(executorch, "run_trial", lambda path, *_: names.append(path.name))
    open_file(artifact, skip_trial=True).close()
    assert names == []
    open_file(artifact).close()
    assert names == [artifact.path.name]
