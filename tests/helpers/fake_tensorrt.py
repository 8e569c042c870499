"""Fakes of the CUDA driver and of TensorRT, which compute in the host's memory without a GPU."""

from __future__ import annotations

import ctypes
import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.labels import numbered_labels
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import OutputSpec, SourceCheckpoint, TensorSpec
from tinyvit.preprocess import Preprocess

CLASSES, SIZE = 10, 8
"""Number of classes and image size in pixels of the fake network."""

MAX_BATCH = 4
"""The largest batch that the fake engine accepts."""

VERSION = "1.7.1.116"
DRIVER_ERROR = 700
"""The code that a failing driver function returns."""


def make_manifest(**changes: Any) -> Manifest:
    """Make a manifest for the fake network; `changes` replace some of its fields."""
    manifest = Manifest(
        model="m",
        variant="v",
        img_size=SIZE,
        target="tensorrt",
        precision="int8",
        embedded_preprocessing="host",
        input=TensorSpec("image", ("batch", 3, SIZE, SIZE), "float32", "NCHW"),
        outputs=(OutputSpec("logits", ("batch", CLASSES), "float32", "NC"),),
        preprocess=Preprocess(SIZE, SIZE),
        labels=numbered_labels(CLASSES),
        source=SourceCheckpoint("invented", "0" * 64),
        license="mit",
        tools={"tensorrt_rtx": "1.7"},
    )
    return dataclasses.replace(manifest, **changes)


def compute_expected_logits(batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the logits of the fake network: the first ten values of each image, times two."""
    return batch.reshape(len(batch), -1)[:, :CLASSES] * 2


class FakeDriver:
    """A fake CUDA driver with the driver's function names, for a machine with two GPUs.

    All functions return 0, which means success.

    Attributes:
        memory: Address -> buffer that stands for allocated GPU memory.
        failing_function: Name of the function that returns DRIVER_ERROR; "" for none.
    """

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.failing_function = ""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: DRIVER_ERROR if name == self.failing_function else 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = b"Some GPU"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR: the GPU has 8.6.
        value._obj.value = {75: 8, 76: 6}[attribute]
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        buffer = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(buffer)
        self.memory[address._obj.value] = buffer
        return 0

    def cuMemFree_v2(self, address: Any) -> int:
        del self.memory[address.value]
        return 0

    def cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        assert size.value <= len(self.memory[target.value])
        ctypes.memmove(target.value, source.value, size.value)
        return 0

    def cuMemcpyDtoHAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        assert size.value <= len(self.memory[source.value])
        ctypes.memmove(target.value, source.value, size.value)
        return 0


class FakeEngine:
    """A fake of a deserialized TensorRT engine, which also stands for its execution context."""

    num_io_tensors = 2

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        self.input_shape: tuple[int, ...] = ()

    def get_tensor_name(self, index: int) -> str:
        return ("image", "logits")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name == "image" else "output"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3, SIZE, SIZE) if name == "image" else (-1, CLASSES)

    def get_tensor_dtype(self, name: str) -> str:
        return "float32"

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        smallest, typical, largest = 1, 1, MAX_BATCH
        return [(batch, 3, SIZE, SIZE) for batch in (smallest, typical, largest)]

    def create_execution_context(self) -> FakeEngine:
        return self

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.input_shape = shape
        return shape[0] <= MAX_BATCH

    def execute_async_v3(self, stream: int) -> bool:
        size_bytes = np.dtype(np.float32).itemsize * int(np.prod(self.input_shape))
        data = ctypes.string_at(self.addresses["image"], size_bytes)
        batch = np.frombuffer(data, np.float32).reshape(self.input_shape)
        logits = np.ascontiguousarray(compute_expected_logits(batch))
        ctypes.memmove(self.addresses["logits"], logits.ctypes.data, logits.nbytes)
        return True


def make_fake_tensorrt(
    engine: FakeEngine | None, refusal: str = "Serialization assertion failed.\nIn some file"
) -> SimpleNamespace:
    """Make a fake of the module tensorrt_rtx.

    Args:
        engine: The engine that loading any file returns; None if every file is refused.
        refusal: The error message about a refused file.

    Returns:
        An object with those attributes of the module that this package uses.
    """

    class ILogger:
        ERROR = 1

    class Runtime:
        engine_host_code_allowed = True

        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
            assert not self.engine_host_code_allowed
            if engine is None:
                self.logger.log(1, refusal)
            return engine

    return SimpleNamespace(
        ILogger=ILogger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
        nptype=np.dtype,
        __version__=VERSION,
    )
