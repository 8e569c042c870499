"""ORT: onnxruntime's mobile format, one .ort file that builds of it without ONNX's own reader open, and the list of what it needs.

Optimised once, here, for any processor; a reduced build (onnxruntime's --include_ops_by_config) is made from the .ort.config beside it.
The manifest stands behind the file. On a server or a PC the .onnx is the better file: it is optimized there for that processor.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.errors import MissingDependencyError
from tinyvit.export.passes import expand_attention_bias as spread
from tinyvit.export.targets import BaseTarget, LoweredModel
from tinyvit.export.targets.onnx.target import TARGET as ONNX
from tinyvit.export.tracing import in_one_line
from tinyvit.manifest import Manifest, PreprocessStage
from tinyvit.output_capture import silence_libraries
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.formats import trailer

if TYPE_CHECKING:
    from tinyvit.export.tracing import Graph

_SILENT = 4


@dataclass(frozen=True)
class OrtModel(LoweredModel):
    """A model ready to be written. needs: the operators and types of a reduced build, as onnxruntime's tools write and read them."""

    data: bytes
    needs: str

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write the .ort, and its .ort.config beside it."""
        beside = path.with_name(f"{path.name}.config")
        beside.write_text(self.needs, encoding="utf-8")
        path.write_bytes(trailer.append(self.data, trailer.metadata_files(manifest)))
        return [beside, path]


class OrtTarget(BaseTarget):
    """See `Target`. onnxruntime's own table of kernels is in the file in an order that changes from run to run, and with it the bytes."""

    name = "ort"
    suffix = ".ort"
    extra = "export"
    tools = (*ONNX.tools, "onnxruntime")
    placement = ONNX.placement
    refused = ONNX.refused

    def lower(self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage) -> OrtModel:
        """See `Target.lower`."""
        model = ONNX.lower(graph, preprocess, stage).model
        spread.biases(model)
        import onnx_ir as ir

        with (
            in_one_line("making the ORT model"),
            silence_libraries("ort_format_model"),
            tempfile.TemporaryDirectory(prefix="tinyvit-") as folder,
        ):
            path = Path(folder, "network.ort")
            _optimize(ir.serde.serialize_model(model).SerializeToString(deterministic=True), path)
            return OrtModel(path.read_bytes(), _needs(path))


def _optimize(model: bytes, path: Path) -> None:
    """Write the model at `path`, optimized for any processor."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "onnxruntime is not installed", "pip install onnxruntime"
        ) from error
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _SILENT
    settings.optimized_model_filepath = str(path)
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.add_session_config_entry("session.save_model_format", "ORT")
    # What is constant was computed before, and folding what is left would write the attention biases in 32 bits.
    onnxruntime.InferenceSession(
        model, settings, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
    )


def _needs(path: Path) -> str:
    from onnxruntime.tools.ort_format_model import create_config_from_models

    beside = path.with_suffix(".config")
    create_config_from_models([path], beside, True)
    lines = beside.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(
        line for line in lines if not line.startswith("#")
    )  # paths of the machine that exported


TARGET = OrtTarget()
