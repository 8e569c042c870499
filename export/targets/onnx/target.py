"""ONNX: one .onnx file, for onnxruntime and everything else that reads it. The manifest is in the file's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.errors import MissingDependencyError
from tinyvit.export.passes import onnx_preprocess as preprocess_onnx
from tinyvit.export.targets import Feature, LoweredModel, Target
from tinyvit.manifest import MANIFEST_KEY, Manifest, Precision, PreprocessStage
from tinyvit.preprocess import Preprocess
from tinyvit.quant_scheme import QuantScheme

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from tinyvit.export.tracing import Graph


@dataclass(frozen=True)
class OnnxModel(LoweredModel):
    """A model ready to be written."""

    model: ir.Model

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write one .onnx file, its weights inside."""
        import onnx

        proto = self._proto()
        onnx.helper.set_model_props(proto, {MANIFEST_KEY: manifest.to_json()})
        path.write_bytes(proto.SerializeToString(deterministic=True))
        return [path]

    def _proto(self) -> onnx.ModelProto:
        import onnx_ir as ir

        return ir.serde.serialize_model(self.model)


class OnnxTarget(Target):
    """See `Target`."""

    name = "onnx"
    suffix = ".onnx"
    extra = "export"
    tools = ("torch", "onnx", "onnx-ir", "onnxscript")
    scheme = QuantScheme(
        "uint8", outputs="convolutions", attention=False
    )  # with it, onnxruntime is no faster
    unsupported: Mapping[Feature, str] = {
        "float16": "onnxruntime on a CPU takes longer for it than for float32"
    }

    def lower(
        self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage, precision: Precision
    ) -> OnnxModel:
        """See `Target.lower`."""
        try:
            import onnx
        except ImportError as error:
            raise MissingDependencyError.of("onnx", self.extra) from error
        model = graph.onnx()
        preprocess_onnx.add(model, preprocess, stage)
        lowered = OnnxModel(model)
        onnx.checker.check_model(lowered._proto(), full_check=True)
        return lowered


TARGET = OnnxTarget()
