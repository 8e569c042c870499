"""Writes a .tflite file: the model with TensorFlow Lite's metadata, followed by a ZIP archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvit.export.targets.base import LoweredModel
from tinyvit.export.targets.litert.flatbuffer import serialize_model, set_metadata
from tinyvit.export.targets.litert.metadata import METADATA_NAME, make_metadata
from tinyvit.manifest import Manifest
from tinyvit.runtimes.formats import trailer


@dataclass(frozen=True)
class LiteRtModel(LoweredModel):
    """A LiteRT model that is ready to be written.

    Attributes:
        model: The model as Python objects of TensorFlow Lite's FlatBuffers schema; see
            `flatbuffer`.
    """

    model: Any

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write one .tflite file; see `LoweredModel.save`.

        The archive after the model contains the manifest and labels.txt.
        """
        set_metadata(self.model, METADATA_NAME, make_metadata(manifest))
        data = serialize_model(self.model)
        archive_members = trailer.archive_members(manifest)
        path.write_bytes(trailer.add_archive(data, archive_members))
        return [path]
