"""TensorRT: opens engine files (.engine) of TensorRT-RTX and of TensorRT on NVIDIA GPUs.

TensorRT calls a built engine file a plan. It holds code for the GPU. Code that would run on the
host, such as plug-ins or a lean runtime in the file, is never loaded.
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

# The header of TensorRT-RTX 1.7's plans: the file's size at byte 16 (eight bytes, little-endian),
# and the version that built it at byte 24 (four bytes).
_SIZE_OFFSET, _VERSION_OFFSET, _HEADER_BYTES = 16, 24, 64


class TensorRTEngine(Engine):
    """Runs a file in the TensorRT that wrote it, TensorRT-RTX or TensorRT."""

    name = "tensorrt"
    formats = (TENSORRT,)
    default_device = "gpu"

    def __init__(self) -> None:
        """Name the product that is installed here, so that `package` is found if any is."""
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
    """Read the file and check that it is complete: TensorRT's own reader expects no damage."""
    path, remedy = artifact.path, "the file is damaged or of another kind: export it again"
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
        raise ArtifactError(f"{path.name} has {len(plan)} of its {stated_bytes} bytes", remedy)
    stated_sha256 = artifact.manifest.content_sha256 if artifact.manifest else ""
    if stated_sha256 and hashlib.sha256(plan).hexdigest() != stated_sha256:
        raise ArtifactError(
            f"{path.name} is not the file that its manifest was written for", remedy
        )
    return plan


def _find_flavor(artifact: Artifact, plan: bytes) -> cuda.Flavor:
    """Find the product that wrote the plan, by its first bytes; the manifest must not differ."""
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
    """Return the number of the GPU: "gpu" is 0, "gpu:1" is 1."""
    if options.threads is not None:
        raise RequestError(
            "--threads sets CPU threads, and TensorRT runs on the GPU", "leave --threads out"
        )
    kind, _, number = options.device.lower().partition(":")
    if kind not in ("gpu", "cuda") or not (number.isdecimal() or not number):
        raise RequestError(
            f"TensorRT has no device {options.device!r}",
            'give --device gpu, or "gpu:1" for the second GPU',
        )
    return int(number or 0)


class _PlanEngine:
    """A plan that TensorRT has loaded, and an execution context to run it in."""

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
                f"TensorRT cannot run {artifact.path.name} ({reason})", "free memory of the GPU"
            )

    def largest_bytes(self, spec: TensorSpec) -> int:
        """Return the size of the input or output for the largest batch."""
        shape = [self.max_batch if isinstance(size, str) else size for size in spec.shape]
        return prod(shape) * np.dtype(spec.dtype).itemsize

    def execute(self, batch_shape: tuple[int, ...], stream: int) -> None:
        """Start the network in a CUDA stream; raises RuntimeError if TensorRT refuses."""
        is_started = self.context.set_input_shape(
            self.inputs[0].name, batch_shape
        ) and self.context.execute_async_v3(stream)
        if not is_started:
            lines = self.logger.lines
            raise RuntimeError(lines[-1][1] if lines else "TensorRT gives no reason")

    def close(self) -> None:
        """Release in this order: a context needs its engine, and an engine its loader."""
        self.context = None
        self.engine = None
        self._loader = None


class _TensorRTRuntime(Runtime):
    """A loaded plan with GPU memory for its input and output; one thread at a time can run it."""

    def __init__(self, plan_engine: _PlanEngine, device: cuda.CudaDevice, precision: str) -> None:
        self.inputs, self.outputs = plan_engine.inputs, plan_engine.outputs
        self._plan_engine: _PlanEngine | None = plan_engine
        self._device = device
        self._lock = threading.Lock()
        self._addresses: list[int] = []
        for spec in (self.inputs[0], self.outputs[0]):
            self._addresses.append(device.allocate(plan_engine.largest_bytes(spec)))
            plan_engine.context.set_tensor_address(spec.name, self._addresses[-1])
        self._info = RuntimeInfo(
            engine=ENGINE.name,
            version=plan_engine.version,
            device=f"{device.name}, compute capability {device.compute}",
            threads=None,
            # The inside of a file without a manifest may be quantized; its outputs do not tell.
            precision=precision or f"unstated ({self.outputs[0].dtype} output)",
        )

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Run the network; see `Runtime.run`."""
        with self._lock:
            plan_engine = self._plan_engine
            if plan_engine is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            step = plan_engine.max_batch
            try:
                self._device.use()
                parts = [
                    self._run_part(plan_engine, np.ascontiguousarray(batch[start : start + step]))
                    for start in range(0, len(batch), step)
                ]
            except RuntimeError as error:
                raise run_error("TensorRT", error) from error
        return np.concatenate(parts).astype(np.float32, copy=False)

    def _run_part(self, plan_engine: _PlanEngine, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run at most as many images as the plan was built for."""
        output, (input_address, output_address) = self.outputs[0], self._addresses
        logits = np.empty([len(images), *map(int, output.shape[1:])], output.dtype)
        self._device.upload(input_address, images)
        plan_engine.execute(images.shape, self._device.stream)
        self._device.download(logits, output_address)
        return logits

    def describe(self) -> RuntimeInfo:
        """Return what really runs; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """Release the plan and the GPU memory; see `Runtime.close`."""
        with self._lock:
            if self._plan_engine is None:
                return
            self._plan_engine.close()
            self._plan_engine = None
            # Last, because everything else needs the driver's context.
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
    """Return the batch size, or the largest one of the profile if the plan leaves it open."""
    batch = input_spec.shape[0]
    if isinstance(batch, int):
        return batch
    _minimum, _optimum, maximum = engine.get_tensor_profile_shape(input_spec.name, 0)
    return int(maximum[0])


def _deserialization_error(
    tensorrt: Any, flavor: cuda.Flavor, artifact: Artifact, plan: bytes, logger: Any
) -> ArtifactError:
    """Make the error for a plan that TensorRT does not accept."""
    product = cuda.PRODUCTS[flavor].name
    reason = cuda.first_error(tensorrt, logger)[:200]
    version = ".".join(str(part) for part in plan[_VERSION_OFFSET : _VERSION_OFFSET + 4])
    if flavor == "rtx" and version != tensorrt.__version__:
        reason = f"it was built by {product} {version}, and this is {tensorrt.__version__}"
    return ArtifactError(
        f"{product} cannot open {artifact.path.name} ({reason})",
        f"export it again with this release of {product}, for this GPU's compute capability",
    )
