"""The target "onnx": one .onnx file, for onnxruntime and every other reader of the format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tinyvit.errors import MissingDependencyError
from tinyvit.export.passes.onnx_preprocess import add_preprocessing
from tinyvit.export.targets import Feature, Target, check_supported
from tinyvit.export.targets.onnx.writer import OnnxModel
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.preprocess import Preprocess
from tinyvit.quant_scheme import QuantScheme

if TYPE_CHECKING:
    from tinyvit.export.tracing import Graph


class OnnxTarget(Target):
    """The ONNX target, which makes .onnx files."""

    name = "onnx"
    suffix = ".onnx"
    extra = "export"
    tools = ("torch", "onnx", "onnx-ir", "onnxscript")
    # onnxruntime's kernels for int8 activations take ten times as long as those for uint8, and it
    # runs a convolution in integers only if the output is quantized too. Attention's matrix
    # products stay float32, because int8 does not make them faster.
    scheme = QuantScheme(activations="uint8", quantized_outputs="convolutions", attention=False)
    unsupported: Mapping[Feature, str] = {
        "float16": "onnxruntime on a CPU is slower in float16 than in float32"
    }

    def lower(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> OnnxModel:
        """Convert the graph to ONNX and add the preprocessing; see `Target.lower`."""
        check_supported(self, precision, embedded_preprocessing, graph.batch)
        try:
            import onnx
        except ImportError as error:
            raise MissingDependencyError.for_package("onnx", extra=self.extra) from error
        import onnx_ir as ir

        model = graph.to_onnx()
        add_preprocessing(model, preprocess, embedded_preprocessing)
        onnx.checker.check_model(ir.serde.serialize_model(model), full_check=True)
        return OnnxModel(model)


TARGET = OnnxTarget()
