"""TensorRT's engine: what is refused anywhere, what it does with a driver and an SDK that are stand-ins, and on a GPU the real thing."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.labels import numbered_labels
from tinyvit.manifest import Manifest, SourceCheckpoint, TensorSpec
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes import RuntimeOptions
from tinyvit.runtimes import cuda as nvidia
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.engines import tensorrt

GPU = RuntimeOptions(device="gpu")
CLASSES, SIZE = 10, 8


def plan(magic: bytes = b"vtrt", size: int = 256) -> bytes:
    """As much of a plan as is read before TensorRT has it."""
    head = magic.ljust(16, b"\0") + struct.pack("<Q", size) + bytes((1, 7, 1, 116))
    return head.ljust(size, b"\0")


def manifest(**changes: Any) -> Manifest:
    given = TensorSpec("image", ("batch", 3, SIZE, SIZE), "float32", "NCHW")
    answer, source = (
        TensorSpec("logits", ("batch", CLASSES), "float32", "NC"),
        SourceCheckpoint("made up", "0" * 64),
    )
    preprocess, labels = Preprocess(SIZE, SIZE), numbered_labels(CLASSES)
    told = Manifest(
        "m",
        "v",
        SIZE,
        "tensorrt",
        "int8",
        "host",
        given,
        answer,
        preprocess,
        labels,
        source,
        "mit",
        {"tensorrt_rtx": "1.7"},
    )
    return dataclasses.replace(told, **changes)


def saved(folder: Path, data: bytes, told: Manifest | None = None) -> Artifact:
    path = folder / "demo.engine"
    path.write_bytes(data)
    return Artifact(path, told)


class FakeDriver:
    """The CUDA driver's calls, with the host's memory for a GPU's."""

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.fails = ""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: 700 if name == self.fails else 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def cuDeviceGetName(self, text: Any, size: int, device: Any) -> int:
        text.value = b"Some GPU"
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> int:
        value._obj.value = {75: 8, 76: 6}[which]
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        buffer = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(buffer)
        self.memory[address._obj.value] = buffer
        return 0

    def cuMemFree_v2(self, address: Any) -> int:
        del self.memory[address.value]
        return 0

    def cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        assert size.value <= len(self.memory[to.value])
        ctypes.memmove(to.value, source.value, size.value)
        return 0

    def cuMemcpyDtoHAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        assert size.value <= len(self.memory[source.value])
        ctypes.memmove(to.value, source.value, size.value)
        return 0


def logits_of(batch: np.ndarray) -> np.ndarray:
    return batch.reshape(len(batch), -1)[:, :CLASSES] * 2


class FakeEngine:
    """A plan for 1 to 4 pictures whose logits are twice the first values; also its execution context."""

    num_io_tensors = 2

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}

    def get_tensor_name(self, i: int) -> str:
        return ("image", "logits")[i]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "image" else "out"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3, SIZE, SIZE) if name == "image" else (-1, CLASSES)

    def get_tensor_dtype(self, name: str) -> str:
        return "float32"

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(1, 3, SIZE, SIZE), (1, 3, SIZE, SIZE), (4, 3, SIZE, SIZE)]

    def create_execution_context(self) -> FakeEngine:
        return self

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return shape[0] <= 4

    def execute_async_v3(self, stream: int) -> bool:
        given = np.frombuffer(
            ctypes.string_at(self.addresses["image"], 4 * int(np.prod(self.shape))), np.float32
        ).reshape(self.shape)
        answer = np.ascontiguousarray(logits_of(given))
        ctypes.memmove(self.addresses["logits"], answer.ctypes.data, answer.nbytes)
        return True


def fake_sdk(engine: FakeEngine | None) -> SimpleNamespace:
    class ILogger:
        ERROR = 1

    class Runtime:
        engine_host_code_allowed = True

        def __init__(self, log: Any) -> None:
            self.log = log

        def deserialize_cuda_engine(self, data: bytes) -> FakeEngine | None:
            assert not self.engine_host_code_allowed
            if engine is None:
                self.log.log(1, "Serialization assertion failed.\nIn some file")
            return engine

    return SimpleNamespace(
        ILogger=ILogger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
        nptype=np.dtype,
        __version__="1.7.1.116",
    )


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    """A machine with two GPUs and TensorRT-RTX, none of them real."""
    fake = FakeDriver()
    monkeypatch.setattr(nvidia, "load_driver", lambda: fake)
    monkeypatch.setattr(nvidia, "import_tensorrt", lambda flavor: fake_sdk(FakeEngine()))
    yield fake
    assert not fake.memory, "all memory was given back"


