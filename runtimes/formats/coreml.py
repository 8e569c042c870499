"""Core ML packages (.mlpackage): a folder with an index, a model (protobuf message) and weights.

The manifest is an entry of the model's user-defined metadata. By coremltools'
mlmodel/format/Model.proto, these are in Model.description (field 2), ModelDescription.metadata
(field 100), Metadata.userDefined (field 100), a map of strings. Reading it requires neither
coremltools nor the protobuf package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tinyvit.errors import ArtifactError
from tinyvit.files import update_hash
from tinyvit.manifest import MANIFEST_KEY, MAX_BYTES
from tinyvit.runtimes.formats.protobuf import BYTES, Buffer, iterate_fields, map_file
from tinyvit.serialization import read_json

if TYPE_CHECKING:
    import hashlib

INDEX = "Manifest.json"
"""Name of a package's index. Apple calls it manifest; it is not the manifest of tinyvit-export."""

_DESCRIPTION, _METADATA, _USER_DEFINED = 2, 100, 100
_FIELDS_TO_ENTRIES = (_DESCRIPTION, _METADATA, _USER_DEFINED)
"""Field numbers that lead from the model to the entries of its user-defined metadata."""

_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_MAX_INDEX_BYTES, _MAX_FILES = 2**20, 1000


class CoreMlFormat:
    """The format of Core ML packages (.mlpackage folders); see `Format`."""

    name = "coreml"
    suffix = ".mlpackage"

    def recognizes(self, path: Path, head: bytes) -> bool:
        """Return whether a folder has the index of a package."""
        return path.is_dir() and (path / INDEX).is_file()

    def read_manifests(self, path: Path) -> list[str]:
        """Read all manifests in the model's user-defined metadata."""
        with map_file(model_file(path)) as data:
            try:
                entries = [_read_entry(entry) for entry in _messages_at(data, _FIELDS_TO_ENTRIES)]
                return [
                    value.decode("utf-8") for key, value in entries if key == MANIFEST_KEY.encode()
                ]
            except ValueError as error:
                raise _damaged_error(path, error) from error

    def list_companions(self, path: Path) -> tuple[Path, ...]:
        """Return (): everything is in the folder."""
        return ()

    def update_hash(self, path: Path, digest: hashlib._Hash) -> None:
        """Update a hash with every file's path and content, sorted by path.

        The content of the model is all its fields except the manifest, in file order. Hidden files
        are not hashed, because macOS adds some (.DS_Store).
        """
        model = model_file(path)
        for file in _list_files(path):
            digest.update(json.dumps(file.relative_to(path).as_posix()).encode("ascii"))
            if file == model:
                with map_file(file) as data:
                    try:
                        _update_hash_of_message(data, _FIELDS_TO_ENTRIES, digest)
                    except ValueError as error:
                        raise _damaged_error(path, error) from error
            else:
                digest.update(file.stat().st_size.to_bytes(8, "little"))
                update_hash(file, digest)


COREML = CoreMlFormat()


def model_file(path: Path) -> Path:
    """Find the model file of a package by its index.

    Args:
        path: Path of the package.

    Returns:
        Path of the model file, which is in the package's folder "Data".

    Raises:
        ArtifactError: If the index is damaged or larger than 1 MiB, or if the model file does not
            exist or is outside of the package.
    """
    try:
        content = _read_index(path / INDEX)
        model = PurePosixPath(content["itemInfoEntries"][content["rootModelIdentifier"]]["path"])
        if model.is_absolute() or ".." in model.parts:
            raise ValueError(f"{INDEX} names a file outside of the package")
        file = path / "Data" / model
        if not file.is_file() or path.resolve() not in file.resolve().parents:
            raise ValueError(f"the file {model} is missing")
        return file
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = error if isinstance(error, ValueError) else f"{INDEX} cannot be read"
        raise ArtifactError(
            f"{path} is not a complete Core ML package ({reason})",
            "copy the whole folder, or export it again",
        ) from error


def _read_index(path: Path) -> Any:
    """Read a package's index; raise OSError or ValueError if it is damaged."""
    try:
        return read_json(path, _MAX_INDEX_BYTES)
    except ValueError as error:
        raise ValueError(f"{INDEX} is damaged: {error}") from error


def _list_files(path: Path) -> list[Path]:
    """List the files of a package, sorted, without hidden ones.

    Raises ArtifactError if the package has links, or more than 1000 files.
    """
    files: list[Path] = []
    for folder, folder_names, file_names in os.walk(path):
        folder_names[:] = [name for name in folder_names if not name.startswith(".")]
        folder_files = [Path(folder) / name for name in file_names if not name.startswith(".")]
        has_links = any(file.is_symlink() or not file.is_file() for file in folder_files) or any(
            (Path(folder) / name).is_symlink() for name in folder_names
        )
        if has_links:
            raise ArtifactError(
                f"{path} contains links", "a Core ML package has none: export it again"
            )
        files += folder_files
        if len(files) > _MAX_FILES:
            raise ArtifactError(
                f"{path} contains more than {_MAX_FILES} files",
                "a Core ML package has three: export it again",
            )
    return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def _messages_at(message: Buffer, field_numbers: tuple[int, ...]) -> Iterator[bytes]:
    """Yield the nested messages to which the field numbers lead, starting with the outermost."""
    for field in iterate_fields(message):
        if (field.number, field.wire_type) == (field_numbers[0], BYTES):
            if field.end - field.value_start > MAX_BYTES:
                raise ValueError(f"its metadata are larger than {MAX_BYTES >> 20} MiB")
            nested = message[field.value_start : field.end]
            if len(field_numbers) > 1:
                yield from _messages_at(nested, field_numbers[1:])
            else:
                yield nested


def _update_hash_of_message(
    message: Buffer, field_numbers: tuple[int, ...], digest: hashlib._Hash
) -> None:
    """Update a hash with all fields except the manifest.

    `field_numbers` lead to the entries of the metadata, one of which is the manifest. The lengths
    of the messages that contain the manifest are not hashed, because they depend on its length.
    """
    with memoryview(message) as view:
        for field in iterate_fields(message):
            if not field_numbers or (field.number, field.wire_type) != (field_numbers[0], BYTES):
                digest.update(view[field.start : field.end])
                continue
            nested = message[field.value_start : field.end]
            if len(field_numbers) > 1:
                digest.update(b"{")
                _update_hash_of_message(nested, field_numbers[1:], digest)
                digest.update(b"}")
            elif _read_entry(nested)[0] != MANIFEST_KEY.encode():
                digest.update(view[field.start : field.end])


def _read_entry(message: bytes) -> tuple[bytes, bytes]:
    """Read key and value of a map entry; if a field is repeated, the last one is used."""
    values = {
        field.number: message[field.value_start : field.end]
        for field in iterate_fields(message)
        if field.wire_type == BYTES
    }
    return values.get(_ENTRY_KEY, b""), values.get(_ENTRY_VALUE, b"")


def _damaged_error(path: Path, error: ValueError) -> ArtifactError:
    return ArtifactError(f"{path} is damaged or incomplete ({error})", "export it again")
