"""The engine ExecuTorch: runs .pte files on CPUs, with XNNPACK and ExecuTorch's portable kernels.

XNNPACK is a delegate, a backend that runs a part of the network. Other delegates are refused,
because some of them load libraries that the file names. ExecuTorch has one thread pool for the
whole process, and a loaded file keeps pointers into the pool, so the pool is never resized while a
file is open.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.manifest_parts import TensorSpec
from tinyvit.processes.limited_function import limit_memory_growth
from tinyvit.processes.output_capture import quiet_loggers, silence_file_descriptors
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Engine, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engine_helpers import (
    check_batch,
    closed_error,
    count_physical_cores,
    describe_unstated_precision,
    import_library,
    load_error,
    make_tensor_spec,
    read_stated_precision,
    run_error,
)
from tinyvit.runtimes.engines._executorch_file import METHOD, read_checked_file
from tinyvit.runtimes.formats.executorch import EXECUTORCH
from tinyvit.runtimes.tensor_limits import check_tensor_sizes
from tinyvit.runtimes.trial import TRIAL_MEMORY_BYTES, TRIAL_REPORT, run_trial

_DTYPES = {0: "uint8", 1: "int8", 5: "float16", 6: "float32", 7: "float64"}
"""Maps a ScalarType (runtime/core/portable_type/scalar_type.h) to numpy's dtype name."""

_POOL_LOCK = threading.Lock()
"""Held while files are opened and closed, so that the thread pool is not resized in between."""

_OPEN_RUNTIMES: weakref.WeakSet[_ExecuTorchRuntime] = weakref.WeakSet()
"""All open files of this process. They share the thread pool."""


