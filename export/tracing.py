"""The float network, traced: a folded TinyViT -> an ExportedProgram and, from it, a tuned ONNX model.

Every target is lowered from here, so that all of them are the same network.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError, TinyViTError
from tinyvit.export.passes.onnx_graph import optimize_graph
from tinyvit.output_capture import quiet_loggers

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch.export import ExportedProgram

    from tinyvit.nn.model import TinyViT

DEFAULT_OPSET = 20
IR_VERSIONS = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}
"""ONNX opset -> the oldest file version that carries it. Opset 20 has Gelu as one operator; by their documentation onnxruntime
1.17, OpenVINO 2024, TensorRT 10 and their successors read it. 18 is the first with antialiased Resize, for `--preprocess full`."""

INPUT, OUTPUT, BATCH = "image", "logits", "batch"


@dataclass(frozen=True)
class Graph:
    """A traced network: `image`, float32 (batch, 3, img_size, img_size), normalized -> `logits`, float32 (batch, num_classes).

    batch is the fixed number of images, or None where the axis is left open.
    """

    program: ExportedProgram
    img_size: int
    num_classes: int
    batch: int | None
    opset: int

    def again(self, model: TinyViT) -> Graph:
        """Another network traced as this one was: same batch and opset."""
        return trace(model, batch=self.batch, opset=self.opset)

    def onnx(self) -> ir.Model:
        """A tuned ONNX model of it, the caller's to change."""
        return self._onnx.clone()

    @cached_property
    def _onnx(self) -> ir.Model:
        import torch

        with in_one_line("writing the network as ONNX"):
            program = torch.onnx.export(
                self.program,
                dynamo=True,
                opset_version=self.opset,
                optimize=False,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
            )
        assert program is not None
        model = program.model
        model.ir_version = IR_VERSIONS[self.opset]
        optimize_graph(model)
        return model


def check_opset(opset: int) -> None:
    """Raise RequestError for an opset that cannot be written."""
    if opset not in IR_VERSIONS:
        raise RequestError(
            f"ONNX opset {opset} cannot be written",
            f"use --opset {min(IR_VERSIONS)} to {max(IR_VERSIONS)}, {DEFAULT_OPSET} by default",
        )


def trace(model: TinyViT, *, batch: int | None = 1, opset: int = DEFAULT_OPSET) -> Graph:
    """Trace a folded model; opset as `check_opset` lets through. Raises ArtifactError where torch cannot."""
    try:
        import onnxscript  # noqa: F401
        import torch
    except ImportError as error:
        raise MissingDependencyError.of(error.name or "torch", "export") from error
    example = torch.zeros(batch or 2, 3, model.img_size, model.img_size)
    shapes = None if batch else ({0: torch.export.Dim(BATCH)},)
    with torch.no_grad(), in_one_line("tracing the network"):
        program = torch.export.export(model, (example,), dynamic_shapes=shapes)
    return Graph(program, model.img_size, model.num_classes, batch, opset)


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Around work that others' tools do: their chatter is about their own insides, and an exception is an ArtifactError.

    What matters is checked on the result. A full disk (OSError) and this package's own errors pass.
    """
    try:
        with quiet_loggers("torch.onnx", "onnxscript", "onnx_ir"), _uncollected():
            yield
    except (TinyViTError, OSError):
        raise
    except Exception as error:  # torch's, onnx's and OpenVINO's have no base of their own
        said = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), "no message"
        )
        cause = f"{what} failed ({type(error).__name__}: {said[:200]})"
        raise ArtifactError(
            cause,
            "install the versions that constraints.txt names, or report this with what -v prints",
        ) from error


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without looks for garbage: tracing and lowering keep nearly all of the millions of objects they make, and going through them again
    and again took a quarter of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
