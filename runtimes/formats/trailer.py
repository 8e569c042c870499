"""Formats of files that end with a ZIP archive (the trailer) of the manifest and class labels.

TensorFlow Lite stores its labels in the same way. Engines find their data by offsets from the
beginning of the file, so they ignore the archive. Any ZIP tool can open the file.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.manifest import MAX_BYTES, Manifest

MANIFEST_FILE, LABELS_FILE = "tinyvit.json", "labels.txt"
"""Names of the two files (members) in the archive."""

_MAX_MEMBERS = 64
_CHUNK_BYTES = 2**20
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date that ZIP allows. A constant date makes equal files give equal bytes."""


def archive_members(manifest: Manifest) -> dict[str, str]:
    """Make the members (files) of an artifact's archive.

    Args:
        manifest: Manifest of the artifact.

    Returns:
        Name of each member -> text. The members are the manifest, and the class labels, one per
        line, as TensorFlow Lite's tools read them.
    """
    return {
        MANIFEST_FILE: manifest.to_json(),
        LABELS_FILE: "".join(f"{' '.join(label.name.split())}\n" for label in manifest.labels),
    }


def add_archive(file_bytes: bytes, members: Mapping[str, str]) -> bytes:
    """Add a ZIP archive to the end of a file's bytes.

    Args:
        file_bytes: The file as the engine's tools wrote it.
        members: Name of each member of the archive -> text, as `archive_members` returns them.

    Returns:
        A copy of the bytes, followed by the archive. Equal arguments give equal bytes.

    Raises:
        ValueError: If the bytes already end with an archive.
    """
    buffer = io.BytesIO(file_bytes)
    if zipfile.is_zipfile(buffer):
        raise ValueError("the file already has an archive")
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, text in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name, _FIRST_DATE), text.encode("utf-8"))
    return buffer.getvalue()


@dataclass(frozen=True)
class TrailerFormat:
    """A format of files to which tinyvit-export appends a ZIP archive; see `Format`.

    Attributes:
        name: Name of the format for messages and JSON.
        suffix: Usual suffix of the files, with its dot.
        magic: Magic number of the format.
        magic_offset: Position of `magic` in every file.
    """

    name: str
    suffix: str
    magic: bytes
    magic_offset: int = 0

    def recognizes(self, path: Path, head: bytes) -> bool:
        """Return whether a file has `magic` at `magic_offset`."""
        return head[self.magic_offset : self.magic_offset + len(self.magic)] == self.magic

    def read_manifests(self, path: Path) -> list[str]:
        """Read all manifests in the archive; return [] if there is no archive."""
        with _open_archive(path) as archive:
            if archive is None:
                return []
            # A ZIP archive may contain several members of the same name.
            infos = [info for info in archive.infolist() if info.filename == MANIFEST_FILE]
            return [_read_member(archive, info, path).decode("utf-8") for info in infos]

    def list_companions(self, path: Path) -> tuple[Path, ...]:
        """Return (): everything is in the file."""
        return ()

    def update_hash(self, path: Path, digest: hashlib._Hash) -> None:
        """Update a hash with the bytes before the archive, then each member's name and bytes.

        The member that is the manifest is not hashed.
        """
        with _open_archive(path) as archive, path.open("rb") as file:
            infos = [] if archive is None else archive.infolist()
            archive_start = min((info.header_offset for info in infos), default=path.stat().st_size)
            bytes_left = archive_start
            while bytes_left and (chunk := file.read(min(bytes_left, _CHUNK_BYTES))):
                digest.update(chunk)
                bytes_left -= len(chunk)
            for info in infos:
                if archive and info.filename != MANIFEST_FILE:
                    content = _read_member(archive, info, path)
                    digest.update(info.filename.encode() + b"\0" + content)


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile | None]:
    """Open the archive at the end of a file; yield None if there is no archive.

    Raises ArtifactError if the archive is damaged or hostile, also while the caller reads it.
    """
    try:
        if not zipfile.is_zipfile(path):
            yield None
            return
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) > _MAX_MEMBERS:
                raise ArtifactError(
                    f"the archive at the end of {path} has {len(archive.infolist())} files, more"
                    f" than {_MAX_MEMBERS}",
                    "the file is damaged or hostile: export it again",
                )
            yield archive
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        UnicodeDecodeError,
        EOFError,
        ValueError,
    ) as error:
        raise ArtifactError(
            f"the archive at the end of {path} is damaged ({error})", "export the file again"
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror or error})", "check the path"
        ) from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> bytes:
    """Read one member of the archive at the end of the file `path`.

    Compressed members are refused, because a small one could expand to fill the memory (ZIP bomb).
    """
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > MAX_BYTES:
        raise ArtifactError(
            f"{info.filename} in the archive at the end of {path} is compressed or larger than"
            f" {MAX_BYTES >> 20} MiB",
            "export the file again",
        )
    return archive.read(info)
