"""The TensorRT engine runs and refuses files, with a fake CUDA driver and a fake TensorRT."""

from __future__ import annotations

import hashlib
import re
import struct
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers.fake_tensorrt import (
    CLASSES,
    SIZE,
    FakeDriver,
    FakeEngine,
    compute_expected_logits,
    make_fake_tensorrt,
    make_manifest,
)
from tests.helpers.install_commands import install_command
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import TensorSpec
from tinyvit.runtimes import RuntimeOptions, cuda
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime, RuntimeInfo
from tinyvit.runtimes.engines import tensorrt
from tinyvit.runtimes.engines.tensorrt import ENGINE

GPU = RuntimeOptions(device="gpu")
MAGIC = b"vtrt"
VERSION_BYTES = bytes((1, 7, 1, 116))


def make_plan(magic: bytes = MAGIC, size_bytes: int = 256) -> bytes:
    """Return the header of a plan, which is checked before TensorRT loads it; padded with zeros."""
    header = magic.ljust(16, b"\0") + struct.pack("<Q", size_bytes) + VERSION_BYTES
    return header.ljust(size_bytes, b"\0")


def save_plan(folder: Path, plan: bytes, manifest: Manifest | None = None) -> Artifact:
    path = folder / "demo.engine"
    path.write_bytes(plan)
    return Artifact(path, manifest)


def random_batch(size: int, seed: int = 0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    """Pretend that this machine has two GPUs and TensorRT-RTX."""
    fake = FakeDriver()
    monkeypatch.setattr(cuda, "load_driver", lambda: fake)
    monkeypatch.setattr(cuda, "import_tensorrt", lambda flavor: make_fake_tensorrt(FakeEngine()))
    # Another process would have no fakes.
    monkeypatch.setattr(tensorrt, "run_trial", lambda *_: None)
    yield fake
    assert not fake.memory, "some memory was not freed"


@pytest.fixture
def runtime(driver: FakeDriver, tmp_path: Path) -> Iterator[Runtime]:
    """Open an int8 engine file on the fake machine."""
    with ENGINE.open(save_plan(tmp_path, make_plan(), make_manifest()), GPU) as runtime:
        yield runtime


def test_input_output_and_info(runtime: Runtime) -> None:
    assert runtime.inputs == (TensorSpec("image", ("dim0", 3, SIZE, SIZE), "float32", "NCHW"),)
    assert runtime.outputs == (TensorSpec("logits", ("dim0", CLASSES), "float32", "NC"),)
    assert runtime.describe() == RuntimeInfo(
        engine="tensorrt",
        version="TensorRT-RTX 1.7.1.116",
        device="Some GPU, compute capability 8.6",
        threads=None,
        precision="int8",
    )


def test_batches_larger_than_the_plan_are_split(runtime: Runtime) -> None:
    batch = random_batch(11)
    logits = runtime.run(batch)
    assert np.array_equal(logits, compute_expected_logits(batch))
    runtime.run(batch + 1)
    assert np.array_equal(logits, compute_expected_logits(batch)), (
        "the next call must not overwrite them"
    )
    strided = batch[::2, :, ::-1]
    assert np.array_equal(runtime.run(strided), compute_expected_logits(strided))
    with pytest.raises(ArtifactError, match="the file takes"):
        runtime.run(batch.astype(np.float64))


def test_threads_share_a_runtime(runtime: Runtime) -> None:
    batches = [random_batch(1 + i % 6, seed=i) for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        logits = list(pool.map(runtime.run, batches))
    assert all(map(np.array_equal, logits, map(compute_expected_logits, batches)))


def test_closed_runtime_refuses_to_run(runtime: Runtime) -> None:
    runtime.close()
    runtime.close()
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(random_batch(1))


def test_driver_errors_become_artifact_errors(driver: FakeDriver, tmp_path: Path) -> None:
    with ENGINE.open(save_plan(tmp_path, make_plan()), GPU) as runtime:
        driver.failing_function = "cuStreamSynchronize"
        with pytest.raises(ArtifactError, match="cuStreamSynchronize failed with error 700"):
            runtime.run(np.zeros((1, 3, SIZE, SIZE), np.float32))
    driver.failing_function = "cuStreamCreate"
    with pytest.raises(ArtifactError, match="cuStreamCreate failed"):
        ENGINE.open(save_plan(tmp_path, make_plan()), GPU)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RuntimeOptions(), "give --device gpu"),
        (RuntimeOptions(device="npu"), "give --device gpu"),
        (RuntimeOptions(device="gpu:x"), "give --device gpu"),
        (RuntimeOptions(device="gpu:2"), "there is no GPU 2"),
        (RuntimeOptions(device="gpu", threads=2), "leave --threads out"),
        (RuntimeOptions(device="gpu", precision="bfloat16"), r"fixed in the file \(int8\)"),
        (RuntimeOptions(device="gpu", precision="float32"), r"fixed in the file \(int8\)"),
    ],
)
def test_impossible_options_are_refused(
    driver: FakeDriver, tmp_path: Path, options: RuntimeOptions, message: str
) -> None:
    artifact = save_plan(tmp_path, make_plan(), make_manifest())
    with pytest.raises(RequestError, match=message):
        ENGINE.open(artifact, options)


