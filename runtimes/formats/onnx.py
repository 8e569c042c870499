"""ONNX: a protobuf message, walked at its top level only. The manifest is in metadata_props."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.manifest import MANIFEST_KEY, MAX_BYTES
from tinyvit.runtimes.formats.protobuf import BYTES, VARINT, fields, mapped

_IR_VERSION, _GRAPH, _METADATA = 1, 7, 14  # fields of onnx's ModelProto


class Onnx:
    """See `Format`."""

    name = "onnx"
    suffix = ".onnx"

    def recognizes(self, path: Path, head: bytes) -> bool:
        """See `Format`. There is no magic number: it has the fields of a model, and nothing that is no field."""
        try:
            with mapped(path) as data:
                kinds = {(field.number, field.wire) for field in fields(data)}
        except ValueError as error:
            if path.suffix.lower() != self.suffix:
                return False
            raise ArtifactError(
                f"{path} is damaged or incomplete ({error})", "export it again"
            ) from error
        return {(_IR_VERSION, VARINT), (_GRAPH, BYTES)} <= kinds

    def manifests(self, path: Path) -> list[str]:
        """See `Format`: the values of metadata_props whose key is ours."""
        texts = []
        with mapped(path) as data:
            for field in fields(data):
                if (field.number, field.wire) != (_METADATA, BYTES):
                    continue
                if field.end - field.payload > MAX_BYTES:
                    raise ArtifactError(
                        f"the metadata of {path} are larger than {MAX_BYTES >> 20} MiB",
                        "the file is damaged or hostile: export it again",
                    )
                entry = data[field.payload : field.end]
                try:
                    parts = {part.number: entry[part.payload : part.end] for part in fields(entry)}
                    if parts.get(1) == MANIFEST_KEY.encode():
                        texts.append(parts.get(2, b"").decode("utf-8"))
                except ValueError as error:
                    raise ArtifactError(
                        f"the metadata of {path} are damaged ({error})", "export the file again"
                    ) from error
        return texts

    def companions(self, path: Path) -> tuple[Path, ...]:
        """See `Format`: weights kept outside the file, by the name that torch.onnx.export gives them; ours are inside."""
        outside = path.with_name(f"{path.name}.data")
        return (outside,) if outside.is_file() else ()

    def digest(self, path: Path, into: hashlib._Hash) -> None:
        """See `Format`: the top-level fields but metadata_props, in the file's order."""
        with mapped(path) as data, memoryview(data) as view:
            for field in fields(data):
                if field.number != _METADATA:
                    into.update(view[field.start : field.end])


ONNX = Onnx()
