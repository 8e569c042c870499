"""The engine qnn: runs files on the Hexagon NPU of a Qualcomm chip, with onnxruntime-qnn.

It was not run on a device yet. The engine qnn-emulator runs the same files in Qualcomm's emulator.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.runtimes import qualcomm
from tinyvit.runtimes.artifact import Artifact, content_sha256
from tinyvit.runtimes.base import Engine, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engine_helpers import (
    cpu_threads_error,
    describe_unstated_precision,
    read_stated_precision,
    shorten_message,
)
from tinyvit.runtimes.engines._onnx_session import OnnxSession, read_tensor_spec
from tinyvit.runtimes.formats.onnx import ONNX
from tinyvit.runtimes.formats.qnn_context import QNN_CONTEXT

_DEVICE = "npu"
"""The only device."""


class QnnEngine(Engine):
    """A Hexagon NPU of this machine."""

    name = "qnn"
    formats = (QNN_CONTEXT, ONNX)
    package = qualcomm.PACKAGE
    extra = qualcomm.EXTRA
    default_device = _DEVICE

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open a file; see `Engine.open`."""
        if options.device != _DEVICE:
            raise RequestError(
                f"the engine qnn has no device {options.device!r}",
                "use --device npu, or --runtime onnxruntime for the CPU",
            )
        if options.threads is not None:
            raise cpu_threads_error(_DEVICE)
        return open_on_npu(artifact, options, self.name, chip=None)


ENGINE = QnnEngine()


def open_on_npu(
    artifact: Artifact, options: RuntimeOptions, engine_name: str, chip: qualcomm.Chip | None
) -> Runtime:
    """Open a file on the NPU of this machine, or in the emulator.

    Args:
        artifact: The file. Qualcomm's library may crash if a compiled network is damaged, so the
            hash in the manifest is compared first.
        options: The options; `precision` is read.
        engine_name: Name of the engine.
        chip: The chip that is emulated; None for the NPU of this machine.

    Returns:
        The opened file.

    Raises:
        RequestError: The file is float32, there is no NPU, or it is that of another chip than the
            file is compiled for.
        ArtifactError: A compiled network has no manifest, or was changed.
        MissingDependencyError: onnxruntime-qnn is not installed.
    """
    precision = read_stated_precision(artifact, options, engine_name)
    require_suitable_file(artifact, precision)
    is_compiled = artifact.format is QNN_CONTEXT
    try:
        # A compiled network states its operators on the CPU: they convert the input and the output.
        allows_cpu = is_compiled or chip is not None
        session = qualcomm.create_session(artifact.path.read_bytes(), chip, allows_cpu=allows_cpu)
    except Exception as error:
        if type(error).__module__.startswith("tinyvit"):
            raise
        raise _explain_refusal(artifact, is_compiled, error) from error
    inputs = tuple(read_tensor_spec(tensor) for tensor in session.get_inputs())
    outputs = tuple(read_tensor_spec(tensor) for tensor in session.get_outputs())
    info = RuntimeInfo(
        engine=engine_name,
        version=f"onnxruntime-qnn {metadata.version('onnxruntime-qnn')}",
        device="Hexagon NPU" if chip is None else f"emulated NPU of {chip.name}",
        threads=None,
        precision=precision or describe_unstated_precision(outputs),
    )
    return OnnxSession(session, inputs, outputs, info)


def require_suitable_file(artifact: Artifact, precision: str | None) -> None:
    """Refuse a file that no Hexagon NPU runs, or whose compiled network was changed.

    Args:
        artifact: The file.
        precision: Precision of its network; None if it is not stated.

    Raises:
        RequestError: The file is float32.
        ArtifactError: A compiled network has no manifest, or was changed.
    """
    if precision == "float32":
        raise RequestError(
            f"{artifact.path.name} is float32, and Hexagon NPUs compute in float16 or in integers",
            "export it with --target qnn and --float16 or --int8",
        )
    if artifact.format is QNN_CONTEXT:
        _check_content(artifact)


def _check_content(artifact: Artifact) -> None:
    """Refuse a compiled network that is not what its manifest describes."""
    manifest = artifact.manifest
    if manifest is None:
        raise ArtifactError(
            f"{artifact.path.name} contains a compiled network without a manifest",
            "give a file that tinyvit-export wrote",
        )
    # Files that an export writes only to measure them have no hash yet.
    if manifest.content_sha256 and content_sha256(artifact.path) != manifest.content_sha256:
        raise ArtifactError(
            f"{artifact.path.name} was changed after the export", "copy or export the file again"
        )


def _explain_refusal(artifact: Artifact, is_compiled: bool, error: Any) -> Exception:
    """Return the error for a file that Qualcomm's library does not accept."""
    message = shorten_message(error)
    manifest = artifact.manifest
    compilation = manifest.compilation if manifest is not None else None
    if is_compiled and compilation is not None:
        return RequestError(
            f"{artifact.path.name} is compiled for {compilation.chip} with {compilation.compiler},"
            f" and this device does not accept it ({message})",
            "export it for the chip of this device (--soc), or give the file without --soc, which"
            " is compiled on the device",
        )
    return RequestError(
        f"onnxruntime-qnn cannot run {artifact.path.name} ({message})", "use --device cpu"
    )