def test_second_gpu_can_be_chosen(driver: FakeDriver, tmp_path: Path) -> None:
    artifact = save_plan(tmp_path, make_plan(), make_manifest())
    ENGINE.open(artifact, RuntimeOptions(device="GPU:1")).close()


def test_files_that_tensorrt_refuses_are_artifact_errors(
    driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "import_tensorrt", lambda flavor: make_fake_tensorrt(None))
    with pytest.raises(ArtifactError, match=r"Serialization assertion failed\. In some file"):
        ENGINE.open(save_plan(tmp_path, make_plan()), GPU)
    older = make_plan().replace(VERSION_BYTES, bytes((1, 5, 0, 9)))
    message = r"built by TensorRT-RTX 1\.5\.0\.9, and this is 1\.7\.1\.116"
    with pytest.raises(ArtifactError, match=message):
        ENGINE.open(save_plan(tmp_path, older), GPU)


@pytest.mark.parametrize(
    ("capabilities", "support", "remedy"),
    [
        (
            "8.6 8.9 12.0",
            "TensorRT-RTX does not support this compute capability, so",
            "with --flavor classic, because TensorRT-RTX does not support this GPU",
        ),
        ("8.9 12.0", "The engine can be rebuilt", "export the model again with --compute 9.0"),
        ("8.6", "", "export the model again with --compute 9.0"),
    ],
)
def test_engines_for_other_gpus_are_explained(
    driver: FakeDriver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capabilities: str,
    support: str,
    remedy: str,
) -> None:
    """The message begins as TensorRT-RTX 1.7.1 wrote it on an NVIDIA H100."""
    refusal = (
        "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine cannot run on "
        "this GPU, which has compute capability 9.0. Supported compute capabilities: "
        f"{capabilities}. {support} it. In throwUnlessCompatible)"
    )
    fake = make_fake_tensorrt(None, refusal)
    monkeypatch.setattr(cuda, "import_tensorrt", lambda flavor: fake)
    with pytest.raises(ArtifactError) as error:
        ENGINE.open(save_plan(tmp_path, make_plan()), GPU)
    assert f"capability {', '.join(capabilities.split())}, and this GPU has 9.0" in str(error.value)
    assert str(error.value).endswith(remedy)


def test_files_that_never_reach_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "import_tensorrt", lambda flavor: pytest.fail("reached TensorRT"))
    for data in (b"", MAGIC, b"PK\3\4" * 99, make_plan()[:60]):
        with pytest.raises(ArtifactError, match="is not a TensorRT engine"):
            ENGINE.open(save_plan(tmp_path, data), GPU)
    with pytest.raises(ArtifactError, match="has only 200 of its 256 bytes"):
        ENGINE.open(save_plan(tmp_path, make_plan()[:200]), GPU)
    other_manifest = make_manifest(content_sha256=hashlib.sha256(b"another").hexdigest())
    with pytest.raises(ArtifactError, match="does not have the hash that its manifest states"):
        ENGINE.open(save_plan(tmp_path, make_plan(), other_manifest), GPU)
    message = "was written by TensorRT, but its manifest names TensorRT-RTX"
    with pytest.raises(ArtifactError, match=message):
        ENGINE.open(save_plan(tmp_path, make_plan(b"ftrt"), make_manifest()), GPU)
    with pytest.raises(ArtifactError, match="cannot be read"):
        ENGINE.open(Artifact(tmp_path / "none.engine", None), GPU)


