"""The format of ONNX files: a protobuf message (ModelProto) with the manifest in `metadata_props`.

Only the top-level fields of the message are read. Their field numbers come from onnx/onnx.proto3 in
https://github.com/onnx/onnx.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.files.regular_files import check_regular_file
from tinyvit.manifest import MANIFEST_KEY, MAX_BYTES
from tinyvit.runtimes.formats import MAX_FILE_BYTES
from tinyvit.runtimes.formats.file_errors import damaged_error, unreadable_error
from tinyvit.runtimes.formats.network_graph import NetworkGraph
from tinyvit.runtimes.formats.onnx_graph import read_graph
from tinyvit.runtimes.formats.protobuf import (
    BYTES,
    VARINT,
    FieldBudget,
    encode_bytes_field,
    iterate_fields,
    open_file_bytes,
    read_file,
)

# Field numbers of ModelProto, and of the entries of its metadata_props.
_IR_VERSION, _PRODUCER_NAME, _GRAPH, _METADATA_PROPS = 1, 2, 7, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2

PRODUCER_NAME = b"tinyvit-edge"
"""The producer that tinyvit-export states in its ONNX models."""

_HASH_BLOCK_BYTES = 2**20


class OnnxFormat:
    """The format of .onnx files; see `Format`."""

    name = "onnx"
    suffix = ".onnx"

    def recognizes(self, path: Path, head: bytes) -> bool:
        """Return whether a file has the fields of an ONNX model; the format has no magic number."""
        with open_file_bytes(path) as data:
            try:
                fields = {(field.number, field.wire_type) for field in iterate_fields(data)}
            except ValueError:
                if path.suffix.lower() != self.suffix:
                    return False
                raise
        return {(_IR_VERSION, VARINT), (_GRAPH, BYTES)} <= fields

    def read_manifests(self, path: Path) -> list[str]:
        """Read the values in `metadata_props` that have the key of the manifest."""
        manifests: list[str] = []
        budget, size_bytes = FieldBudget(), 0
        with open_file_bytes(path) as data:
            for field in iterate_fields(data):
                if (field.number, field.wire_type) != (_METADATA_PROPS, BYTES):
                    continue
                # The sum, because a text in memory can be four times as large as in the file.
                size_bytes += field.end - field.value_start
                if size_bytes > MAX_BYTES:
                    raise ArtifactError(
                        f"the metadata of {path} is larger than {MAX_BYTES >> 20} MiB",
                        "the file is damaged or hostile: export it again",
                    )
                try:
                    key, value = _read_entry(data[field.value_start : field.end], budget)
                    if key == MANIFEST_KEY.encode():
                        manifests.append(value.decode("utf-8"))
                except ValueError as error:
                    raise ArtifactError(
                        f"the metadata of {path} is damaged ({error})", "export the file again"
                    ) from error
        return manifests

    def list_companions(self, path: Path) -> tuple[Path, ...]:
        """Return the file of external weights, if there is one.

        torch.onnx.export may write weights to such a file. tinyvit-export stores them in the .onnx
        file.
        """
        external_weights = path.with_name(f"{path.name}.data")
        return (external_weights,) if external_weights.is_file() else ()

    def names_exporter(self, path: Path) -> bool:
        """Return whether the model states tinyvit-edge as its producer."""
        with open_file_bytes(path) as data:
            return any(
                field.number == _PRODUCER_NAME
                and data[field.value_start : field.end] == PRODUCER_NAME
                for field in iterate_fields(data)
            )

    def read_graph(self, path: Path) -> NetworkGraph:
        """Read the operators of the model."""
        try:
            graph = read_graph(memoryview(read_file(path)))
        except ValueError as error:
            raise damaged_error(path, error) from error
        for name in graph.external_files:
            _check_external_file(path, name)
        return graph

    def update_hash(self, path: Path, digest: hashlib._Hash) -> None:
        """Update a hash with all top-level fields except the manifest's entry, in file order."""
        budget = FieldBudget()
        with open_file_bytes(path) as data:
            for field in iterate_fields(data):
                is_metadata = (field.number, field.wire_type) == (_METADATA_PROPS, BYTES)
                if not is_metadata or not _is_manifest_field(data[field.start : field.end], budget):
                    for start in range(field.start, field.end, _HASH_BLOCK_BYTES):
                        digest.update(data[start : min(start + _HASH_BLOCK_BYTES, field.end)])


ONNX = OnnxFormat()


def _check_external_file(path: Path, name: str) -> None:
    """Raise ArtifactError if a file with weights is not a regular file next to the model."""
    if not name or name in (".", "..") or any(separator in name for separator in "/\\:\0"):
        raise ArtifactError(
            f"{path} states that its weights are in {name[:80]!r}, which is not a file next to it",
            "the file is hostile: do not use it",
        )
    weights = path.with_name(name)
    try:
        status = check_regular_file(weights)
    except OSError as error:
        raise unreadable_error(weights, error) from error
    if status.st_size > MAX_FILE_BYTES:
        raise ArtifactError(
            f"{weights}, which contains weights of {path.name}, is larger than 2 GiB",
            "give an exported file",
        )


def _is_manifest_field(field_bytes: bytes, budget: FieldBudget) -> bool:
    """Return whether a field of `metadata_props` consists of the manifest and nothing else.

    A manifest that is not written in the usual form could hide other bytes.
    """
    (field,) = iterate_fields(field_bytes)
    key, value = _read_entry(field_bytes[field.value_start :], budget)
    entry = encode_bytes_field(_ENTRY_KEY, MANIFEST_KEY.encode()) + encode_bytes_field(
        _ENTRY_VALUE, value
    )
    is_usual_form = field_bytes == encode_bytes_field(_METADATA_PROPS, entry)
    return key == MANIFEST_KEY.encode() and is_usual_form


def _read_entry(message: bytes, budget: FieldBudget) -> tuple[bytes | None, bytes]:
    """Read key and value of an entry (StringStringEntryProto); the key is None if it is missing."""
    values = {
        field.number: message[field.value_start : field.end]
        for field in iterate_fields(message, budget)
    }
    return values.get(_ENTRY_KEY), values.get(_ENTRY_VALUE, b"")
