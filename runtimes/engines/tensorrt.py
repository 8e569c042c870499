"""TensorRT: runs engine files (.engine) of TensorRT-RTX and of TensorRT on NVIDIA GPUs.

A plan is TensorRT's name for the content of an engine file. It contains GPU code. A plan may also
contain CPU code (plug-ins, a lean runtime), which is never loaded, because files may be hostile.
"""

from __future__ import annotations

import hashlib
import threading
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.manifest import TensorSpec
from tinyvit.runtimes import cuda
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import (
    Engine,
    Runtime,
    RuntimeInfo,
    RuntimeOptions,
    check_batch,
    check_precision,
    closed_error,
    load_error,
    make_tensor_spec,
    run_error,
)
from tinyvit.runtimes.formats.sidecar import SidecarFormat

TENSORRT = SidecarFormat(
    "tensorrt",
    ".engine",
    tuple(magic for product in cuda.PRODUCTS.values() for magic in product.magics),
)

# Header of a plan of TensorRT-RTX 1.7: byte 16 has the size of the file (8 bytes, little-endian),
# byte 24 the version of TensorRT-RTX that built it (4 bytes).
_SIZE_OFFSET, _VERSION_OFFSET, _HEADER_BYTES = 16, 24, 64


class TensorRTEngine(Engine):
    """TensorRT-RTX and TensorRT; each file runs in the product that wrote it."""

    name = "tensorrt"
    formats = (TENSORRT,)
    default_device = "gpu"

    def __init__(self) -> None:
        """Set `package` and `extra` to those of the installed product."""
        product = cuda.PRODUCTS[cuda.installed_flavor()]
        self.package, self.extra = product.module, product.extra

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open an engine file; see `Engine.open`."""
        plan = _read_checked_plan(artifact)
        flavor = _find_flavor(artifact, plan)
        precision = check_precision(artifact, options, "TensorRT")
        tensorrt = cuda.import_tensorrt(flavor)
        driver = cuda.load_driver()
        ordinal = _parse_ordinal(options)
        try:
            device = cuda.CudaDevice(ordinal, driver)
            try:
                plan_engine = _PlanEngine(tensorrt, flavor, artifact, plan)
                return _TensorRTRuntime(plan_engine, device, precision)
            except BaseException:
                device.close()
                raise
        except cuda.CudaError as error:
            raise load_error(artifact.path, "TensorRT", error) from error


ENGINE = TensorRTEngine()


def _read_checked_plan(artifact: Artifact) -> bytes:
    """Read the file and check that it is complete, because TensorRT's own reader does not."""
    path, remedy = artifact.path, "the file is damaged or of another format: export it again"
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror})", "check the path"
        ) from error
    if not plan.startswith(TENSORRT.magics) or len(plan) < _HEADER_BYTES:
        raise ArtifactError(f"{path.name} is not a TensorRT engine", remedy)
    stated_bytes = int.from_bytes(plan[_SIZE_OFFSET : _SIZE_OFFSET + 8], "little")
    if plan.startswith(cuda.PRODUCTS["rtx"].magics) and stated_bytes > len(plan):
        raise ArtifactError(f"{path.name} has only {len(plan)} of its {stated_bytes} bytes", remedy)
    stated_sha256 = artifact.manifest.content_sha256 if artifact.manifest else ""
    if stated_sha256 and hashlib.sha256(plan).hexdigest() != stated_sha256:
        raise ArtifactError(f"{path.name} does not have the hash that its manifest states", remedy)
    return plan


def _find_flavor(artifact: Artifact, plan: bytes) -> cuda.Flavor:
    """Find the product that wrote the plan by its magic number; the manifest must not differ."""
    flavor = next(
        flavor for flavor, product in cuda.PRODUCTS.items() if plan.startswith(product.magics)
    )
    tools = artifact.manifest.tools if artifact.manifest else {}
    stated_products = [product for product in cuda.PRODUCTS.values() if product.module in tools]
    if stated_products and cuda.PRODUCTS[flavor] not in stated_products:
        raise ArtifactError(
            f"{artifact.path.name} was written by {cuda.PRODUCTS[flavor].name}, but its manifest "
            f"names {stated_products[0].name}",
            "keep each engine file with its own .json file, or export it again",
        )
    return flavor


def _parse_ordinal(options: RuntimeOptions) -> int:
    """Return the number of the GPU: 0 for "gpu", 1 for "gpu:1"."""
    if options.threads is not None:
        raise RequestError(
            "--threads sets CPU threads, and TensorRT runs on the GPU", "leave --threads out"
        )
    kind, _, number = options.device.lower().partition(":")
    if kind not in ("gpu", "cuda") or not (number.isdecimal() or not number):
        raise RequestError(
            f"TensorRT has no device {options.device!r}",
            "give --device gpu, or --device gpu:1 for the second GPU",
        )
    return int(number or 0)


