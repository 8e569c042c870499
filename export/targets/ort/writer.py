"""Writes an .ort file that ends with its manifest, and a list of required operators beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinyvit.export.targets.base import LoweredModel
from tinyvit.manifest import Manifest
from tinyvit.runtimes.formats import trailer


@dataclass(frozen=True)
class OrtModel(LoweredModel):
    """An ORT model that is ready to be written.

    Attributes:
        data: The model in ORT format.
        required_operators: The operators and types that a reduced build of onnxruntime needs, in
            the format of its build option `--include_ops_by_config`.
    """

    data: bytes
    required_operators: str

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write the .ort file, and a .ort.config beside it; see `LoweredModel.save`."""
        config_path = path.with_name(f"{path.name}.config")
        config_path.write_bytes(self.required_operators.encode("utf-8"))
        path.write_bytes(trailer.add_archive(self.data, trailer.archive_members(manifest)))
        return [config_path, path]