def test_contract(driver: FakeDriver, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with tensorrt.open_runtime(saved(tmp_path, plan(), manifest()), GPU) as runtime:
        assert runtime.inputs == (TensorSpec("image", ("dim0", 3, SIZE, SIZE), "float32", "NCHW"),)
        assert runtime.outputs == (TensorSpec("logits", ("dim0", CLASSES), "float32", "NC"),)
        facts = runtime.describe()
        assert facts["device"] == "Some GPU, compute capability 8.6"
        assert facts["version"] == "TensorRT-RTX 1.7.1.116"
        assert (facts["engine"], facts["precision"]) == ("tensorrt", "int8")
        batch = rng.normal(size=(11, 3, SIZE, SIZE)).astype(
            np.float32
        )  # more than the plan takes at once
        first = runtime.run(batch)
        assert np.array_equal(first, logits_of(batch))
        runtime.run(batch + 1)
        assert np.array_equal(first, logits_of(batch)), "the caller's to keep"
        assert np.array_equal(runtime.run(batch[::2, :, ::-1]), logits_of(batch[::2, :, ::-1]))
        with pytest.raises(ArtifactError, match="the file takes"):
            runtime.run(batch.astype(np.float64))
        batches = [
            rng.normal(size=(1 + i % 6, 3, SIZE, SIZE)).astype(np.float32) for i in range(64)
        ]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(runtime.run, batches))
        assert all(np.array_equal(answer, logits_of(one)) for answer, one in zip(answers, batches))
    runtime.close()
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(batch)


def test_a_call_that_the_driver_refuses(driver: FakeDriver, tmp_path: Path) -> None:
    with tensorrt.open_runtime(saved(tmp_path, plan()), GPU) as runtime:
        driver.fails = "cuStreamSynchronize"
        with pytest.raises(ArtifactError, match="cuStreamSynchronize failed with error 700"):
            runtime.run(np.zeros((1, 3, SIZE, SIZE), np.float32))
    driver.fails = "cuStreamCreate"
    with pytest.raises(ArtifactError, match="cuStreamCreate failed"):
        tensorrt.open_runtime(saved(tmp_path, plan()), GPU)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (RuntimeOptions(), "give --device gpu"),
        (RuntimeOptions(device="npu"), "give --device gpu"),
        (RuntimeOptions(device="gpu:x"), "give --device gpu"),
        (RuntimeOptions(device="gpu:2"), "there is no GPU 2"),
        (RuntimeOptions(device="gpu", threads=2), "leave --threads out"),
        (RuntimeOptions(device="gpu", precision="bf16"), "it runs what the file says, int8"),
        (RuntimeOptions(device="gpu", precision="f32"), "it runs what the file says, int8"),
    ],
)
def test_options_that_are_refused(
    driver: FakeDriver, tmp_path: Path, options: RuntimeOptions, words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        tensorrt.open_runtime(saved(tmp_path, plan(), manifest()), options)
    assert (
        tensorrt.open_runtime(
            saved(tmp_path, plan(), manifest()), RuntimeOptions(device="GPU:1")
        ).close()
        is None
    )


def test_what_tensorrt_refuses(
    driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "import_tensorrt", lambda flavor: fake_sdk(None))
    with pytest.raises(ArtifactError, match=r"Serialization assertion failed\. In some file"):
        tensorrt.open_runtime(saved(tmp_path, plan()), GPU)
    older = plan().replace(bytes((1, 7, 1, 116)), bytes((1, 5, 0, 9)))
    with pytest.raises(
        ArtifactError, match=r"built by TensorRT-RTX 1\.5\.0\.9, and this is 1\.7\.1\.116"
    ):
        tensorrt.open_runtime(saved(tmp_path, older), GPU)


def test_files_that_never_reach_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "import_tensorrt", lambda flavor: pytest.fail("reached TensorRT"))
    for data in (b"", b"vtrt", b"PK\3\4" * 99, plan()[:60]):
        with pytest.raises(ArtifactError, match="is no TensorRT engine"):
            tensorrt.open_runtime(saved(tmp_path, data), GPU)
    with pytest.raises(ArtifactError, match="has 200 of its 256 bytes"):
        tensorrt.open_runtime(saved(tmp_path, plan()[:200]), GPU)
    other = manifest(content_sha256=hashlib.sha256(b"another").hexdigest())
    with pytest.raises(ArtifactError, match="not the file that its manifest was written for"):
        tensorrt.open_runtime(saved(tmp_path, plan(), other), GPU)
    with pytest.raises(ArtifactError, match="is of TensorRT, and its manifest says TensorRT-RTX"):
        tensorrt.open_runtime(saved(tmp_path, plan(b"ftrt"), manifest()), GPU)
    with pytest.raises(ArtifactError, match="cannot be read"):
        tensorrt.open_runtime(Artifact(tmp_path / "none.engine", None), GPU)


