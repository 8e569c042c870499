"""Qualcomm's compiler and emulator, which the package onnxruntime-qnn contains.

The package adds an execution provider (a backend for one kind of device) to onnxruntime. On a
machine with a Hexagon NPU, it runs networks on the NPU. On an x86-64 machine with Linux, its
library compiles them for the NPU of a given chip, and emulates the NPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.files.staging import temporary_folder
from tinyvit.processes.output_capture import silence_file_descriptors
from tinyvit.runtimes.engine_helpers import shorten_message

PROVIDER = "QNNExecutionProvider"
"""Name of the execution provider."""
PACKAGE = "onnxruntime_qnn"
"""Name of the Python module."""
EXTRA = "qnn"
"""Extra of tinyvit-edge that installs the package."""
CONTEXT_OPERATOR = "EPContext"
"""Operator that contains a compiled network, in the domain com.microsoft."""
NO_CPU_ENTRY = ("session.disable_cpu_ep_fallback", "1")
"""Key and value of a session's entry with which operators on the CPU are an error. The execution
provider then takes the conversions of the network's input and output to the NPU, too."""

_FATAL_MESSAGES_ONLY = 4
"""Value of SessionOptions.log_severity_level with which only fatal errors are logged."""


@dataclass(frozen=True)
class Chip:
    """A chip with a Hexagon NPU.

    Attributes:
        name: Name for --soc.
        title: Name of the product.
        soc_model: Number of the chip in Qualcomm's tools.
        htp_arch: Version of the NPU's architecture.
    """

    name: str
    title: str
    soc_model: int
    htp_arch: int

    @property
    def has_float16(self) -> bool:
        """Whether the NPU computes in float16."""
        return self.htp_arch >= _FIRST_FLOAT16_ARCH


_FIRST_FLOAT16_ARCH = 73
"""First architecture for which onnxruntime-qnn compiled a float network; for 68, it failed
(docs/lab-notes/npus.md)."""

CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip("sm8550", "Snapdragon 8 Gen 2", 43, 73),
        Chip("sm8650", "Snapdragon 8 Gen 3", 57, 75),
        Chip("sm8750", "Snapdragon 8 Elite", 69, 79),
        Chip("x-elite", "Snapdragon X Elite (SC8380XP)", 60, 73),
        Chip("qcs6490", "QCS6490", 35, 68),
    )
}
"""The chips that files are compiled for. The numbers of the chips are those of the enumeration
QNN_SOC_MODEL in QnnTypes.h of Qualcomm's QAIRT SDK (QCS6490 is listed there as SM7325, the same
silicon); the architectures are those of pytorch/executorch,
backends/qualcomm/serialization/qc_schema.py, and of the SDK's list of Snapdragon devices."""

DEFAULT_CHIP = CHIPS["sm8550"]
"""The chip that is emulated for a file that is not compiled for one."""


@dataclass(frozen=True)
class CompiledNetwork:
    """A network that was compiled for a chip.

    Attributes:
        data: The ONNX model with the compiled network in it.
        compiler: Name and version of the compiler.
        cpu_outputs: Name of the first output of each operator that stays on the CPU, except the
            first quantize and the last dequantize operator -> the operator.
    """

    data: bytes
    compiler: str
    cpu_outputs: Mapping[str, str]


def import_provider() -> tuple[ModuleType, ModuleType]:
    """Import onnxruntime, and register the execution provider with it.

    Returns:
        The modules onnxruntime and onnxruntime_qnn.

    Raises:
        MissingDependencyError: onnxruntime-qnn is not installed, or its library cannot be loaded.
    """
    try:
        import onnxruntime
        import onnxruntime_qnn
    except ImportError as error:
        raise MissingDependencyError.for_package("onnxruntime-qnn", extra=EXTRA) from error
    _register_library(onnxruntime, onnxruntime_qnn)
    return onnxruntime, onnxruntime_qnn


def make_provider_options(backend_path: str) -> dict[str, str]:
    """Make the options of the execution provider on an NPU.

    All others, such as htp_performance_mode, have their default values.

    Args:
        backend_path: Path of libQnnHtp.so, the part of Qualcomm's library for Hexagon NPUs.
    """
    return {"backend_path": backend_path}


