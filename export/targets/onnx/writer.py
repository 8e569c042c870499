"""Writes an ONNX model, with its manifest in the file's metadata."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.export.targets.base import LoweredModel
from tinyvit.manifest import MANIFEST_KEY, Manifest

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class OnnxModel(LoweredModel):
    """An ONNX model that is ready to be written.

    Attributes:
        model: The network with its preprocessing.
    """

    model: ir.Model

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write one .onnx file with the weights inside; see `LoweredModel.save`."""
        import onnx
        import onnx_ir as ir

        proto = ir.serde.serialize_model(self.model)
        onnx.helper.set_model_props(proto, {MANIFEST_KEY: manifest.to_json()})
        path.write_bytes(proto.SerializeToString(deterministic=True))
        return [path]
