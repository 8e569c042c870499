"""The format of Core ML packages: .mlpackage folders with an index, a model file and weights.

The model file is a protobuf message. The manifest is an entry of the message's user-defined
metadata, a map of strings that is nested as follows (coremltools' mlmodel/format/Model.proto):
Model.description (field 2), ModelDescription.metadata (field 100), Metadata.userDefined (field
100). Reading it requires neither coremltools nor the protobuf package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tinyvit.errors import ArtifactError
from tinyvit.files.file_io import update_hash
from tinyvit.manifest import MANIFEST_KEY, MAX_BYTES
from tinyvit.runtimes.formats import MAX_FILE_BYTES
from tinyvit.runtimes.formats.file_errors import damaged_error, unreadable_error
from tinyvit.runtimes.formats.mil_network import read_network
from tinyvit.runtimes.formats.network_graph import NetworkGraph
from tinyvit.runtimes.formats.protobuf import (
    BYTES,
    Buffer,
    FieldBudget,
    encode_bytes_field,
    iterate_fields,
    open_file_bytes,
)
from tinyvit.runtimes.formats.stated_operators import StatedNetwork
from tinyvit.serialization import read_json

if TYPE_CHECKING:
    import hashlib

INDEX = "Manifest.json"
"""Name of a package's index, which Apple calls manifest. It is not tinyvit-export's manifest."""

_DESCRIPTION, _METADATA, _USER_DEFINED = 2, 100, 100
_PATH_TO_ENTRIES = (_DESCRIPTION, _METADATA, _USER_DEFINED)
"""Field numbers that lead from the model to the entries of its user-defined metadata."""

_ENTRY_KEY, _ENTRY_VALUE = 1, 2  # Field numbers of an entry of the map.
_MAX_INDEX_BYTES, _MAX_FILES = 2**20, 1000


class CoreMlFormat:
    """The format of Core ML packages (.mlpackage folders); see `Format`."""

    name = "coreml"
    suffix = ".mlpackage"

    def recognizes(self, path: Path, head: bytes) -> bool:
        """Return whether a folder has the index of a package."""
        return path.is_dir() and (path / INDEX).is_file()

    def read_manifests(self, path: Path) -> list[str]:
        """Read all manifests in the model's user-defined metadata.

        The files of the package are listed first, so that a package with links or with too many
        files is refused before an engine opens it.
        """
        _list_files(path)
        with open_file_bytes(find_model_file(path)) as data:
            try:
                budget = FieldBudget()
                manifests, size_bytes = list[str](), 0
                for message in _find_messages(data, _PATH_TO_ENTRIES, budget):
                    key, value = _read_entry(message, budget)
                    size_bytes += len(message)
                    if size_bytes > MAX_BYTES:
                        raise ValueError(f"its metadata are larger than {MAX_BYTES >> 20} MiB")
                    if key == MANIFEST_KEY.encode():
                        manifests.append(value.decode("utf-8"))
                return manifests
            except ValueError as error:
                raise damaged_error(path, error) from error

    def list_companions(self, path: Path) -> tuple[Path, ...]:
        """Return (): everything is in the folder."""
        return ()

    def names_exporter(self, path: Path) -> bool:
        """Return False: without the manifest at its end, a model file cannot be read at all."""
        return False

    def read_graph(self, path: Path) -> NetworkGraph:
        """Return an empty graph: the engines check the operations and their cost themselves."""
        return NetworkGraph()

    def read_stated_network(self, path: Path) -> StatedNetwork:
        """Read the operations of a package; see `StatesOperators`."""
        with open_file_bytes(find_model_file(path)) as data:
            try:
                return read_network(data)
            except ValueError as error:
                raise damaged_error(path, error) from error

    def update_hash(self, path: Path, digest: hashlib._Hash) -> None:
        """Update a hash with the path and content of every file, sorted by path.

        The hashed content of the model file is all fields except the manifest, in file order.
        Hidden files are not hashed, because macOS adds some (.DS_Store).
        """
        model = find_model_file(path)
        for file in _list_files(path):
            digest.update(json.dumps(file.relative_to(path).as_posix()).encode("ascii"))
            if file == model:
                with open_file_bytes(file) as data:
                    try:
                        _update_hash_of_message(data, _PATH_TO_ENTRIES, digest, FieldBudget())
                    except ValueError as error:
                        raise damaged_error(path, error) from error
            else:
                digest.update(file.stat().st_size.to_bytes(8, "little"))
                update_hash(file, digest)


COREML = CoreMlFormat()


def find_model_file(path: Path) -> Path:
    """Find a package's model file, which the package's index names.

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
        model_entry = content["itemInfoEntries"][content["rootModelIdentifier"]]
        relative_path = PurePosixPath(model_entry["path"])
        if relative_path.is_absolute() or ".." in relative_path.parts:
            raise ValueError(f"{INDEX} names a file outside of the package")
        if is_hidden(relative_path):
            raise ValueError(f"{INDEX} names a hidden file")
        file = path / "Data" / relative_path
        # A link could lead to a file outside of the package.
        if not file.is_file() or path.resolve() not in file.resolve().parents:
            raise ValueError(f"the file {relative_path} is missing")
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
    """List the files of a package that are not hidden, sorted.

    Raises ArtifactError if the package has links, more than 1000 files and folders, files of more
    than 2 GiB in all, or a folder that cannot be listed.
    """
    try:
        files = _walk_files(path)
    except OSError as error:
        raise unreadable_error(path, error, "copy the whole package again") from error
    return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def _walk_files(path: Path) -> list[Path]:
    """List the files of a package in any order; raise OSError if a folder cannot be listed."""
    files: list[Path] = []
    entry_count = 0
    for folder, folder_names, file_names in os.walk(path, onerror=_raise):
        # Changed in place, so that os.walk does not enter hidden folders.
        folder_names[:] = [name for name in folder_names if not name.startswith(".")]
        subfolders = [Path(folder) / name for name in folder_names]
        folder_files = [Path(folder) / name for name in file_names if not name.startswith(".")]
        has_links = any(entry.is_symlink() for entry in (*subfolders, *folder_files))
        if has_links or not all(file.is_file() for file in folder_files):
            raise ArtifactError(
                f"{path} contains links", "a Core ML package has none: export it again"
            )
        files += folder_files
        entry_count += len(folder_files) + len(subfolders)
        if entry_count > _MAX_FILES:
            raise ArtifactError(
                f"{path} contains more than {_MAX_FILES} files and folders",
                "a Core ML package has three: export it again",
            )
    size_bytes = sum(file.stat().st_size for file in files)
    if size_bytes > MAX_FILE_BYTES:
        raise ArtifactError(
            f"{path} has {size_bytes / 2**30:.1f} GiB, and the largest file that is opened has 2",
            "give an exported file",
        )
    return files