class _PlanEngine:
    """A plan that TensorRT has loaded, with an execution context to run it."""

    def __init__(self, tensorrt: Any, flavor: cuda.Flavor, artifact: Artifact, plan: bytes) -> None:
        self.logger = cuda.make_logger(tensorrt)
        self.version = f"{cuda.PRODUCTS[flavor].name} {tensorrt.__version__}"
        self._loader = tensorrt.Runtime(self.logger)
        self._loader.engine_host_code_allowed = False
        self.engine = self._loader.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise _deserialization_error(tensorrt, flavor, artifact, plan, self.logger)
        modes = tensorrt.TensorIOMode
        self.inputs = _read_tensor_specs(tensorrt, self.engine, modes.INPUT)
        self.outputs = _read_tensor_specs(tensorrt, self.engine, modes.OUTPUT)
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise ArtifactError(
                f"the file has {len(self.inputs)} inputs and {len(self.outputs)} outputs",
                "an image classifier has one of each",
            )
        self.max_batch = _read_max_batch(self.engine, self.inputs[0])
        self.context = self.engine.create_execution_context()
        if self.context is None:
            reason = cuda.first_error(tensorrt, self.logger)
            raise ArtifactError(
                f"TensorRT cannot run {artifact.path.name} ({reason})", "free some GPU memory"
            )

    def max_tensor_bytes(self, spec: TensorSpec) -> int:
        """Return the size in bytes of the input or output for the largest batch."""
        shape = [self.max_batch if isinstance(size, str) else size for size in spec.shape]
        return prod(shape) * np.dtype(spec.dtype).itemsize

    def execute(self, batch_shape: tuple[int, ...], stream: int) -> None:
        """Start the network in a CUDA stream; raise RuntimeError if TensorRT cannot."""
        is_started = self.context.set_input_shape(
            self.inputs[0].name, batch_shape
        ) and self.context.execute_async_v3(stream)
        if not is_started:
            lines = self.logger.lines
            raise RuntimeError(lines[-1][1] if lines else "TensorRT logged no reason")

    def close(self) -> None:
        """Release the context first, because it needs the engine, which needs the loader."""
        self.context = None
        self.engine = None
        self._loader = None


class _TensorRTRuntime(Runtime):
    """A loaded plan with GPU memory for one batch. A lock admits one thread at a time."""

    def __init__(self, plan_engine: _PlanEngine, device: cuda.CudaDevice, precision: str) -> None:
        self.inputs, self.outputs = plan_engine.inputs, plan_engine.outputs
        self._plan_engine: _PlanEngine | None = plan_engine
        self._device = device
        self._lock = threading.Lock()
        self._addresses: list[int] = []
        for spec in (self.inputs[0], self.outputs[0]):
            self._addresses.append(device.allocate(plan_engine.max_tensor_bytes(spec)))
            plan_engine.context.set_tensor_address(spec.name, self._addresses[-1])
        self._info = RuntimeInfo(
            engine=ENGINE.name,
            version=plan_engine.version,
            device=f"{device.name}, compute capability {device.compute}",
            threads=None,
            # Without a manifest, the output types do not show whether the network is quantized.
            precision=precision or f"unstated ({self.outputs[0].dtype} output)",
        )

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Run the network; see `Runtime.run`."""
        with self._lock:
            plan_engine = self._plan_engine
            if plan_engine is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            max_batch = plan_engine.max_batch
            try:
                self._device.use()
                parts = [
                    self._run_part(plan_engine, batch[start : start + max_batch])
                    for start in range(0, len(batch), max_batch)
                ]
            except RuntimeError as error:
                raise run_error("TensorRT", error) from error
        return np.concatenate(parts).astype(np.float32, copy=False)

    def _run_part(self, plan_engine: _PlanEngine, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run a part of a batch, of at most `max_batch` images."""
        images = np.ascontiguousarray(images)
        output, (input_address, output_address) = self.outputs[0], self._addresses
        logits = np.empty([len(images), *map(int, output.shape[1:])], output.dtype)
        self._device.upload(input_address, images)
        plan_engine.execute(images.shape, self._device.stream)
        self._device.download(logits, output_address)
        return logits

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """Release the plan and the GPU memory; see `Runtime.close`."""
        with self._lock:
            if self._plan_engine is None:
                return
            self._plan_engine.close()
            self._plan_engine = None
            # The device is closed last, because freeing memory needs its CUDA context.
            self._device.use()
            for address in self._addresses:
                self._device.free(address)
            self._device.close()


def _read_tensor_specs(tensorrt: Any, engine: Any, mode: Any) -> tuple[TensorSpec, ...]:
    """Describe the inputs or the outputs of an engine."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    specs = []
    for name in (name for name in names if engine.get_tensor_mode(name) == mode):
        shape = [
            size if size >= 0 else f"dim{axis}"
            for axis, size in enumerate(engine.get_tensor_shape(name))
        ]
        dtype = np.dtype(tensorrt.nptype(engine.get_tensor_dtype(name))).name
        specs.append(make_tensor_spec(name, shape, dtype))
    return tuple(specs)


def _read_max_batch(engine: Any, input_spec: TensorSpec) -> int:
    """Return the batch size; if it is open, the largest one in the optimization profile."""
    batch = input_spec.shape[0]
    if isinstance(batch, int):
        return batch
    _minimum, _optimum, maximum = engine.get_tensor_profile_shape(input_spec.name, 0)
    return int(maximum[0])


def _deserialization_error(
    tensorrt: Any, flavor: cuda.Flavor, artifact: Artifact, plan: bytes, logger: Any
) -> ArtifactError:
    """Return the error for a plan that TensorRT cannot open."""
    product = cuda.PRODUCTS[flavor].name
    reason = cuda.first_error(tensorrt, logger)[:200]
    version = ".".join(str(part) for part in plan[_VERSION_OFFSET : _VERSION_OFFSET + 4])
    if flavor == "rtx" and version != tensorrt.__version__:
        reason = f"it was built by {product} {version}, and this is {tensorrt.__version__}"
    return ArtifactError(
        f"{product} cannot open {artifact.path.name} ({reason})",
        f"export it again with this release of {product}, for this GPU's compute capability",
    )
