"""OpenVINO: opens its own IR files, and ONNX files, on Intel's and other CPUs, Intel's GPUs and NPUs.

What was asked for is what runs: the compiled model is asked which precision, threads and device it has.
"""

from __future__ import annotations

import queue
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.manifest import TensorSpec
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import (
    PRECISIONS,
    Runtime,
    RuntimeOptions,
    check_batch,
    closed_error,
    load_error,
    make_tensor_spec,
    run_error,
    shorten_message,
)
from tinyvit.runtimes.formats import Format
from tinyvit.runtimes.formats.onnx import ONNX
from tinyvit.runtimes.formats.openvino_ir import OPENVINO_IR, weights

FORMATS: tuple[Format, ...] = (OPENVINO_IR, ONNX)
PACKAGE = "openvino"
CACHES = True
EXTRA = "openvino"

_DYNAMIC = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
"""By default the CPU rounds what meets 8-bit weights to 8 bits itself, by ranges it finds as it runs: what the file does not say."""


def open_runtime(artifact: Artifact, options: RuntimeOptions) -> Runtime:
    """Open an IR or ONNX file; raises RequestError for what this device cannot do, ArtifactError for a file it refuses."""
    if artifact.format is ONNX and artifact.manifest and artifact.manifest.stage == "full":
        # Its ONNX reader ignores Resize's antialias: the answers would be wrong, and nothing would say so.
        raise RequestError(
            "OpenVINO cannot resize as this ONNX file does",
            "tinyvit-export --target openvino --preprocess full",
        )
    ov = _sdk()
    core = shared_core()
    device = _device(options.device, core.available_devices)
    # In a half file, "f16" is OpenVINO's word for the processor's own half type: bf16 on x86, and f32 where there is none.
    half = (
        options.precision is None
        and artifact.manifest is not None
        and artifact.manifest.precision == "float16"
    )
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": options.precision or ("f16" if half else "f32"),
    }
    if device == "CPU":
        settings[_DYNAMIC] = "0"
    if options.threads is not None:
        if device != "CPU":
            raise RequestError(
                f"threads are of the CPU, and the device is {device}",
                "leave --threads out, or ask for --device cpu",
            )
        settings["INFERENCE_NUM_THREADS"] = str(options.threads)
    if options.cache is not None:
        settings["CACHE_DIR"] = str(_folder(Path(options.cache)))
    path = artifact.path
    beside = () if artifact.format is ONNX else (str(weights(path)),)
    try:
        model = core.read_model(str(path), *beside)
    except RuntimeError as error:
        raise load_error(path, "OpenVINO", error) from error
    try:
        compiled = core.compile_model(model, device, settings)
    except RuntimeError as error:
        if device == "CPU":
            raise load_error(path, "OpenVINO", error) from error
        raise RequestError(
            f"{device} cannot run {path.name} ({shorten_message(error)})", "use --device cpu"
        ) from error
    settled = _settled(
        compiled, device, options, PRECISIONS if half else (options.precision or "f32",)
    )
    if options.cache is not None:
        settled["compiled"] = "before" if compiled.get_property("LOADED_FROM_CACHE") else "now"
    if artifact.manifest is not None and artifact.manifest.precision.startswith("int8"):
        settled["precision"] = f"{artifact.manifest.precision}, the rest {settled['precision']}"
    return _OpenVINORuntime(compiled, device, settled, ov.__version__)


def _folder(cache: Path) -> Path:
    """Made where it is missing; OpenVINO itself would go on without."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{cache} cannot be a folder to cache in ({error.strerror})",
            "give one that can be written",
        ) from error
    return cache


def _sdk() -> ModuleType:
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError.of("openvino", "openvino") from error
    module: ModuleType = openvino
    return module


@cache
def shared_core() -> Any:
    """The process's one openvino.Core; raises MissingDependencyError without OpenVINO.

    A Core's CPU plugin sets the thread's signal stack, and lays the one before back when it is freed: that of another Core, which may be
    gone by then. The next signal that has a handler, Ctrl-C say, ends the process (seen with 2026.4). So this one is never freed.
    """
    return _sdk().Core()


def _device(wanted: str, available: list[str]) -> str:
    """OpenVINO's name of one real device; its AUTO, HETERO and MULTI choose by themselves and are refused."""
    name = wanted.upper()
    if name in available or any(device.startswith(f"{name}.") for device in available):
        return name
    raise RequestError(
        f"OpenVINO has no device {wanted!r} here",
        f"it has {', '.join(available)}; others need their drivers",
    )


def _settled(
    compiled: Any, device: str, options: RuntimeOptions, wanted: tuple[str, ...]
) -> dict[str, str | int]:
    """The precision and threads that the compiled model reports; raises RequestError where they are not those asked for."""
    precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
    if precision not in wanted:
        raise RequestError(
            f"{device} computes in {precision}, not {wanted[0]}",
            f"ask for --precision {precision}, or another device",
        )
    if device != "CPU":
        return {"precision": precision, "threads": "engine default"}
    threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
    if options.threads not in (None, threads):
        raise RequestError(
            f"OpenVINO takes {threads} threads here, not {options.threads}",
            f"ask for at most {threads}",
        )
    return {"precision": precision, "threads": threads}


class _OpenVINORuntime(Runtime):
    def __init__(
        self, compiled: Any, device: str, settled: dict[str, str | int], version: str
    ) -> None:
        self.inputs = tuple(_spec(port, f"input{i}") for i, port in enumerate(compiled.inputs))
        self.outputs = tuple(_spec(port, f"output{i}") for i, port in enumerate(compiled.outputs))
        self._compiled = compiled
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._facts: dict[str, str | int] = {
            "engine": "openvino",
            "version": version,
            "device": device,
            **settled,
        }

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        compiled = self._compiled
        if compiled is None:
            raise closed_error()
        check_batch(batch, self.inputs)
        try:
            # A request holds its own buffers, so no two threads may share one.
            request = self._idle.get_nowait()
        except queue.Empty:
            request = compiled.create_infer_request()
        try:
            request.infer({0: np.ascontiguousarray(batch)})
            logits = np.array(request.get_output_tensor(0).data, np.float32)
        except RuntimeError as error:
            raise run_error("OpenVINO", error) from error
        self._idle.put(request)
        return logits

    def describe(self) -> dict[str, str | int]:
        return dict(self._facts)

    def close(self) -> None:
        self._compiled = None
        self._idle = queue.SimpleQueue()


def _spec(port: Any, fallback: str) -> TensorSpec:
    """A tensor of the compiled model; one without a name gets `fallback`."""
    if port.partial_shape.rank.is_dynamic:
        raise ArtifactError(
            "the file has a tensor of unknown rank",
            "an image classifier with one input and one output is expected",
        )
    shape = [
        f"dim{i}" if dim.is_dynamic else dim.get_length()
        for i, dim in enumerate(port.partial_shape)
    ]
    name = next(iter(sorted(port.names)), fallback)
    return make_tensor_spec(name, shape, np.dtype(port.element_type.to_dtype()).name)
