"""TensorRT: opens engines (.engine) of TensorRT-RTX and of TensorRT on NVIDIA's GPUs.

A plan holds the code that its GPU runs; what would run on the host (plug-ins, a lean runtime in the file) is never loaded.
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
from tinyvit.runtimes import cuda as nvidia
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import (
    Runtime,
    RuntimeOptions,
    check_batch,
    closed_error,
    load_error,
    make_tensor_spec,
    run_error,
    stated_precision,
)
from tinyvit.runtimes.formats import Format
from tinyvit.runtimes.formats.sidecar import Sidecar

TENSORRT = Sidecar(
    "tensorrt",
    ".engine",
    tuple(magic for product in nvidia.PRODUCTS.values() for magic in product.magics),
)
DEVICE = "gpu"
FORMATS: tuple[Format, ...] = (TENSORRT,)
PACKAGE = nvidia.PRODUCTS[nvidia.installed()].module
EXTRA = nvidia.PRODUCTS[nvidia.installed()].extra

_SIZE_AT, _VERSION_AT, _HEADER = 16, 24, 64
"""In TensorRT-RTX 1.7's plans: the file's size, eight bytes, least first; the version that built it, four bytes."""


def open_runtime(artifact: Artifact, options: RuntimeOptions) -> Runtime:
    """Open an engine; raises RequestError for what the device cannot do, or without one, ArtifactError for a file that is refused."""
    plan = _plan(artifact)
    flavor = _flavor(artifact, plan)
    stated = stated_precision(artifact, options, "TensorRT")
    trt = nvidia.sdk(flavor)
    library = nvidia.driver()
    ordinal = _ordinal(options)
    try:
        device = nvidia.CudaDevice(ordinal, library)
        try:
            return _TensorRtRuntime(trt, flavor, artifact, plan, device, stated)
        except BaseException:
            device.close()
            raise
    except nvidia.CudaError as error:
        raise load_error(artifact.path, "TensorRT", error) from error


def _plan(artifact: Artifact) -> bytes:
    """The file's bytes, whole as far as can be told: TensorRT's own reader does not expect damage."""
    path, again = artifact.path, "the file is damaged or of another kind: export it again"
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror})", "check the path"
        ) from error
    if not plan.startswith(TENSORRT.magics) or len(plan) < _HEADER:
        raise ArtifactError(f"{path.name} is no TensorRT engine", again)
    stated = int.from_bytes(plan[_SIZE_AT : _SIZE_AT + 8], "little")
    if plan.startswith(nvidia.PRODUCTS["rtx"].magics) and stated > len(plan):
        raise ArtifactError(f"{path.name} has {len(plan)} of its {stated} bytes", again)
    known = artifact.manifest.content_sha256 if artifact.manifest else ""
    if known and hashlib.sha256(plan).hexdigest() != known:
        raise ArtifactError(f"{path.name} is not the file that its manifest was written for", again)
    return plan


def _flavor(artifact: Artifact, plan: bytes) -> nvidia.Flavor:
    """By the first bytes; the manifest beside the file, if it names a TensorRT, must name the same."""
    flavor = next(
        flavor for flavor, product in nvidia.PRODUCTS.items() if plan.startswith(product.magics)
    )
    tools = artifact.manifest.tools if artifact.manifest else {}
    told = [product for product in nvidia.PRODUCTS.values() if product.module in tools]
    if told and nvidia.PRODUCTS[flavor] not in told:
        cause = f"{artifact.path.name} is of {nvidia.PRODUCTS[flavor].name}, and its manifest says {told[0].name}"
        raise ArtifactError(cause, "keep each engine with its own .json: export it again")
    return flavor


def _ordinal(options: RuntimeOptions) -> int:
    """Of the GPU: "gpu" is the first, "gpu:1" the second."""
    if options.threads is not None:
        raise RequestError(
            "threads are of the CPU, and TensorRT runs on the GPU", "leave --threads out"
        )
    kind, _, number = options.device.lower().partition(":")
    if kind not in ("gpu", "cuda") or not (number.isdecimal() or not number):
        raise RequestError(
            f"TensorRT has no device {options.device!r}",
            'give --device gpu, or "gpu:1" for the second one',
        )
    return int(number or 0)


class _TensorRtRuntime(Runtime):
    def __init__(
        self,
        trt: Any,
        flavor: nvidia.Flavor,
        artifact: Artifact,
        plan: bytes,
        device: nvidia.CudaDevice,
        stated: str,
    ) -> None:
        self._lock, self._device, self._log = threading.Lock(), device, nvidia.logger(trt)
        self._buffers: list[int] = []
        self._trt_runtime = trt.Runtime(self._log)
        self._trt_runtime.engine_host_code_allowed = False
        self._engine = self._trt_runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise _refused(trt, flavor, artifact, plan, self._log)
        self.inputs, self.outputs = (
            _specs(trt, self._engine, mode)
            for mode in (trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT)
        )
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise ArtifactError(
                f"the file has {len(self.inputs)} inputs and {len(self.outputs)} outputs",
                "an image classifier has one each",
            )
        self._most = _most(self._engine, self.inputs[0])
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise ArtifactError(
                f"TensorRT cannot run {artifact.path.name} ({nvidia.complaint(trt, self._log)})",
                "free memory of the GPU",
            )
        for value in (self.inputs[0], self.outputs[0]):
            size = (
                prod(self._most if isinstance(x, str) else x for x in value.shape)
                * np.dtype(value.dtype).itemsize
            )
            self._buffers.append(device.allocate(size))
            self._context.set_tensor_address(value.name, self._buffers[-1])
        self._facts: dict[str, str | int] = {
            "engine": "tensorrt",
            "version": f"{nvidia.PRODUCTS[flavor].name} {trt.__version__}",
            "device": f"{device.name}, compute capability {device.compute}",
            "threads": "engine default",
            # A file without a manifest may be quantized within; the engine tells its ends only.
            "precision": stated or f"unstated ({self.outputs[0].dtype} output)",
        }

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        with self._lock:
            if self._context is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            try:
                self._device.use()
                parts = [
                    self._run(np.ascontiguousarray(batch[i : i + self._most]))
                    for i in range(0, len(batch), self._most)
                ]
            except RuntimeError as error:
                raise run_error("TensorRT", error) from error
        return np.concatenate(parts).astype(np.float32, copy=False)

    def _run(self, part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """At most as many pictures as the plan was made for."""
        given, answer = self.inputs[0], self.outputs[0]
        logits = np.empty([len(part), *map(int, answer.shape[1:])], answer.dtype)
        self._device.upload(self._buffers[0], part)
        if not self._context.set_input_shape(
            given.name, part.shape
        ) or not self._context.execute_async_v3(self._device.stream):
            raise RuntimeError(self._log.lines[-1][1] if self._log.lines else "it does not say why")
        self._device.download(logits, self._buffers[1])
        return logits

    def describe(self) -> dict[str, str | int]:
        return dict(self._facts)

    def close(self) -> None:
        with self._lock:
            if self._context is None:
                return
            # In this order: a context needs its engine, an engine its runtime, all of them the driver's context.
            self._context = None
            self._engine = None
            self._trt_runtime = None
            self._device.use()
            for address in self._buffers:
                self._device.free(address)
            self._device.close()


def _specs(trt: Any, engine: Any, mode: Any) -> tuple[TensorSpec, ...]:
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = []
    for name in (name for name in names if engine.get_tensor_mode(name) == mode):
        shape = [
            size if size >= 0 else f"dim{i}" for i, size in enumerate(engine.get_tensor_shape(name))
        ]
        found.append(
            make_tensor_spec(name, shape, np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name)
        )
    return tuple(found)


def _most(engine: Any, given: TensorSpec) -> int:
    """How many pictures at once: the batch, or where it is free what the plan was made for."""
    first = given.shape[0]
    return (
        first
        if isinstance(first, int)
        else int(engine.get_tensor_profile_shape(given.name, 0)[2][0])
    )


def _refused(
    trt: Any, flavor: nvidia.Flavor, artifact: Artifact, plan: bytes, log: Any
) -> ArtifactError:
    product, said = nvidia.PRODUCTS[flavor].name, nvidia.complaint(trt, log)[:200]
    built = ".".join(str(part) for part in plan[_VERSION_AT : _VERSION_AT + 4])
    if flavor == "rtx" and built != trt.__version__:
        said = f"it was built by {product} {built}, and this is {trt.__version__}"
    remedy = f"export it again with this release of {product}, for this GPU's compute capability"
    return ArtifactError(f"{product} cannot open {artifact.path.name} ({said})", remedy)
