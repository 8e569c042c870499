"""Core ML packages (.mlpackage): a folder with an index, a protobuf message and its weights.

Read with neither coremltools nor protobuf: the message is walked on its wire format. Our manifest is one entry of the
metadata that a model's author may define (coremltools' mlmodel/format/Model.proto: Model.description = 2,
ModelDescription.metadata = 100, Metadata.userDefined = 100, a map of strings).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tinyvit.errors import ArtifactError
from tinyvit.files import update_hash
from tinyvit.manifest import MANIFEST_KEY, MAX_BYTES
from tinyvit.runtimes.formats.protobuf import BYTES, Buffer, fields, mapped

if TYPE_CHECKING:
    import hashlib

INDEX = "Manifest.json"

_DESCRIPTION, _METADATA, _USER_DEFINED = 2, 100, 100
_TO_ENTRIES = (_DESCRIPTION, _METADATA, _USER_DEFINED)
_MAX_INDEX_BYTES, _MAX_FILES = 2**20, 1000


class CoreMl:
    """See `Format`."""

    name = "coreml"
    suffix = ".mlpackage"

    def recognizes(self, path: Path, head: bytes) -> bool:
        """See `Format`: a folder with a package's index."""
        return path.is_dir() and (path / INDEX).is_file()

    def manifests(self, path: Path) -> list[str]:
        """Every manifest in the package's metadata; raises ArtifactError where the package is damaged or hostile."""
        with mapped(model_file(path)) as data:
            try:
                entries = [_entry(entry) for entry in _inside(data, _TO_ENTRIES)]
                return [
                    value.decode("utf-8") for key, value in entries if key == MANIFEST_KEY.encode()
                ]
            except ValueError as error:
                raise _damaged(path, error) from error

    def companions(self, path: Path) -> tuple[Path, ...]:
        """See `Format`: none, all is in the folder."""
        return ()

    def digest(self, path: Path, into: hashlib._Hash) -> None:
        """All but the manifest: every file's name and content in order of name; of the model, its fields in the file's order.

        Hidden files (.DS_Store, which the Finder leaves) do not count. Raises ArtifactError as `manifests` does.
        """
        model = model_file(path)
        for file in _files(path):
            into.update(json.dumps(file.relative_to(path).as_posix()).encode("ascii"))
            if file == model:
                with mapped(file) as data:
                    try:
                        _digest(data, _TO_ENTRIES, into)
                    except ValueError as error:
                        raise _damaged(path, error) from error
            else:
                into.update(file.stat().st_size.to_bytes(8, "little"))
                update_hash(file, into)


COREML = CoreMl()


def model_file(path: Path) -> Path:
    """The model that the package's index names, inside its Data folder; raises ArtifactError where that is none."""
    index = path / INDEX
    try:
        if index.stat().st_size > _MAX_INDEX_BYTES:
            raise ValueError(f"{INDEX} is larger than {_MAX_INDEX_BYTES >> 20} MiB")
        listed = json.loads(index.read_text(encoding="utf-8"))
        inside = PurePosixPath(listed["itemInfoEntries"][listed["rootModelIdentifier"]]["path"])
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"{INDEX} names a file outside of it")
        file = path / "Data" / inside
        if not file.is_file() or path.resolve() not in file.resolve().parents:
            raise ValueError(f"it lacks {inside}")
        return file
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else f"{INDEX} cannot be read"
        raise ArtifactError(
            f"{path} is no whole Core ML package ({reason})",
            "keep the folder together, or export it again",
        ) from error


def _files(path: Path) -> Iterator[Path]:
    """Plain files of the package, sorted, none of them hidden; raises ArtifactError for links and for too many."""
    found: list[Path] = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = [Path(folder) / name for name in names if not name.startswith(".")]
        if any(one.is_symlink() or not one.is_file() for one in inside) or any(
            (Path(folder) / name).is_symlink() for name in folders
        ):
            raise ArtifactError(
                f"{path} has links in it", "a Core ML package has none: export it again"
            )
        found += inside
        if len(found) > _MAX_FILES:
            raise ArtifactError(
                f"{path} has more than {_MAX_FILES} files in it",
                "a Core ML package has three: export it again",
            )
    yield from sorted(found, key=lambda file: file.relative_to(path).as_posix())


def _inside(message: Buffer, numbers: tuple[int, ...]) -> Iterator[bytes]:
    """The messages that are field numbers[-1] of numbers[-2] of ... of `message`. Raises ValueError where it is damaged."""
    for field in fields(message):
        if (field.number, field.wire) == (numbers[0], BYTES):
            if field.end - field.payload > MAX_BYTES:
                raise ValueError(f"its metadata are larger than {MAX_BYTES >> 20} MiB")
            part = message[field.payload : field.end]
            yield from _inside(part, numbers[1:]) if len(numbers) > 1 else iter((part,))


def _digest(message: Buffer, numbers: tuple[int, ...], into: hashlib._Hash) -> None:
    """All but the entries of our key; lengths of what they are in do not count, for they depend on the manifest's."""
    with memoryview(message) as view:
        for field in fields(message):
            if not numbers or (field.number, field.wire) != (numbers[0], BYTES):
                into.update(view[field.start : field.end])
                continue
            part = message[field.payload : field.end]
            if len(numbers) > 1:
                into.update(b"{")
                _digest(part, numbers[1:], into)
                into.update(b"}")
            elif _entry(part)[0] != MANIFEST_KEY.encode():
                into.update(view[field.start : field.end])


def _entry(message: bytes) -> tuple[bytes, bytes]:
    """(key, value) of an entry of a map of strings; the last of each counts."""
    parts = {
        field.number: message[field.payload : field.end]
        for field in fields(message)
        if field.wire == BYTES
    }
    return parts.get(1, b""), parts.get(2, b"")


def _damaged(path: Path, error: ValueError) -> ArtifactError:
    return ArtifactError(f"{path} is damaged or incomplete ({error})", "export it again")
