"""The engine TensorRT: runs engine files (.engine) of TensorRT-RTX and of TensorRT on NVIDIA GPUs.

TensorRT calls a network that is compiled for a GPU an engine, and the bytes of an engine file a
plan. A plan contains GPU code. It may also contain CPU code (plug-ins, a lean runtime), which is
never loaded, because files may be hostile. TensorRT itself does not check a plan, so it is checked
first (_tensorrt_plan.py).
"""

from __future__ import annotations

import threading
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.manifest_limits import MAX_OUTPUTS
from tinyvit.manifest_parts import TensorSpec
from tinyvit.runtimes import cuda
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Engine, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engine_helpers import (
    check_batch,
    closed_error,
    describe_unstated_precision,
    load_error,
    make_tensor_spec,
    read_stated_precision,
    run_error,
)
from tinyvit.runtimes.engines._tensorrt_plan import (
    TENSORRT,
    find_flavor,
    make_refusal_error,
    read_checked_plan,
)
from tinyvit.runtimes.tensor_limits import check_tensor_sizes
from tinyvit.runtimes.trial import TRIAL_REPORT, run_trial


class TensorRTEngine(Engine):
    """TensorRT-RTX and TensorRT; each file runs in the product that wrote it."""

    name = "tensorrt"
    formats = (TENSORRT,)
    default_device = "gpu"

    def __init__(self) -> None:
        """Set `package` and `extra` to those of the TensorRT product that is installed."""
        product = cuda.PRODUCTS[cuda.installed_flavor()]
        self.package, self.extra = product.module, product.extra

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open an engine file; see `Engine.open`."""
        plan = read_checked_plan(artifact)
        flavor = find_flavor(artifact, plan)
        precision = read_stated_precision(artifact, options, "TensorRT")
        tensorrt = cuda.import_tensorrt(flavor)
        driver = cuda.load_driver()
        if artifact.manifest is None and not options.skip_trial:
            run_trial(artifact.path, plan, cuda.PRODUCTS[flavor].name, run_once)
        gpu_number = _parse_gpu_number(options)
        try:
            device = cuda.CudaDevice(gpu_number, driver)
            try:
                loaded_plan = _LoadedPlan(tensorrt, flavor, artifact, plan)
                return _TensorRTRuntime(loaded_plan, device, precision)
            except BaseException:
                device.close()
                raise
        except (RuntimeError, ValueError, TypeError) as error:
            # A RuntimeError comes from the driver; the others, from names that are not UTF-8 and
            # from types that numpy does not have.
            raise load_error(artifact.path, "TensorRT", error) from error


ENGINE = TensorRTEngine()


def run_once(plan: bytes) -> bytes:
    """Load a plan on the first GPU and run it on zeros, to find out whether it crashes the process.

    `run_trial` calls the function in another process.

    Args:
        plan: All bytes of an engine file that `read_checked_plan` has checked.

    Returns:
        TRIAL_REPORT.

    Raises:
        Exception: TensorRT cannot run the file.
    """
    artifact = Artifact(Path("the file"), None)
    flavor = find_flavor(artifact, plan)
    tensorrt = cuda.import_tensorrt(flavor)
    device = cuda.CudaDevice(0, cuda.load_driver())
    loaded_plan = _LoadedPlan(tensorrt, flavor, artifact, plan)
    with _TensorRTRuntime(loaded_plan, device, precision="") as runtime:
        shape = [1 if isinstance(size, str) else size for size in runtime.inputs[0].shape]
        runtime.run(np.zeros(shape, runtime.inputs[0].dtype))
    return TRIAL_REPORT


def _parse_gpu_number(options: RuntimeOptions) -> int:
    """Return the number of the GPU that the options name: 0 for "gpu", 1 for "gpu:1"."""
    if options.threads is not None:
        raise RequestError(
            "--threads sets CPU threads, and TensorRT runs on the GPU", "leave --threads out"
        )
    kind, _colon, number = options.device.lower().partition(":")
    is_valid_number = not number or number.isdecimal()
    if kind not in ("gpu", "cuda") or not is_valid_number:
        raise RequestError(
            f"TensorRT has no device {options.device!r}",
            "give --device gpu, or --device gpu:1 for the second GPU",
        )
    return int(number or 0)


class _LoadedPlan:
    """A plan that TensorRT has loaded, with the execution context that runs it."""

    def __init__(self, tensorrt: Any, flavor: cuda.Flavor, artifact: Artifact, plan: bytes) -> None:
        self.logger = cuda.make_logger(tensorrt)
        self.version = f"{cuda.PRODUCTS[flavor].name} {tensorrt.__version__}"
        self._loader = tensorrt.Runtime(self.logger)
        self._loader.engine_host_code_allowed = False
        self.engine = self._loader.deserialize_cuda_engine(plan)
        if self.engine is None:
            reason = cuda.first_error(tensorrt, self.logger)
            raise make_refusal_error(artifact, plan, flavor, tensorrt.__version__, reason)
        self.inputs = _read_tensor_specs(tensorrt, self.engine, tensorrt.TensorIOMode.INPUT)
        self.outputs = _read_tensor_specs(tensorrt, self.engine, tensorrt.TensorIOMode.OUTPUT)
        if len(self.inputs) != 1 or not 1 <= len(self.outputs) <= MAX_OUTPUTS:
            raise ArtifactError(
                f"the file has {len(self.inputs)} inputs and {len(self.outputs)} outputs",
                f"an image classifier or encoder has one input, and 1 to {MAX_OUTPUTS} outputs",
            )
        self.max_batch_size = _read_max_batch_size(self.engine, self.inputs[0])
        # Checked here, because GPU memory for the largest batch is allocated next.
        largest_inputs = tuple(map(self._fix_batch_size, self.inputs))
        largest_outputs = tuple(map(self._fix_batch_size, self.outputs))
        check_tensor_sizes(largest_inputs, largest_outputs, artifact.path.name)
        self.context = self.engine.create_execution_context()
        if self.context is None:
            reason = cuda.first_error(tensorrt, self.logger)
            raise ArtifactError(
                f"TensorRT cannot run {artifact.path.name} ({reason})", "free some GPU memory"
            )

    def max_tensor_bytes(self, spec: TensorSpec) -> int:
        """Return the size of the input or output for the largest batch, in bytes."""
        shape = self._fix_batch_size(spec).shape
        return prod(map(int, shape)) * np.dtype(spec.dtype).itemsize

    def _fix_batch_size(self, spec: TensorSpec) -> TensorSpec:
        """Return a description in which a dimension of any size has the largest batch size."""
        shape = tuple(self.max_batch_size if isinstance(size, str) else size for size in spec.shape)
        return replace(spec, shape=shape)

    def execute(self, batch_shape: tuple[int, ...], stream: int) -> None:
        """Start the network in a CUDA stream; raise RuntimeError if TensorRT cannot start it."""
        accepts_shape = self.context.set_input_shape(self.inputs[0].name, batch_shape)
        if accepts_shape and self.context.execute_async_v3(stream):
            return
        messages = [message for _severity, message in self.logger.lines]
        raise RuntimeError(messages[-1] if messages else "TensorRT logged no reason")

    def close(self) -> None:
        """Release everything, in an order that keeps each object alive while another needs it."""
        self.context = None
        self.engine = None
        self._loader = None


class _TensorRTRuntime(Runtime):
    """A loaded plan with GPU memory for one batch. A lock admits one thread at a time."""

    def __init__(self, loaded_plan: _LoadedPlan, device: cuda.CudaDevice, precision: str) -> None:
        self.inputs, self.outputs = loaded_plan.inputs, loaded_plan.outputs
        self._loaded_plan: _LoadedPlan | None = loaded_plan
        self._device = device
        self._lock = threading.Lock()
        # GPU addresses of the input and of the outputs.
        self._addresses: list[int] = []
        for spec in (self.inputs[0], *self.outputs):
            address = device.allocate(loaded_plan.max_tensor_bytes(spec))
            self._addresses.append(address)
            loaded_plan.context.set_tensor_address(spec.name, address)
        self._info = RuntimeInfo(
            engine=ENGINE.name,
            version=loaded_plan.version,
            device=f"{device.name}, compute capability {device.compute_capability}",
            threads=None,
            precision=precision or describe_unstated_precision(self.outputs),
        )

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the network; see `Runtime.run_outputs`."""
        with self._lock:
            loaded_plan = self._loaded_plan
            if loaded_plan is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            part_size = loaded_plan.max_batch_size
            try:
                self._device.use()
                parts = [
                    self._run_part(loaded_plan, batch[start : start + part_size])
                    for start in range(0, len(batch), part_size)
                ]
            except RuntimeError as error:
                raise run_error("TensorRT", error) from error
        return tuple(
            np.concatenate(arrays).astype(np.float32, copy=False) for arrays in zip(*parts)
        )

    def _run_part(
        self, loaded_plan: _LoadedPlan, images: npt.NDArray[Any]
    ) -> list[npt.NDArray[Any]]:
        """Run a part of a batch, at most `max_batch_size` images; return their outputs."""
        images = np.ascontiguousarray(images)
        input_address, *output_addresses = self._addresses
        self._device.upload(input_address, images)
        loaded_plan.execute(images.shape, self._device.stream)
        outputs = []
        for spec, address in zip(self.outputs, output_addresses):
            output = np.empty([len(images), *map(int, spec.shape[1:])], spec.dtype)
            self._device.download(output, address)
            outputs.append(output)
        return outputs

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """Release the plan and the GPU memory; see `Runtime.close`."""
        with self._lock:
            if self._loaded_plan is None:
                return
            self._loaded_plan.close()
            self._loaded_plan = None
            # The device is closed last, because freeing memory needs its CUDA context.
            self._device.use()
            for address in self._addresses:
                self._device.free(address)
            self._device.close()


def _read_tensor_specs(tensorrt: Any, engine: Any, mode: Any) -> tuple[TensorSpec, ...]:
    """Describe the tensors of an engine that have a mode: TensorIOMode.INPUT or OUTPUT."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    specs = []
    for name in names:
        if engine.get_tensor_mode(name) != mode:
            continue
        shape = [
            size if size >= 0 else f"dim{axis}"
            for axis, size in enumerate(engine.get_tensor_shape(name))
        ]
        dtype = np.dtype(tensorrt.nptype(engine.get_tensor_dtype(name))).name
        specs.append(make_tensor_spec(name, shape, dtype))
    return tuple(specs)


def _read_max_batch_size(engine: Any, input_spec: TensorSpec) -> int:
    """Return the engine's batch size or, if any size in a range is allowed, the largest one."""
    batch_size = input_spec.shape[0]
    if isinstance(batch_size, int):
        return batch_size
    default_profile = 0  # The optimization profile that an execution context uses by default.
    _min_shape, _optimal_shape, max_shape = engine.get_tensor_profile_shape(
        input_spec.name, default_profile
    )
    return int(max_shape[0])