def _raise(error: OSError) -> None:
    """Raise an error for a folder that cannot be listed, whose files would not be hashed."""
    raise error


def is_hidden(path: PurePosixPath) -> bool:
    """Return whether a path in a package leads to a hidden file or folder, which is not hashed."""
    return any(part.startswith(".") for part in path.parts)


def _find_messages(
    message: Buffer, field_path: tuple[int, ...], budget: FieldBudget
) -> Iterator[bytes]:
    """Yield the nested messages at a path of field numbers, one number for each level."""
    field_number, *remaining_path = field_path
    for field in iterate_fields(message, budget):
        if (field.number, field.wire_type) == (field_number, BYTES):
            if field.end - field.value_start > MAX_BYTES:
                raise ValueError(f"its metadata are larger than {MAX_BYTES >> 20} MiB")
            nested = bytes(message[field.value_start : field.end])
            if remaining_path:
                yield from _find_messages(nested, tuple(remaining_path), budget)
            else:
                yield nested


def _update_hash_of_message(
    message: Buffer, field_path: tuple[int, ...], digest: hashlib._Hash, budget: FieldBudget
) -> None:
    """Update a hash with all fields of a message except the manifest.

    The manifest is one of the entries at the path, as in `_find_messages`. The lengths of the
    messages that contain the manifest are not hashed, because they depend on the manifest's length.
    Instead of the lengths, braces are hashed, which mark where each of these messages begins and
    ends. A header or an entry that is not written in the usual form, which could hide other bytes,
    is hashed as it is.
    """
    field_number, *remaining_path = field_path
    for field in iterate_fields(message, budget):
        if (field.number, field.wire_type) != (field_number, BYTES):
            digest.update(message[field.start : field.end])
            continue
        nested = bytes(message[field.value_start : field.end])
        encoded_nested = encode_bytes_field(field_number, nested)
        if remaining_path:
            header_bytes = field.value_start - field.start
            if message[field.start : field.value_start] != encoded_nested[:header_bytes]:
                digest.update(message[field.start : field.value_start])
            digest.update(b"{")
            _update_hash_of_message(nested, tuple(remaining_path), digest, budget)
            digest.update(b"}")
        elif (
            not _is_manifest_entry(nested, budget)
            or message[field.start : field.end] != encoded_nested
        ):
            digest.update(message[field.start : field.end])


def _read_entry(message: bytes, budget: FieldBudget) -> tuple[bytes, bytes]:
    """Read key and value of an entry of the map; if a field is repeated, the last one counts."""
    values = {
        field.number: message[field.value_start : field.end]
        for field in iterate_fields(message, budget)
        if field.wire_type == BYTES
    }
    return values.get(_ENTRY_KEY, b""), values.get(_ENTRY_VALUE, b"")


def _is_manifest_entry(message: bytes, budget: FieldBudget) -> bool:
    """Return whether an entry consists of the manifest's key and the manifest, and nothing else."""
    key, value = _read_entry(message, budget)
    usual_form = encode_bytes_field(_ENTRY_KEY, key) + encode_bytes_field(_ENTRY_VALUE, value)
    return key == MANIFEST_KEY.encode() and message == usual_form
