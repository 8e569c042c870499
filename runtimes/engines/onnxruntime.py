"""The engine ONNX Runtime: runs ONNX files and .ort files on CPUs, GPUs and NPUs.

An execution provider is ONNX Runtime's backend for one kind of device. GPUs and NPUs need a build
of ONNX Runtime that contains a provider for them. If a provider cannot run the whole network,
opening the file is an error; ONNX Runtime by itself would run the rest on the CPU without a
message.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.install_command import format_packages_command
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Engine, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engine_helpers import (
    count_physical_cores,
    cpu_threads_error,
    describe_unstated_precision,
    import_library,
    load_error,
    read_stated_precision,
    shorten_message,
)
from tinyvit.runtimes.engines._onnx_session import OnnxSession, read_tensor_spec
from tinyvit.runtimes.formats.onnx import ONNX
from tinyvit.runtimes.formats.ort import ORT

_CPU_PROVIDER = "CPUExecutionProvider"
_PROVIDERS_BY_DEVICE = {
    "cpu": ("CPU",),
    "gpu": ("CUDA", "MIGraphX", "ROCM", "Dml", "CoreML", "WebGpu"),
    "npu": ("QNN", "VitisAI", "VSINPU", "Rknpu", "CANN", "Nnapi"),
}
"""Maps a device to its providers, best first. Their suffix "ExecutionProvider" is left out."""

_PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
"""Maps a provider to its options. TF32 is turned off, because it would give float32 products less
than float32 precision."""

_FATAL_MESSAGES_ONLY = 4
"""Value of SessionOptions.log_severity_level with which only fatal errors are logged."""


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime, which every installation of tinyvit-edge has."""

    name = "onnxruntime"
    formats = (ONNX, ORT)
    package = "onnxruntime"
    extra = ""
    supports_streams = True

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open an ONNX or .ort file; see `Engine.open`."""
        onnxruntime = import_library(
            "onnxruntime",
            MissingDependencyError(
                "onnxruntime is not installed",
                f"{format_packages_command('onnxruntime')}, or onnxruntime-gpu for a GPU",
            ),
        )
        precision = read_stated_precision(artifact, options, self.name)
        provider = _find_provider(options.device, onnxruntime.get_available_providers())
        threads = _choose_threads(provider, options)
        session = _create_session(onnxruntime, artifact, provider, threads)
        inputs = tuple(read_tensor_spec(tensor) for tensor in session.get_inputs())
        outputs = tuple(read_tensor_spec(tensor) for tensor in session.get_outputs())
        info = RuntimeInfo(
            engine=self.name,
            version=onnxruntime.__version__,
            device=provider,
            threads=threads,
            precision=precision or describe_unstated_precision(outputs),
        )
        return OnnxSession(session, inputs, outputs, info)


ENGINE = OnnxRuntimeEngine()


def _find_provider(device: str, available_providers: list[str]) -> str:
    """Return the full name of the best available provider for a device.

    The device may also be the name of a provider, with or without "ExecutionProvider".
    """
    provider_name = device.removesuffix("ExecutionProvider")
    candidates = _PROVIDERS_BY_DEVICE.get(device.lower(), (provider_name,))
    full_names = {
        name.removesuffix("ExecutionProvider").lower(): name for name in available_providers
    }
    for candidate in candidates:
        if candidate.lower() in full_names:
            return full_names[candidate.lower()]
    raise RequestError(
        f"this build of onnxruntime has no device {device!r}",
        f"it has {', '.join(sorted(full_names))}; other builds, such as onnxruntime-gpu, have more",
    )


def _choose_threads(provider: str, options: RuntimeOptions) -> int | None:
    """Return the number of CPU threads; None on other devices, where --threads is an error."""
    if provider == _CPU_PROVIDER:
        # Always set, because ONNX Runtime does not report the number that it would choose.
        return options.threads or count_physical_cores()
    if options.threads is not None:
        raise cpu_threads_error(provider)
    return None


def _create_session(
    onnxruntime: ModuleType, artifact: Artifact, provider: str, threads: int | None
) -> Any:
    """Create an InferenceSession that uses one provider for the whole network."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _FATAL_MESSAGES_ONLY
    # ONNX Runtime would otherwise derive the format from the file name.
    settings.add_session_config_entry(
        "session.load_model_format", "ORT" if artifact.format is ORT else "ONNX"
    )
    if threads is not None:
        settings.intra_op_num_threads = threads
    if provider != _CPU_PROVIDER:
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    providers = [(provider, _PROVIDER_OPTIONS.get(provider, {}))]
    try:
        # Without `enable_fallback=0`, a provider that fails would be replaced by another one.
        session = onnxruntime.InferenceSession(
            str(artifact.path), settings, providers=providers, enable_fallback=0
        )
    except Exception as error:  # onnxruntime's errors have no common base class
        if provider == _CPU_PROVIDER:
            raise load_error(artifact.path, "onnxruntime", error) from error
        raise RequestError(
            f"{provider} cannot run all of {artifact.path.name} ({shorten_message(error)})",
            "use --device cpu",
        ) from error
    if session.get_providers()[0] != provider:
        raise RequestError(
            f"onnxruntime runs on {session.get_providers()[0]}, not on {provider}",
            "check the device's driver, or use --device cpu",
        )
    return session
