"""Imports TensorRT and calls the CUDA driver, for the engine and the export target "tensorrt".

The driver is called through its C interface (ctypes), so that no CUDA package is needed: the driver
is installed wherever a GPU works, and only a few of its functions are used, for memory, copies and
one stream (a queue of work for the GPU).

Source: cuda.h of the CUDA driver API.
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
"""NVIDIA's two products called TensorRT.

- "rtx": TensorRT-RTX, for GeForce and RTX cards. It can build engine files without a GPU.
- "classic": TensorRT, for Jetson and data centers.
"""


@dataclass(frozen=True)
class TensorRTProduct:
    """Names that belong to one of NVIDIA's two products (see `Flavor`).

    Attributes:
        name: Name of the product for messages.
        module: Name of the product's Python module and of its package on PyPI.
        extra: Extra of tinyvit-edge that installs the product.
        magics: Magic numbers; an engine file of the product begins with one of them.
    """

    name: str
    module: str
    extra: str
    magics: tuple[bytes, ...]


PRODUCTS: dict[Flavor, TensorRTProduct] = {
    "rtx": TensorRTProduct(
        name="TensorRT-RTX", module="tensorrt_rtx", extra="tensorrt-rtx", magics=(b"vtrt",)
    ),
    "classic": TensorRTProduct(
        name="TensorRT", module="tensorrt", extra="tensorrt", magics=(b"ftrt", b"ptrt")
    ),
}


def installed_flavor() -> Flavor:
    """Determine which TensorRT is installed, without importing it.

    Returns:
        The flavor that is installed; "rtx" if both or none are.
    """
    flavors: list[Flavor] = [
        flavor for flavor, product in PRODUCTS.items() if find_spec(product.module) is not None
    ]
    return flavors[0] if flavors else "rtx"


def import_tensorrt(flavor: Flavor) -> ModuleType:
    """Import TensorRT-RTX or TensorRT.

    Args:
        flavor: The product to import.

    Returns:
        The module tensorrt_rtx or tensorrt.

    Raises:
        MissingDependencyError: The product is not installed.
    """
    product = PRODUCTS[flavor]
    try:
        return import_module(product.module)
    except (ImportError, OSError) as error:
        # An OSError means that TensorRT's libraries are missing or need another version of CUDA.
        raise MissingDependencyError.for_package(product.module, extra=product.extra) from error


def make_logger(tensorrt: Any) -> Any:
    """Make a TensorRT logger that keeps every message and prints nothing.

    Args:
        tensorrt: Module that `import_tensorrt` returned.

    Returns:
        A logger. Its attribute `lines` is a list of (severity, message); severity 0 is the most
        severe.
    """

    # The base class exists only in the imported module.
    class ListLogger(tensorrt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.lines: list[tuple[int, str]] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append((int(severity), message))

    return ListLogger()


def first_error(tensorrt: Any, logger: Any) -> str:
    """Find the first error message that TensorRT logged and that states a reason.

    Args:
        tensorrt: Module that `import_tensorrt` returned.
        logger: Logger that `make_logger` returned.

    Returns:
        The message in one line; "TensorRT logged no reason" if there is none.
    """
    errors = [
        message for severity, message in logger.lines if severity <= int(tensorrt.ILogger.ERROR)
    ]
    # Messages with "catchCudaError" are skipped, because they do not state the reason.
    reasons = [message for message in errors if "catchCudaError" not in message]
    first_reason = reasons[0] if reasons else "TensorRT logged no reason"
    return " ".join(first_reason.split())


class CudaError(RuntimeError):
    """Raised if the CUDA driver refuses a call."""


_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of CUdevice_attribute."""

_NON_BLOCKING_STREAM = 1
"""Value of CU_STREAM_NON_BLOCKING in CUstream_flags."""

_NAME_BYTES = 256
"""Size of the buffer into which the driver writes the name of a GPU."""