def test_formats() -> None:
    (known,) = tensorrt.FORMATS
    assert (known.name, known.suffix) == ("tensorrt", ".engine")
    assert all(known.recognizes(Path("x"), plan(magic)) for magic in (b"vtrt", b"ftrt", b"ptrt"))
    assert not known.recognizes(Path("x.engine"), b"PK\3\4")


def test_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "import_tensorrt", lambda flavor: fake_sdk(FakeEngine()))
    monkeypatch.setattr(nvidia.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    with pytest.raises(RequestError) as error:
        tensorrt.open_runtime(saved(tmp_path, plan(), manifest()), RuntimeOptions())
    assert str(error.value) == "no CUDA driver: run on the device"
    monkeypatch.setattr(
        nvidia.ctypes, "CDLL", lambda name: SimpleNamespace(cuInit=lambda flags: 100)
    )
    with pytest.raises(RequestError, match=r"finds no GPU \(error 100\)"):
        tensorrt.open_runtime(saved(tmp_path, plan(), manifest()), GPU)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for magic, module, extra in (
        (b"vtrt", "tensorrt_rtx", "tensorrt-rtx"),
        (b"ftrt", "tensorrt", "tensorrt"),
    ):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(MissingDependencyError, match=rf"tinyvit-edge\[{extra}\]"):
            tensorrt.open_runtime(saved(tmp_path, plan(magic)), GPU)


def has_gpu() -> bool:
    try:
        nvidia.load_driver()
    except RequestError:
        return False
    return True


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU and its driver")
def test_on_a_gpu(tmp_path: Path) -> None:
    """Build the demo at 224 in three precisions, open, hold the logits against the exact reading, inspect, time them in turn."""
    trt = pytest.importorskip(nvidia.PRODUCTS[nvidia.installed_flavor()].module)
    torch = pytest.importorskip("torch")
    from tinyvit.bench.latency.interleave import run_interleaved
    from tinyvit.export.targets.tensorrt.engine_builder import parse_inspector_json
    from tinyvit.export.targets.tensorrt.target import TARGET
    from tinyvit.export.tracing import trace
    from tinyvit.golden import PATTERNS, make_pattern
    from tinyvit.nn.fold import fold_model
    from tinyvit.nn.hub import load_released
    from tinyvit.quant.calibration import calibrate
    from tinyvit.quant.quantized_network import quantize_network, with_exact_arithmetic
    from tinyvit.quant.recipe import Recipe

    checkpoint = load_released("demo")
    folded, preprocess = fold_model(checkpoint.build()), checkpoint.preprocess
    batch = np.stack([preprocess.normalize(make_pattern(s, 224, 224)) for s in PATTERNS])
    scales = calibrate(folded, torch.from_numpy(batch))
    networks = {
        "float32": folded,
        "float16": folded,
        "int8": quantize_network(
            folded, Recipe("abc", 224, scales, 7, (), "", "", 3), TARGET.scheme
        ),
    }
    opened = {}
    for precision, network in networks.items():
        told = manifest(precision=precision, tools={}, img_size=224)
        path = tmp_path / f"{precision}{TARGET.suffix}"
        TARGET.lower(trace(network.eval(), batch=None), preprocess, "host", told.precision).save(
            path, told
        )
        runtime = opened[precision] = tensorrt.open_runtime(Artifact(path, told), GPU)
        with torch.no_grad():
            wanted = with_exact_arithmetic(network)(torch.from_numpy(batch).double()).numpy()
        worst = np.abs(runtime.run(batch) - wanted).max() / np.abs(wanted).max()
        assert worst < {"float32": 1e-3, "float16": 0.03, "int8": 0.08}[precision]
        assert np.array_equal(
            runtime.run(np.repeat(batch, 7, 0))[:1], runtime.run(np.repeat(batch, 7, 0))[:1]
        )
        inspector = runtime._engine.create_engine_inspector()
        layers = list(
            parse_inspector_json(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
        )
        integers = sum(layer.multiplies_matrices and layer.input_type == "Int8" for layer in layers)
        assert (integers > 40) == (precision == "int8")
        print(
            f"{precision}: {integers} of {len(layers)} layers multiply integers, difference {worst:.4f}, {runtime.describe()}"
        )
    turns = run_interleaved(
        {name: lambda runtime=runtime: runtime.run(batch[:1]) for name, runtime in opened.items()},
        rounds=50,
        warmup=10,
    )
    print({name: f"{timing.median_ms:.3f} ms" for name, timing in turns.items()})
    for runtime in opened.values():
        runtime.close()
