"""ExecuTorch: one .pte file for phones and other devices' CPUs, through the XNNPACK delegate. The manifest stands behind the program.

Other delegates need what is not here, and are refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.export.targets import BaseTarget, LoweredModel, TargetOption
from tinyvit.export.targets.executorch import passes as tune_executorch
from tinyvit.export.tracing import in_one_line
from tinyvit.manifest import Manifest, Precision, PreprocessStage
from tinyvit.output_capture import silence_libraries
from tinyvit.preprocess import Preprocess
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes.formats import trailer

if TYPE_CHECKING:
    from executorch.exir import ExecutorchProgramManager
    from torch.export import ExportedProgram

    from tinyvit.export.tracing import Graph


_DELEGATE_CALL = "executorch_call_delegate"
_REFUSED = {
    "coreml": "a Mac has to run it: use --target coreml, whose .mlpackage Core ML opens without ExecuTorch",
    "mps": "a Mac has to run it: use --target coreml",
    "vulkan": "the package that runs files here has no Vulkan, so nothing made for it could be checked",
    "qnn": "Qualcomm's own kit (QNN) has to make it and one of its chips to run it",
    "mediatek": "MediaTek's own kit (NeuroPilot) has to make it and one of its chips to run it",
    "samsung": "Samsung's own kit (Exynos AI) has to make it and one of its chips to run it",
    "ethos-u": "Arm's own compiler (Vela) has to make it and an Ethos-U to run it",
}
"""Delegates that cannot be made here, and why."""


@dataclass(frozen=True)
class ExecuTorchProgram(LoweredModel):
    """A program ready to be written. outside: the operators that XNNPACK does not take, by name, with how often each occurs."""

    data: bytes
    outside: dict[str, int]

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write the .pte."""
        path.write_bytes(trailer.append(self.data, trailer.metadata_files(manifest)))
        return [path]

    def notes(self, precision: Precision) -> tuple[str, ...]:
        """See `LoweredModel`."""
        operators = sorted(
            (name, count) for name, count in self.outside.items() if name != _DELEGATE_CALL
        )
        rest = ", ".join(f"{count} x {name}" for name, count in operators)
        return (f"outside XNNPACK's delegate: {rest}",) if rest else ()


class ExecuTorchTarget(BaseTarget):
    """See `Target`."""

    name = "executorch"
    aliases: tuple[str, ...] = ("et",)
    suffix = ".pte"
    extra = "executorch"
    tools = ("torch", "executorch")
    placement = QuantScheme("int8", outputs="layers", attention=False)
    refused: ClassVar[dict[Precision | PreprocessStage, str]] = {
        "float16": "XNNPACK's delegate has no GELU of 16 bits, and the network would fall to pieces around each",
        "int8-weights": "XNNPACK's delegate takes 8-bit weights beside 8-bit activations only",
        "full": "XNNPACK has no antialiased filter, which pictures need",
    }
    batches = "fixed"
    options = (
        TargetOption(
            "delegate",
            "what runs the network on the device; default xnnpack, for CPUs",
            ("xnnpack", *_REFUSED),
        ),
    )

    def configured(self, values: Mapping[str, Any]) -> ExecuTorchTarget:
        """See `Target`."""
        if (reason := _REFUSED.get(values.get("delegate", ""))) is not None:
            cause = f"ExecuTorch files for {values['delegate']} are not made here: {reason}"
            raise RequestError(cause, "leave --delegate out for XNNPACK's")
        return self

    def lower(
        self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage
    ) -> ExecuTorchProgram:
        """See `Target.lower`. The batch is fixed: XNNPACK's delegate takes no reshape of an open size."""
        self.refuse(stage, graph.batch)
        try:
            with silence_libraries("torch", "torchao", "executorch", "root"):
                import executorch.exir  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError.of("executorch", self.extra) from error
        with (
            in_one_line("lowering the network for ExecuTorch"),
            silence_libraries("torch", "torchao", "executorch", "root"),
        ):
            program = tune_executorch.tune(
                graph.program, preprocess if stage == "normalize" else None
            )
            made = _lowered(program)
            return ExecuTorchProgram(bytes(made.buffer), _outside(made))


def _lowered(program: ExportedProgram) -> ExecutorchProgramManager:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    # Its checks between the passes take a quarter of the time; the logits of the file itself are what is checked here.
    config = EdgeCompileConfig(_check_ir_validity=False)
    return to_edge_transform_and_lower(
        program, partitioner=[XnnpackPartitioner()], compile_config=config
    ).to_executorch()


def _outside(made: ExecutorchProgramManager) -> dict[str, int]:
    """The operators of the program that are no delegate's."""
    counts: dict[str, int] = {}
    for operator in (
        node.target for node in made.exported_program().graph.nodes if node.op == "call_function"
    ):
        name = getattr(operator, "name", None)
        if callable(name):
            counts[name()] = counts.get(name(), 0) + 1
    return counts


TARGET = ExecuTorchTarget()