class ExecuTorchEngine(Engine):
    """ExecuTorch on the CPU, called through its Python package."""

    name = "executorch"
    formats = (EXECUTORCH,)
    package = "executorch"
    extra = "executorch"

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open a .pte file; see `Engine.open`."""
        if options.device.lower() not in ("cpu", "xnnpack"):
            raise RequestError(
                f"the installed ExecuTorch has no device {options.device!r}",
                "use --device cpu, or run the file in a build of ExecuTorch for that device",
            )
        precision = read_stated_precision(artifact, options, "ExecuTorch")
        portable_lib = _import_portable_lib()
        file_bytes = read_checked_file(artifact)
        if not options.skip_trial:
            run_trial(artifact.path, file_bytes, "ExecuTorch", run_once)
        with _POOL_LOCK, _silence_executorch():
            threads = _set_threads(portable_lib, options.threads)
            try:
                module = portable_lib._load_for_executorch_from_buffer(file_bytes)
                method = module.method_meta(METHOD)
                inputs = _read_inputs(method)
                outputs = _read_outputs(method)
            except (RuntimeError, IndexError, ValueError) as error:
                raise load_error(artifact.path, "ExecuTorch", error) from error
            info = RuntimeInfo(
                engine=self.name,
                version=metadata.version("executorch"),
                device="cpu (XNNPACK)",
                threads=threads,
                precision=precision or describe_unstated_precision(outputs),
            )
            runtime = _ExecuTorchRuntime(module, file_bytes, inputs, outputs, info)
            _OPEN_RUNTIMES.add(runtime)
        return runtime


ENGINE = ExecuTorchEngine()


def run_once(file_bytes: bytes) -> bytes:
    """Run a file once on zeros, to find out whether the file crashes the process.

    `run_trial` calls the function in another process.

    Args:
        file_bytes: All bytes of a .pte file.

    Returns:
        TRIAL_REPORT.

    Raises:
        Exception: ExecuTorch cannot run the file.
    """
    portable_lib = _import_portable_lib()
    import torch

    limit_memory_growth(TRIAL_MEMORY_BYTES)
    with _silence_executorch():
        module = portable_lib._load_for_executorch_from_buffer(file_bytes)
        inputs = _read_inputs(module.method_meta(METHOD))
        check_tensor_sizes(inputs, (), "the file")
        zeros = [np.zeros([int(size) for size in spec.shape], spec.dtype) for spec in inputs]
        module.forward([torch.from_numpy(array) for array in zeros])
    return TRIAL_REPORT


def _import_portable_lib() -> ModuleType:
    """Import ExecuTorch's Python binding, which is called portable_lib.

    The binding is compiled code in a module of its own, which needs the libraries of torch. The
    module portable_lib also imports ExecuTorch's exporter, which takes three times as long.
    """
    error_if_missing = MissingDependencyError.for_engine("executorch", extra="executorch")
    with _silence_executorch():
        import_library("torch", error_if_missing)
        try:
            return import_module("executorch.extension.pybindings._C")
        except ImportError:  # It has another name in older releases, and other folders on Windows.
            return import_library("executorch.extension.pybindings.portable_lib", error_if_missing)


@contextmanager
def _silence_executorch() -> Iterator[None]:
    """Discard all output of ExecuTorch, whose C++ code writes directly to file descriptors."""
    with silence_file_descriptors(), quiet_loggers("torch", "torchao", "executorch", "root"):
        yield


def _set_threads(portable_lib: ModuleType, requested_threads: int | None) -> int:
    """Resize the thread pool and return its new size.

    None requests one thread per physical core or, while a file is open, the current size. Raises
    RequestError if an open file uses the pool with another size, because resizing the pool
    frees memory that the open file points to.
    """
    current_threads = int(portable_lib._threadpool_get_thread_count())
    if _OPEN_RUNTIMES:
        if requested_threads in (None, current_threads):
            return current_threads
        raise RequestError(
            "ExecuTorch has one thread pool for a process, and an open file uses it with "
            f"{current_threads} threads, not {requested_threads}",
            f"close that file first, or use --threads {current_threads}",
        )
    target_threads = requested_threads or count_physical_cores()
    if current_threads != target_threads:
        portable_lib._unsafe_reset_threadpool(target_threads)
        current_threads = int(portable_lib._threadpool_get_thread_count())
    if requested_threads not in (None, current_threads):
        raise RequestError(
            f"ExecuTorch uses {current_threads} threads here, not {requested_threads}",
            f"use --threads {current_threads}",
        )
    return current_threads


class _ExecuTorchRuntime(Runtime):
    """A loaded file. A lock admits one thread at a time, because a file has one set of buffers."""

    def __init__(
        self,
        module: Any,
        file_bytes: bytes,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        info: RuntimeInfo,
    ) -> None:
        self.inputs, self.outputs, self._info = inputs, outputs, info
        self._module = module
        # Kept as long as the module, which points into these bytes.
        self._file_bytes: bytes | None = file_bytes
        self._lock = threading.Lock()

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the network; see `Runtime.run_outputs`."""
        import torch

        with self._lock:
            if self._module is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            # A read-only batch is copied, because torch.from_numpy would warn about it.
            tensor = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
            try:
                outputs = self._module.forward([tensor])
                # Copied, because the next call overwrites the buffers of the outputs.
                return tuple(np.array(output.numpy(), np.float32) for output in outputs)
            except RuntimeError as error:
                raise run_error("ExecuTorch", error) from error

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """Release the file. When no file is open, the thread pool may be resized again."""
        with _POOL_LOCK, self._lock:
            self._module = None
            self._file_bytes = None
            _OPEN_RUNTIMES.discard(self)


def _read_inputs(method: Any) -> tuple[TensorSpec, ...]:
    """Describe the inputs of a loaded method. A .pte file has no names for them."""
    return tuple(
        _read_tensor_spec(method.input_tensor_meta(index), f"input{index}")
        for index in range(method.num_inputs())
    )


def _read_outputs(method: Any) -> tuple[TensorSpec, ...]:
    """Describe the outputs of a loaded method. A .pte file has no names for them."""
    return tuple(
        _read_tensor_spec(method.output_tensor_meta(index), f"output{index}")
        for index in range(method.num_outputs())
    )


def _read_tensor_spec(tensor: Any, name: str) -> TensorSpec:
    """Describe an input or output under the given name."""
    dtype = _DTYPES.get(tensor.dtype())
    if dtype is None:
        raise ArtifactError(
            f"{name} has the unsupported ScalarType {tensor.dtype()}",
            "an image classifier with float32 or uint8 images is expected",
        )
    return make_tensor_spec(name, tensor.sizes(), dtype)
