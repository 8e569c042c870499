"""The target "ort": one file in ORT format (onnxruntime's own), for builds that cannot read ONNX.

The network is optimized at export, for any processor. A .ort.config file beside it lists the
operators that a reduced build of onnxruntime needs. On a server or a PC, prefer the .onnx file:
onnxruntime optimizes it for the processor of that machine when it opens it.
docs/lab-notes/engines.md ("ORT") has measurements.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.errors import MissingDependencyError
from tinyvit.export.passes.expand_attention_bias import expand_attention_bias
from tinyvit.export.targets import Target, check_supported
from tinyvit.export.targets.onnx.target import TARGET as ONNX
from tinyvit.export.targets.ort.writer import OrtModel
from tinyvit.export.tracing import explain_tool_errors
from tinyvit.files.staging import temporary_folder
from tinyvit.install_command import format_packages_command
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.preprocess import Preprocess
from tinyvit.processes.output_capture import silence_libraries

if TYPE_CHECKING:
    from tinyvit.export.tracing import Graph

_FATAL_ERRORS_ONLY = 4
"""onnxruntime's log severity that hides everything but fatal errors."""


class OrtTarget(Target):
    """The ORT target, which makes .ort files.

    Two exports of a network compute the same but differ in bytes: onnxruntime writes its table of
    kernels into the file in an order that changes from run to run.
    """

    name = "ort"
    suffix = ".ort"
    extra = "export"
    tools = (*ONNX.tools, "onnxruntime")
    scheme = ONNX.scheme
    unsupported = ONNX.unsupported

    def lower(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> OrtModel:
        """Optimize the ONNX model with onnxruntime and convert it; see `Target.lower`."""
        check_supported(self, precision, embedded_preprocessing, graph.batch)
        model = ONNX.lower(graph, preprocess, embedded_preprocessing, precision).model
        expand_attention_bias(model)
        import onnx_ir as ir

        data = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
        with (
            explain_tool_errors("making the ORT model"),
            silence_libraries("ort_format_model"),
            temporary_folder() as folder,
        ):
            path = folder / "network.ort"
            _convert_to_ort(data, path)
            return OrtModel(path.read_bytes(), _list_required_operators(path))


def _convert_to_ort(model: bytes, path: Path) -> None:
    """Write an ONNX model to `path` in ORT format, optimized for any processor."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "onnxruntime is not installed", format_packages_command("onnxruntime")
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ERRORS_ONLY
    options.optimized_model_filepath = str(path)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.save_model_format", "ORT")
    # All constants that should be folded are folded already. ConstantFolding would also compute the
    # Casts of a quantized model's attention biases, and store the biases in float32 instead of
    # float16.
    onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
    )


def _list_required_operators(path: Path) -> str:
    """List the operators of an .ort file; comments, which contain local paths, are removed."""
    from onnxruntime.tools.ort_format_model import create_config_from_models

    config_path = path.with_suffix(".config")
    create_config_from_models([path], config_path, enable_type_reduction=True)
    lines = config_path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


TARGET = OrtTarget()