def load_driver() -> Any:
    """Load and initialize the CUDA driver.

    Returns:
        The driver's library, as ctypes loads it.

    Raises:
        RequestError: There is no CUDA driver, or it finds no GPU.
    """
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        code = library.cuInit(0)  # The argument is reserved for flags and must be 0.
    except (OSError, AttributeError) as error:
        raise RequestError(
            "this machine has no CUDA driver", "run on a machine with an NVIDIA GPU"
        ) from error
    if code:
        raise RequestError(
            f"the CUDA driver finds no GPU (error {code})",
            "run on a machine with an NVIDIA GPU, or check its driver with nvidia-smi",
        )
    return library


class CudaDevice:
    """One GPU, with its primary CUDA context, which TensorRT uses too, and a stream in the context.

    Every method raises CudaError if the driver refuses a call.

    Attributes:
        name: Name of the GPU.
        compute_capability: NVIDIA's version number of the GPU's features, such as "8.6".
    """

    def __init__(self, gpu_number: int = 0, driver: Any = None) -> None:
        """Open a GPU.

        Args:
            gpu_number: Number of the GPU, starting at 0.
            driver: What `load_driver` returned; None to load the driver.

        Raises:
            RequestError: There is no driver or no such GPU.
        """
        self._driver = driver or load_driver()
        self._device = self._find_device(gpu_number)
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self._call("cuDeviceGetName", name, len(name), self._device)
        self.name = name.value.decode("utf-8", "replace")
        major, minor = self._read_attribute(_COMPUTE_MAJOR), self._read_attribute(_COMPUTE_MINOR)
        self.compute_capability = f"{major}.{minor}"
        self._context, self._stream = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self.use()
        self._call("cuStreamCreate", ctypes.byref(self._stream), _NON_BLOCKING_STREAM)

    @property
    def stream(self) -> int:
        """Handle of the stream, as an integer for TensorRT."""
        return self._stream.value or 0

    def use(self) -> None:
        """Make this GPU the current one in the calling thread, which CUDA requires before use."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size_bytes: int) -> int:
        """Allocate GPU memory.

        Args:
            size_bytes: Size in bytes.

        Returns:
            The address; `free` releases it.
        """
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return address.value

    def free(self, address: int) -> None:
        """Release GPU memory.

        Args:
            address: An address that `allocate` returned.
        """
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, address: int, array: npt.NDArray[Any]) -> None:
        """Start copying an array to the GPU, in the stream.

        Args:
            address: GPU address of the copy, with at least `array.nbytes` bytes of memory.
            array: A C-contiguous array.
        """
        self._call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(address),
            _host_pointer(array),
            ctypes.c_size_t(array.nbytes),
            self._stream,
        )

    def download(self, array: npt.NDArray[Any], address: int) -> None:
        """Copy data from the GPU into an array, in the stream, and wait until the stream is done.

        Args:
            array: A C-contiguous array, which is overwritten.
            address: GPU address of the data.
        """
        self._call(
            "cuMemcpyDtoHAsync_v2",
            _host_pointer(array),
            ctypes.c_uint64(address),
            ctypes.c_size_t(array.nbytes),
            self._stream,
        )
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Release the stream and the context. Allocated memory must be freed first."""
        self._call("cuStreamDestroy_v2", self._stream)
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _find_device(self, gpu_number: int) -> ctypes.c_int:
        """Return the driver's handle of a GPU; raise RequestError if there is no such GPU."""
        count, device = ctypes.c_int(), ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if gpu_number >= count.value:
            raise RequestError(
                f"there is no GPU {gpu_number}",
                f"this machine has {count.value} GPUs, with numbers starting at 0",
            )
        self._call("cuDeviceGet", ctypes.byref(device), gpu_number)
        return device

    def _read_attribute(self, attribute: int) -> int:
        """Read an attribute (CUdevice_attribute) of the GPU."""
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), attribute, self._device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver; raise CudaError unless it returns CUDA_SUCCESS (0)."""
        code = getattr(self._driver, name)(*arguments)
        if code:
            raise CudaError(f"{name} failed with error {code}")


def _host_pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    """Return the address of an array's memory."""
    assert array.flags.c_contiguous
    return ctypes.c_void_p(np.asarray(array).ctypes.data)
