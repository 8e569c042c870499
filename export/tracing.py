"""Traces a folded TinyViT (BatchNorms merged into the layers before them) with `torch.export`.

Every target lowers (converts) the same traced network, so all artifacts compute the same function.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError, TinyViTError
from tinyvit.export.passes.onnx_graph import optimize_graph
from tinyvit.image_sizes import ImageSize, height_and_width
from tinyvit.manifest_parts import OutputSpec
from tinyvit.processes.output_capture import quiet_loggers

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import Tensor, nn
    from torch.export import ExportedProgram

DEFAULT_OPSET = 20
IR_VERSIONS = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}
"""ONNX opset -> the oldest IR version (version of the file format) that supports it.

Opset 18 is the first with an antialiased Resize, which `--preprocess full` needs. Opset 20 has Gelu
as one operator; according to their documentation, onnxruntime 1.17, OpenVINO 2024 and TensorRT 10
support it.
"""

INPUT = "image"
"""Name of the network's input in every artifact."""
BATCH = "batch"
"""Name of the batch axis if it is dynamic."""


class ExportableNetwork(Protocol):
    """A PyTorch module that can be exported.

    Its forward method takes normalized images, float32 (batch, 3, height, width), and returns one
    tensor, or a tuple of several.
    """

    @property
    def img_size(self) -> ImageSize:
        """Size of the input in pixels."""
        ...

    def describe_outputs(self) -> tuple[OutputSpec, ...]:
        """Describe each tensor that the module returns; the batch has the name `BATCH`."""
        ...

    def __call__(self, image: Tensor) -> Any:
        """Compute the outputs of the network from a batch of normalized images."""
        ...


_MAX_MESSAGE_CHARACTERS = 200
"""Largest number of characters of a tool's error message that are shown."""


@dataclass(frozen=True)
class Graph:
    """A traced network.

    Its input `image` is float32 (batch, 3, height, width), normalized.

    Attributes:
        program: The network as `torch.export` traced it.
        img_size: Size of the input, in pixels.
        outputs: What the network returns. The batch is the name `BATCH` or a number.
        batch: Images per call; None if the batch axis is dynamic.
        opset: ONNX opset of the model that `to_onnx` returns.
    """

    program: ExportedProgram
    img_size: ImageSize
    outputs: tuple[OutputSpec, ...]
    batch: int | None
    opset: int

    @property
    def output_names(self) -> list[str]:
        """Return the names of the outputs."""
        return [spec.name for spec in self.outputs]

    def retrace(self, model: ExportableNetwork) -> Graph:
        """Trace another network with the same batch and opset.

        Args:
            model: A folded network of the same image size and outputs.

        Returns:
            The traced network.

        Raises:
            ArtifactError: torch cannot trace the network.
        """
        return trace(model, batch=self.batch, opset=self.opset)

    def to_onnx(self) -> ir.Model:
        """Convert the network to ONNX.

        Returns:
            An optimized ONNX model. Each call returns a new copy, which the caller may change.

        Raises:
            ArtifactError: torch cannot express the network in ONNX.
        """
        return self._onnx_model.clone()

    @cached_property
    def _onnx_model(self) -> ir.Model:
        """Return the optimized ONNX model, converted at the first use."""
        import torch

        with explain_tool_errors("writing the network as ONNX"):
            program = torch.onnx.export(
                self.program,
                dynamo=True,
                opset_version=self.opset,
                optimize=False,
                verbose=False,
                input_names=[INPUT],
                output_names=self.output_names,
            )
        assert program is not None
        model = program.model
        model.ir_version = IR_VERSIONS[self.opset]
        optimize_graph(model)
        return model


def check_opset(opset: int) -> None:
    """Check that a network can be written in an ONNX opset.

    Args:
        opset: The opset.

    Raises:
        RequestError: The opset cannot be written; the remedy names those that can.
    """
    if opset not in IR_VERSIONS:
        raise RequestError(
            f"ONNX opset {opset} cannot be written",
            f"use --opset {min(IR_VERSIONS)} to {max(IR_VERSIONS)}, {DEFAULT_OPSET} by default",
        )


def trace(model: ExportableNetwork, *, batch: int | None = 1, opset: int = DEFAULT_OPSET) -> Graph:
    """Trace a folded network.

    Args:
        model: The network, with its BatchNorms folded.
        batch: Images per call; None for a dynamic batch.
        opset: An ONNX opset that `check_opset` accepts.

    Returns:
        The traced network.

    Raises:
        MissingDependencyError: torch or onnxscript is not installed.
        ArtifactError: torch cannot trace the network.
    """
    try:
        import onnxscript  # noqa: F401 (needed later, and checked before the slow tracing)
        import torch
    except ImportError as error:
        raise MissingDependencyError.for_package(error.name or "torch", extra="export") from error
    # A dynamic batch is traced with two images: torch would treat a size of 0 or 1 as fixed.
    example_batch = 2 if batch is None else batch
    example = torch.zeros(example_batch, 3, *height_and_width(model.img_size))
    dynamic_shapes = ({0: torch.export.Dim(BATCH)},) if batch is None else None
    with torch.no_grad(), explain_tool_errors("tracing the network"):
        program = torch.export.export(
            cast("nn.Module", model), (example,), dynamic_shapes=dynamic_shapes
        )
    outputs = tuple(
        replace(spec, shape=(batch or BATCH, *spec.shape[1:])) for spec in model.describe_outputs()
    )
    return Graph(program, model.img_size, outputs, batch, opset)


@contextmanager
def explain_tool_errors(task: str) -> Iterator[None]:
    """Hide the log messages of the tools that a task calls, and explain their exceptions.

    The messages are about the tools' internals; the export checks the result instead. An exception
    of a tool becomes an ArtifactError with the first line of its message. OSError (such as a full
    disk) and this package's own errors pass unchanged.

    Args:
        task: Description of the task, as the subject of a sentence: "tracing the network".

    Yields:
        Nothing.

    Raises:
        ArtifactError: A tool raised an exception.
    """
    try:
        with quiet_loggers("torch.onnx", "onnxscript", "onnx_ir"), _garbage_collection_disabled():
            yield
    except (TinyViTError, OSError):
        raise
    except Exception as error:  # the exceptions of torch, onnx and OpenVINO share no base class
        lines = (line.strip() for line in str(error).splitlines() if line.strip())
        message = next(lines, "no message")[:_MAX_MESSAGE_CHARACTERS]
        raise ArtifactError(
            f"{task} failed ({type(error).__name__}: {message})",
            "install the versions listed in constraints.txt, or report this with the output of -v",
        ) from error


@contextmanager
def _garbage_collection_disabled() -> Iterator[None]:
    """Disable Python's garbage collection inside the context.

    Tracing and lowering create millions of objects and keep nearly all of them. Searching these
    objects for garbage took a quarter of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
