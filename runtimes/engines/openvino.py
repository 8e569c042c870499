"""The engine OpenVINO: runs its IR files and ONNX files on CPUs, and on Intel's GPUs and NPUs.

IR is OpenVINO's own format: an .xml file with the graph and a .bin file with the weights. OpenVINO
may use another precision or number of threads than requested. Both are therefore read from the
compiled model, and a difference from the options is an error.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache, partial
from types import ModuleType
from typing import Any

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.privacy import hide_openvino_telemetry
from tinyvit.runtimes import processor
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Engine, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engine_helpers import (
    cpu_threads_error,
    import_library,
    load_error,
    shorten_message,
)
from tinyvit.runtimes.engines._openvino_cache import open_cache_folder
from tinyvit.runtimes.engines._openvino_cost import check_model_cost
from tinyvit.runtimes.engines._openvino_runtime import OpenVINORuntime
from tinyvit.runtimes.forking import keep_forever
from tinyvit.runtimes.formats.onnx import ONNX
from tinyvit.runtimes.formats.openvino_ir import OPENVINO_IR, weights_path
from tinyvit.runtimes.limited_trial import run_limited_trial

_PRECISION_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""Maps a precision to OpenVINO's value of INFERENCE_PRECISION_HINT."""

_PRECISIONS_BY_HINT = {hint: precision for precision, hint in _PRECISION_HINTS.items()}
"""Maps OpenVINO's value of INFERENCE_PRECISION_HINT to a precision."""

_DYNAMIC_QUANTIZATION = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
"""OpenVINO's property for dynamic quantization: if a layer has int8 weights and float inputs, the
inputs are quantized while the network runs. On CPUs it is on by default. The value "0" turns it
off, because artifacts do not request it."""


class OpenVINOEngine(Engine):
    """OpenVINO on CPUs, and on Intel GPUs and NPUs with a driver."""

    name = "openvino"
    formats = (OPENVINO_IR, ONNX)
    package = "openvino"
    extra = "openvino"
    caches_compiled_files = True
    supports_streams = True

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open an IR or ONNX file; see `Engine.open`."""
        _check_resize_support(artifact)
        openvino = _import_openvino()
        core = shared_core()
        device = _find_device(options.device, core.available_devices)
        precision = options.precision
        if precision is None and _may_choose_precision(artifact, options):
            capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
            precision = choose_16_bit_precision(device, capabilities, processor.read_flags())
        properties = _make_properties(precision or "float32", options, device)
        with open_cache_folder(options.cache) as cache_properties:
            compiled_model = _compile(
                core, artifact, options, device, {**properties, **cache_properties}
            )
        info = RuntimeInfo(
            engine=self.name,
            version=openvino.__version__,
            device=device,
            threads=_read_threads(compiled_model, device, options),
            precision=_read_precision(compiled_model, device, artifact, options),
        )
        return OpenVINORuntime(compiled_model, info, has_cache=options.cache is not None)


ENGINE = OpenVINOEngine()


@cache
def shared_core() -> Any:
    """Return the one openvino.Core of this process, which is never freed.

    A child process of `os.fork` gets a new Core, because the threads of the inherited Core do not
    exist in the child.

    Freeing several Cores can crash the process. A Core's CPU plugin installs a signal stack for the
    thread and, when the Core is freed, restores the previous signal stack. If the previous stack
    belonged to a Core that was freed earlier, the next signal with a handler, such as Ctrl-C,
    crashes the process (seen with OpenVINO 2026.4).

    Returns:
        The openvino.Core.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    core = _import_openvino().Core()
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=partial(_abandon_core, core))
    return core


def _abandon_core(core: Any) -> None:
    """Prepare a child of `os.fork` to create its own Core; the inherited one is never freed."""
    keep_forever(core)
    shared_core.cache_clear()


def _import_openvino() -> ModuleType:
    error = MissingDependencyError.for_engine("openvino", extra="openvino")
    with hide_openvino_telemetry():
        return import_library("openvino", error)


def _check_resize_support(artifact: Artifact) -> None:
    """Raise RequestError for an ONNX file that contains the resizing of images.

    OpenVINO's ONNX reader ignores the attribute "antialias" of Resize, so the logits would be
    wrong without any message.
    """
    manifest = artifact.manifest
    resizes_images = manifest is not None and manifest.embedded_preprocessing == "full"
    if artifact.format is ONNX and resizes_images:
        raise RequestError(
            "OpenVINO cannot resize images as this ONNX file requires",
            "use an artifact of tinyvit-export --target openvino --preprocess full",
        )


