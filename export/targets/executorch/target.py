"""The target "executorch": one .pte file for CPUs, which runs in the XNNPACK delegate.

A delegate is a library that runs a network, or a part of it, for ExecuTorch. ExecuTorch's other
delegates need other tools or devices. Requests for them are refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.export.targets import Feature, Target, TargetOption, check_supported
from tinyvit.export.targets.executorch.passes import rewrite_for_xnnpack
from tinyvit.export.targets.executorch.writer import ExecuTorchProgram
from tinyvit.export.tracing import explain_tool_errors
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.preprocess import Preprocess
from tinyvit.processes.output_capture import silence_libraries
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes.formats import trailer

if TYPE_CHECKING:
    from executorch.exir import ExecutorchProgramManager
    from torch.export import ExportedProgram

    from tinyvit.export.tracing import Graph

_USE_COREML = "it runs on a Mac only: use --target coreml, whose files need no ExecuTorch"
_UNAVAILABLE_DELEGATES = {
    "coreml": _USE_COREML,
    "mps": _USE_COREML,
    "vulkan": "the runtime package has no Vulkan, so artifacts could not be checked",
    "qnn": "it needs Qualcomm's SDK (QNN), and one of Qualcomm's chips to run",
    "mediatek": "it needs MediaTek's SDK (NeuroPilot), and one of MediaTek's chips to run",
    "samsung": "it needs Samsung's SDK (Exynos AI), and one of Samsung's chips to run",
    "ethos-u": "it needs Arm's compiler (Vela), and an Ethos-U to run",
}
"""Delegate -> the reason why it is not available."""

_NOISY_LIBRARIES = ("torch", "torchao", "executorch", "root")
"""Names of the loggers that are silenced during an export; "root" is Python's root logger."""


class ExecuTorchTarget(Target):
    """The ExecuTorch target, which makes .pte files for the XNNPACK delegate."""

    name = "executorch"
    aliases = ("et",)
    suffix = ".pte"
    extra = "executorch"
    tools = ("torch", "executorch")
    # XNNPACK's int8 layers return only int8, so their outputs are quantized too.
    scheme = QuantScheme(activations="int8", quantized_outputs="all", attention=False)
    unsupported: Mapping[Feature, str] = {
        "float16": "XNNPACK's delegate has no GELU in float16, so the network would be split into "
        "many parts",
        "int8-weights": "XNNPACK's delegate takes 8-bit weights only with 8-bit activations",
        "full": "XNNPACK has no antialiased resize, which the preprocessing needs",
    }
    # XNNPACK's delegate does not support a reshape to a dynamic size.
    batch_sizes = "fixed"
    options = (
        TargetOption(
            "delegate",
            "Delegate that runs the network on the device (default: xnnpack, for CPUs).",
            choices=("xnnpack", *_UNAVAILABLE_DELEGATES),
        ),
    )

    def with_options(self, values: Mapping[str, str]) -> ExecuTorchTarget:
        """Check that the requested delegate is available; see `Target.with_options`."""
        delegate = values.get("delegate", "")
        reason = _UNAVAILABLE_DELEGATES.get(delegate)
        if reason is not None:
            raise RequestError(
                f"--delegate {delegate} is not available: {reason}",
                "leave out --delegate to use xnnpack",
            )
        return self

    def lower(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> ExecuTorchProgram:
        """Rewrite the traced network for XNNPACK and lower it; see `Target.lower`."""
        check_supported(self, precision, embedded_preprocessing, graph.batch)
        try:
            with silence_libraries(*_NOISY_LIBRARIES):
                import executorch.exir  # noqa: F401 (checks that ExecuTorch is installed)
        except ImportError as error:
            raise MissingDependencyError.for_package("executorch", extra=self.extra) from error
        with (
            explain_tool_errors("lowering the network for ExecuTorch"),
            silence_libraries(*_NOISY_LIBRARIES),
        ):
            program = rewrite_for_xnnpack(
                graph.program, preprocess if embedded_preprocessing == "normalize" else None
            )
            manager = _lower_to_xnnpack(program)
            return ExecuTorchProgram(bytes(manager.buffer), _count_operators(manager))


def _lower_to_xnnpack(program: ExportedProgram) -> ExecutorchProgramManager:
    """Lower a program to ExecuTorch with the XNNPACK delegate."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    # The validity checks between ExecuTorch's passes take a quarter of the time. They are left out
    # because the export compares the logits of the finished file.
    config = EdgeCompileConfig(_check_ir_validity=False)
    return to_edge_transform_and_lower(
        program,
        partitioner=[XnnpackPartitioner()],
        compile_config=config,
        # An additional method, which returns 1 and marks the file; see `trailer.MARKER`.
        constant_methods={trailer.MARKER: 1},
    ).to_executorch()


def _count_operators(manager: ExecutorchProgramManager) -> dict[str, int]:
    """Count the operators that run outside delegates, by name.

    A call of a delegate is one of these operators.
    """
    counts: dict[str, int] = {}
    for node in manager.exported_program().graph.nodes:
        name = getattr(node.target, "name", None)
        if node.op == "call_function" and callable(name):
            counts[name()] = counts.get(name(), 0) + 1
    return counts


TARGET = ExecuTorchTarget()
