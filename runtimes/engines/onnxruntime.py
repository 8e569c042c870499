"""ONNX Runtime: opens ONNX files, and its own .ort, on CPUs, and on GPUs and NPUs where its build has a provider for them.

What was asked for is what runs: a provider that cannot take the whole network is an error, not a slow detour over the CPU.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.manifest import TensorSpec
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import (
    Runtime,
    RuntimeOptions,
    check_batch,
    closed_error,
    load_error,
    make_tensor_spec,
    physical_cores,
    run_error,
    shorten_message,
    stated_precision,
)
from tinyvit.runtimes.formats import Format
from tinyvit.runtimes.formats.onnx import ONNX
from tinyvit.runtimes.formats.trailer import TrailerFormat

ORT = TrailerFormat("ort", ".ort", b"ORTM", at=4)
FORMATS: tuple[Format, ...] = (ONNX, ORT)
PACKAGE = "onnxruntime"
EXTRA = ""

_CPU = "CPUExecutionProvider"
_KINDS = {
    "cpu": ("CPU",),
    "gpu": ("CUDA", "MIGraphX", "ROCM", "Dml", "CoreML", "WebGpu"),
    "npu": ("QNN", "VitisAI", "VSINPU", "Rknpu", "CANN", "Nnapi"),
}
# By default CUDA rounds float32 products to TF32, which is not the precision that the file states.
_PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
_SILENT = 4


def open_runtime(artifact: Artifact, options: RuntimeOptions) -> Runtime:
    """Open an ONNX file; raises RequestError for what this build cannot do, ArtifactError for a file it refuses."""
    ort = _sdk()
    stated = stated_precision(artifact, options, "onnxruntime")
    provider = _provider(options.device, ort.get_available_providers())
    settings = ort.SessionOptions()
    settings.log_severity_level = _SILENT
    settings.add_session_config_entry(
        "session.load_model_format", "ORT" if artifact.format is ORT else "ONNX"
    )  # whatever its name
    if provider != _CPU:
        if options.threads is not None:
            raise RequestError(
                f"threads are of the CPU, and the device is {provider}",
                "leave --threads out, or ask for --device cpu",
            )
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    else:
        # Set even where nothing was asked, so that what describe() says is what runs.
        options = replace(options, threads=options.threads or physical_cores())
        settings.intra_op_num_threads = options.threads or 0
    try:
        chosen = [(provider, _PROVIDER_OPTIONS.get(provider, {}))]
        session = ort.InferenceSession(
            str(artifact.path), settings, providers=chosen, enable_fallback=0
        )
    except Exception as error:  # onnxruntime's errors have no base of their own
        if provider == _CPU:
            raise load_error(artifact.path, "onnxruntime", error) from error
        raise RequestError(
            f"{provider} cannot run {artifact.path.name} whole ({shorten_message(error)})",
            "use --device cpu",
        ) from error
    if session.get_providers()[0] != provider:
        raise RequestError(
            f"onnxruntime runs on {session.get_providers()[0]}, not {provider}",
            "check the device's driver, or use --device cpu",
        )
    return _OnnxRuntime(session, provider, options, stated, ort.__version__)


def _sdk() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "onnxruntime is not installed", "pip install onnxruntime, or onnxruntime-gpu for a GPU"
        ) from error
    module: ModuleType = onnxruntime
    return module


def _provider(device: str, available: list[str]) -> str:
    """The full name of the provider to use: the first available of a kind, or the one that is named."""
    wanted = _KINDS.get(device.lower(), (device.removesuffix("ExecutionProvider"),))
    names = {name.removesuffix("ExecutionProvider").lower(): name for name in available}
    for name in wanted:
        if name.lower() in names:
            return names[name.lower()]
    there = ", ".join(sorted(names))
    raise RequestError(
        f"this onnxruntime has no device {device!r}",
        f"it has {there}; other builds, such as onnxruntime-gpu, have more",
    )


class _OnnxRuntime(Runtime):
    def __init__(
        self, session: Any, provider: str, options: RuntimeOptions, stated: str, version: str
    ) -> None:
        self.inputs = tuple(_spec(x) for x in session.get_inputs())
        self.outputs = tuple(_spec(x) for x in session.get_outputs())
        self._session = session
        self._facts: dict[str, str | int] = {
            "engine": "onnxruntime",
            "version": version,
            "device": provider,
            "threads": options.threads or "engine default",
            # A file without a manifest may be quantized within; onnxruntime tells its ends only.
            "precision": stated or f"unstated ({', '.join(x.dtype for x in self.outputs)} output)",
        }

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        session = self._session
        if session is None:
            raise closed_error()
        check_batch(batch, self.inputs)
        try:
            outputs = session.run(
                [self.outputs[0].name], {self.inputs[0].name: np.ascontiguousarray(batch)}
            )
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise run_error("onnxruntime", error) from error
        return np.asarray(outputs[0], np.float32)

    def describe(self) -> dict[str, str | int]:
        return dict(self._facts)

    def close(self) -> None:
        self._session = None


def _spec(value: Any) -> TensorSpec:
    names = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
    dtype = names.get(value.type, value.type.removeprefix("tensor(").removesuffix(")"))
    try:
        np.dtype(dtype)
    except TypeError as error:
        raise ArtifactError(
            f"{value.name} is of type {value.type}",
            "an image classifier of float32 or uint8 pictures is expected",
        ) from error
    return make_tensor_spec(
        value.name,
        [x if isinstance(x, (int, str)) else f"dim{i}" for i, x in enumerate(value.shape)],
        dtype,
    )