def _find_device(device: str, available_devices: list[str]) -> str:
    """Return OpenVINO's name of an available device; raise RequestError for any other name.

    OpenVINO's virtual devices AUTO, HETERO and MULTI are refused too, because they choose a device
    themselves.
    """
    name = device.upper()
    # If there are several GPUs, OpenVINO lists GPU.0 and GPU.1, and accepts GPU for the first one.
    is_numbered = any(available.startswith(f"{name}.") for available in available_devices)
    if name in available_devices or is_numbered:
        return name
    raise RequestError(
        f"OpenVINO has no device {device!r} here",
        f"it has {', '.join(available_devices)}; other devices need their drivers",
    )


def _may_choose_precision(artifact: Artifact, options: RuntimeOptions) -> bool:
    """Return whether the device may choose its float type.

    It may if the file is float16 and the options do not name a precision.
    """
    is_float16 = artifact.manifest is not None and artifact.manifest.precision == "float16"
    return is_float16 and options.precision is None


def choose_16_bit_precision(
    device: str, capabilities: Sequence[str], processor_flags: frozenset[str] | None
) -> str:
    """Choose the precision in which a float16 file is fastest.

    This is for a user who requests no precision. With "float16", OpenVINO's CPU plugin uses AVX-512
    FP16 on processors that have it, which is slower than float32 (docs/lab-notes/engines.md). Only
    AMX-FP16 makes float16 as fast as bfloat16.

    Args:
        device: OpenVINO's name of the device.
        capabilities: The device's OPTIMIZATION_CAPABILITIES.
        processor_flags: Result of `processor.read_flags`; None if they are unknown.

    Returns:
        "bfloat16" or "float16". OpenVINO takes float16 as a request for any 16-bit type: on
        processors without one, it computes in float32.
    """
    has_amx_float16 = processor_flags is not None and "amx_fp16" in processor_flags
    prefers_bfloat16 = device == "CPU" and "BF16" in capabilities and not has_amx_float16
    return "bfloat16" if prefers_bfloat16 else "float16"


def _make_properties(precision: str, options: RuntimeOptions, device: str) -> dict[str, str]:
    """Translate the options to OpenVINO's properties."""
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision],
    }
    if device == "CPU":
        properties[_DYNAMIC_QUANTIZATION] = "0"
    if options.threads is not None:
        if device != "CPU":
            raise cpu_threads_error(device)
        properties["INFERENCE_NUM_THREADS"] = str(options.threads)
    if options.streams > 1:
        # Otherwise the threads of all copies of the network share one core.
        properties["ENABLE_CPU_PINNING"] = "NO"
    return properties


def _compile(
    core: Any,
    artifact: Artifact,
    options: RuntimeOptions,
    device: str,
    properties: dict[str, str],
) -> Any:
    """Read the file, check the cost of the model in it, and compile it for a device."""
    path = artifact.path
    try:
        if artifact.format is ONNX:
            model = core.read_model(str(path))
        else:
            model = core.read_model(str(path), str(weights_path(path)))
    except RuntimeError as error:
        raise load_error(path, "OpenVINO", error) from error
    if not options.allow_foreign_operators and not check_model_cost(model, path.name):
        run_limited_trial(artifact, ENGINE.name, options)
    try:
        return core.compile_model(model, device, properties)
    except RuntimeError as error:
        if device == "CPU":
            raise load_error(path, "OpenVINO", error) from error
        raise RequestError(
            f"{device} cannot run {path.name} ({shorten_message(error)})", "use --device cpu"
        ) from error


def _read_precision(
    compiled_model: Any, device: str, artifact: Artifact, options: RuntimeOptions
) -> str:
    """Read the compiled model's precision; raise RequestError if it is not an expected one.

    The requested precision is expected, or float32 if none was requested. If none was requested for
    a float16 file, all precisions of `_PRECISION_HINTS` are expected.
    """
    hint = str(compiled_model.get_property("INFERENCE_PRECISION_HINT").to_string())
    precision = _PRECISIONS_BY_HINT.get(hint, hint)
    expected = options.precision or "float32"
    if _may_choose_precision(artifact, options):
        is_allowed = precision in _PRECISION_HINTS
    else:
        is_allowed = precision == expected
    if not is_allowed:
        raise RequestError(
            f"{device} computes in {precision}, not in {expected}",
            f"use --precision {precision}, or another device",
        )
    if artifact.manifest is not None and artifact.manifest.precision.startswith("int8"):
        return f"{artifact.manifest.precision}, the rest {precision}"
    return precision


def _read_threads(compiled_model: Any, device: str, options: RuntimeOptions) -> int | None:
    """Read how many CPU threads the compiled model uses; None if it does not run on the CPU.

    Raises RequestError if another number was requested.
    """
    if device != "CPU":
        return None
    threads = int(compiled_model.get_property("INFERENCE_NUM_THREADS"))
    if options.threads not in (None, threads):
        raise RequestError(
            f"OpenVINO uses {threads} threads here, not {options.threads}",
            f"use --threads {threads} or less",
        )
    return threads