def create_session(
    model: bytes,
    chip: Chip | None,
    context_path: Path | None = None,
    allows_cpu: bool = True,
) -> Any:
    """Create a session that runs a model on an NPU or in the emulator.

    Args:
        model: A serialized ONNX model, which may contain a compiled network.
        chip: The chip to emulate or to compile for; None for the NPU of this machine.
        context_path: Where the compiled network is written; None to write nothing.
        allows_cpu: Whether operators may stay on the CPU. If not, it is an error.

    Returns:
        An InferenceSession.

    Raises:
        MissingDependencyError: onnxruntime-qnn is not installed.
        RequestError: There is no such device.
    """
    onnxruntime, package = import_provider()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _FATAL_MESSAGES_ONLY
    options = make_provider_options(package.get_qnn_htp_path())
    if chip is not None:
        options |= {"soc_model": str(chip.soc_model), "htp_arch": str(chip.htp_arch)}
    settings.add_provider_for_devices([_find_device(onnxruntime, is_npu=chip is None)], options)
    if not allows_cpu:
        settings.add_session_config_entry(*NO_CPU_ENTRY)
    if context_path is not None:
        settings.add_session_config_entry("ep.context_enable", "1")
        settings.add_session_config_entry("ep.context_embed_mode", "1")
        settings.add_session_config_entry("ep.context_file_path", str(context_path))
    with silence_file_descriptors():
        return onnxruntime.InferenceSession(model, settings)


def compile_network(model: bytes, chip: Chip) -> CompiledNetwork:
    """Compile a network for the NPU of a chip. This takes seconds.

    Args:
        model: A serialized ONNX model.
        chip: The chip.

    Returns:
        The compiled network.

    Raises:
        MissingDependencyError: onnxruntime-qnn is not installed.
        ArtifactError: The compiler failed, or leaves the whole network to the CPU.
    """
    import onnx

    with temporary_folder() as folder:
        path = folder / "context.onnx"
        try:
            create_session(model, chip, path)
        except (RequestError, MissingDependencyError):
            raise
        except Exception as error:  # onnxruntime's errors have no common base class
            raise ArtifactError(
                f"Qualcomm's compiler cannot compile the network for {chip.name}"
                f" ({shorten_message(error)})",
                "use --int8, or another chip (--soc)",
            ) from error
        data = path.read_bytes() if path.exists() else b""
    graph = onnx.load_model_from_string(data).graph if data else onnx.GraphProto()
    contexts = [node for node in graph.node if node.op_type == CONTEXT_OPERATOR]
    if not contexts:
        raise ArtifactError(
            f"Qualcomm's compiler leaves the whole network to the CPU of {chip.name}",
            "report this, with the output of pip list",
        )
    versions = {
        attribute.s.decode("ascii", "replace").removeprefix("v")
        for node in contexts
        for attribute in node.attribute
        if attribute.name == "ep_sdk_version"
    }
    return CompiledNetwork(data, f"QAIRT {', '.join(sorted(versions))}", find_cpu_outputs(graph))


def find_cpu_outputs(graph: Any) -> dict[str, str]:
    """Return `CompiledNetwork.cpu_outputs`.

    A quantize operator between an input of the network and a compiled part, and a dequantize
    operator between a compiled part and an output, convert the tensors that enter and leave the
    NPU. Between two compiled parts, they are work of the CPU.

    Args:
        graph: The graph of an ONNX model that contains compiled networks.
    """
    contexts = [node for node in graph.node if node.op_type == CONTEXT_OPERATOR]
    entering = {name for node in contexts for name in node.input}
    leaving = {name for node in contexts for name in node.output}
    inputs = {value.name for value in graph.input}
    outputs = {value.name for value in graph.output}
    remaining = {}
    for node in graph.node:
        is_entry = (
            node.op_type == "QuantizeLinear"
            and node.input[0] in inputs
            and node.output[0] in entering
        )
        is_exit = (
            node.op_type == "DequantizeLinear"
            and node.input[0] in leaving
            and node.output[0] in outputs
        )
        if node.op_type != CONTEXT_OPERATOR and not is_entry and not is_exit:
            remaining[node.output[0]] = node.op_type
    return remaining


@cache
def _register_library(onnxruntime: Any, package: Any) -> None:
    """Register the library once: onnxruntime refuses a second time."""
    with silence_file_descriptors():
        onnxruntime.register_execution_provider_library(PROVIDER, package.get_library_path())


def _find_device(onnxruntime: Any, is_npu: bool) -> Any:
    """Return the device of the execution provider: the NPU, or the CPU that emulates one."""
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
    wanted = onnxruntime.OrtHardwareDeviceType.NPU
    for device in devices:
        if not is_npu or device.device.type == wanted:
            return device
    raise RequestError(
        "onnxruntime-qnn finds no Qualcomm NPU on this machine",
        "run the file on a device with a Snapdragon, or check it here with --runtime qnn-emulator",
    )