def test_a_file_without_a_manifest_needs_a_successful_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process has no GPU here, so the file did not run there."""
    fake = make_fake_tensorrt(FakeEngine())
    monkeypatch.setattr(cuda, "import_tensorrt", lambda flavor: fake)
    monkeypatch.setattr(cuda, "load_driver", FakeDriver)
    monkeypatch.setattr(fake, "Runtime", lambda logger: pytest.fail("reached TensorRT"))
    for _ in range(2):
        with pytest.raises(ArtifactError, match=r"that failed \((Request|MissingDependency)Error"):
            ENGINE.open(save_plan(tmp_path, make_plan()), GPU)


def test_the_trial_runs_the_plan_once(driver: FakeDriver) -> None:
    assert tensorrt.run_once(make_plan()) == b"the file ran"


def raise_unicode_error(*_: object) -> NoReturn:
    raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


@pytest.mark.parametrize(
    ("method", "answer", "message"),
    [
        ("get_tensor_name", raise_unicode_error, "invalid start byte"),
        ("get_tensor_dtype", lambda self, name: "bfloat99", "bfloat99"),
        ("get_tensor_shape", lambda self, name: (-1, 3, 10**6, 10**6), "1000000 x 1000000 pixels"),
        (
            "get_tensor_profile_shape",
            lambda self, name, profile: [(2**31, 3, SIZE, SIZE)] * 3,
            "batches of 2147483648 images, more than 4096",
        ),
    ],
)
def test_what_a_plan_states_is_checked_before_memory_is_allocated(
    driver: FakeDriver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    answer: object,
    message: str,
) -> None:
    monkeypatch.setattr(FakeEngine, method, answer)
    monkeypatch.setattr(FakeDriver, "cuMemAlloc_v2", lambda *_: pytest.fail("allocated memory"))
    with pytest.raises(ArtifactError, match=message):
        ENGINE.open(save_plan(tmp_path, make_plan(), make_manifest()), GPU)


def test_format_is_recognized_by_its_magic_number() -> None:
    (engine_format,) = ENGINE.formats
    assert (engine_format.name, engine_format.suffix) == ("tensorrt", ".engine")
    for magic in (b"vtrt", b"ftrt", b"ptrt"):
        assert engine_format.recognizes(Path("x"), make_plan(magic))
    assert not engine_format.recognizes(Path("x.engine"), b"PK\3\4")


def test_machines_without_a_gpu_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_os_error(name: str) -> NoReturn:
        raise OSError(name)

    artifact = save_plan(tmp_path, make_plan(), make_manifest())
    monkeypatch.setattr(cuda, "import_tensorrt", lambda flavor: make_fake_tensorrt(FakeEngine()))
    monkeypatch.setattr(cuda.ctypes, "CDLL", raise_os_error)
    with pytest.raises(RequestError) as error:
        ENGINE.open(artifact, RuntimeOptions())
    assert str(error.value) == (
        "this machine has no CUDA driver: run on a machine with an NVIDIA GPU"
    )
    driver_without_gpu = SimpleNamespace(cuInit=lambda flags: 100)
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: driver_without_gpu)
    with pytest.raises(RequestError, match=r"finds no GPU \(error 100\)"):
        ENGINE.open(artifact, GPU)


@pytest.mark.parametrize(
    ("magic", "module", "extra"),
    [(b"vtrt", "tensorrt_rtx", "tensorrt-rtx"), (b"ftrt", "tensorrt", "tensorrt")],
)
def test_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, magic: bytes, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command(extra))):
        ENGINE.open(save_plan(tmp_path, make_plan(magic)), GPU)
