"""NVIDIA's software as the TensorRT target and engine need it: the two TensorRTs, and the CUDA driver through its C interface.

The driver is there wherever a GPU is, so that no package is needed for the little that is asked of it: memory, copies, a stream.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tinyvit.errors import MissingDependencyError, RequestError

Flavor = Literal["rtx", "classic"]
"""TensorRT-RTX, for GeForce and RTX cards, which builds without a GPU; TensorRT itself, for Jetson and data centers."""


@dataclass(frozen=True)
class Product:
    """One of the two: its name for people, its module (the distribution has the same name), our extra, its files' first bytes."""

    name: str
    module: str
    extra: str
    magics: tuple[bytes, ...]


PRODUCTS: dict[Flavor, Product] = {
    "rtx": Product("TensorRT-RTX", "tensorrt_rtx", "tensorrt-rtx", (b"vtrt",)),
    "classic": Product("TensorRT", "tensorrt", "tensorrt", (b"ftrt", b"ptrt")),
}


def installed() -> Flavor:
    """The one that can be imported, by looking and not by importing; "rtx" where both can or none."""
    found: list[Flavor] = [
        flavor for flavor, product in PRODUCTS.items() if find_spec(product.module) is not None
    ]
    return found[0] if found else "rtx"


def sdk(flavor: Flavor) -> ModuleType:
    """The imported module; raises MissingDependencyError naming the extra."""
    product = PRODUCTS[flavor]
    try:
        return import_module(product.module)
    except (ImportError, OSError) as error:  # OSError: its libraries are missing or of another CUDA
        raise MissingDependencyError.of(product.module, product.extra) from error


def logger(trt: Any) -> Any:
    """A TensorRT logger that says nothing and keeps `lines`: (severity, message), the lower the severity the worse."""

    class Lines(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[int, str]] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append((int(severity), message))

    return Lines()


def complaint(trt: Any, log: Any) -> str:
    """The first error that was logged, on one line."""
    errors = (
        text
        for severity, text in log.lines
        if severity <= int(trt.ILogger.ERROR) and "catchCudaError" not in text
    )
    return " ".join(next(errors, "it does not say why").split())


class CudaError(RuntimeError):
    """The driver refused a call."""


_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76  # of CUdevice_attribute
_NON_BLOCKING = 1  # of CUstream_flags


def driver() -> Any:
    """The CUDA driver's library, ready; raises RequestError where there is none, or no GPU."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        code = library.cuInit(0)
    except (OSError, AttributeError) as error:
        raise RequestError("no CUDA driver", "run on the device") from error
    if code:
        raise RequestError(
            f"the CUDA driver finds no GPU (error {code})",
            "run on the device, or check its driver with nvidia-smi",
        )
    return library


class CudaDevice:
    """One GPU: its primary context, which TensorRT shares, and a stream in it. Raises CudaError, RequestError where there is none."""

    def __init__(self, ordinal: int = 0, library: Any = None) -> None:
        self._cuda = library or driver()
        count, device, context, stream = (
            ctypes.c_int(),
            ctypes.c_int(),
            ctypes.c_void_p(),
            ctypes.c_void_p(),
        )
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if ordinal >= count.value:
            raise RequestError(
                f"there is no GPU {ordinal}", f"there are {count.value}, counted from 0"
            )
        self._call("cuDeviceGet", ctypes.byref(device), ordinal)
        text, major, minor = ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
        self._call("cuDeviceGetName", text, len(text), device)
        self._call("cuDeviceGetAttribute", ctypes.byref(major), _COMPUTE_MAJOR, device)
        self._call("cuDeviceGetAttribute", ctypes.byref(minor), _COMPUTE_MINOR, device)
        self.name = text.value.decode("utf-8", "replace")
        self.compute = f"{major.value}.{minor.value}"
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._device, self._context = device, context
        self.use()
        self._call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
        self._stream = stream

    @property
    def stream(self) -> int:
        """As TensorRT takes it."""
        return self._stream.value or 0

    def use(self) -> None:
        """Make it the calling thread's."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size_bytes: int) -> int:
        """The address of new memory."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return address.value

    def free(self, address: int) -> None:
        """What `allocate` gave."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, address: int, array: npt.NDArray[Any]) -> None:
        """A contiguous array into memory, in the stream."""
        self._call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(address),
            _pointer(array),
            ctypes.c_size_t(array.nbytes),
            self._stream,
        )

    def download(self, array: npt.NDArray[Any], address: int) -> None:
        """Memory into a contiguous array, in the stream, and wait for all of it."""
        self._call(
            "cuMemcpyDtoHAsync_v2",
            _pointer(array),
            ctypes.c_uint64(address),
            ctypes.c_size_t(array.nbytes),
            self._stream,
        )
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Give the stream and the context back; the memory must be freed before."""
        self._call("cuStreamDestroy_v2", self._stream)
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code:
            raise CudaError(f"{name} failed with error {code}")


def _pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(np.asarray(array).ctypes.data)
