"""Formats of files that end with a ZIP archive (the trailer) of the manifest and class labels.

TensorFlow Lite stores its labels in the same way. Engines find their data by offsets from the
beginning of the file, so they ignore the archive. Any ZIP tool can open the file.

The end of a ZIP archive is its table of contents. A file that was not copied completely, even if
only its last byte is missing, therefore has no readable archive, although an engine still runs it.
Such a file is recognized by `MARKER` in the model, or by the archive's remains.
"""

from __future__ import annotations

import hashlib
import io
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.files.limited_reader import LimitedReader
from tinyvit.files.regular_files import open_regular_file
from tinyvit.manifest import MAX_BYTES, Manifest
from tinyvit.runtimes.formats.file_errors import unreadable_error
from tinyvit.runtimes.formats.network_graph import NetworkGraph
from tinyvit.runtimes.formats.protobuf import read_file

MANIFEST_FILE, LABELS_FILE = "tinyvit.json", "labels.txt"
"""Names of the two files (members) in the archive. An artifact without classes has no labels."""

MARKER = "tinyvit-edge"
"""Name that tinyvit-export stores inside each of these models, as a string of a flatbuffer: the
producer of an .ort file, the description of a .tflite file, and an additional method of a .pte
file."""

_ENCODED_MARKER = struct.pack("<I", len(MARKER)) + MARKER.encode("ascii") + b"\0"
"""The marker as a flatbuffer stores a string: its length, its characters and a zero."""

_HEADERS_BEFORE_NAME = ((b"PK\3\4", 30), (b"PK\1\2", 46))
"""How a ZIP archive states the name of a member: the first bytes of the header before the name, and
the size of this header in bytes. The first kind of header is before the content of the member, the
second in the table of contents."""

_MAX_MEMBERS = 64
"""Largest number of files in an archive. tinyvit-export writes two."""

_MAX_DIRECTORY_BYTES = 2**20
"""Largest size of the table of contents, which zipfile reads before the number of files is known.
An entry that tinyvit-export writes has about 60 bytes. A file of 2 GiB could have 44 million."""

_MAX_ARCHIVE_BYTES = 2 * MAX_BYTES
"""Largest size of all files in an archive together, which are in memory while they are hashed."""

_CHUNK_BYTES = 2**20
_UNIX_SYSTEM = 3
"""Number of the system that wrote an archive. It is always the same, so that equal files give equal
bytes, also on Windows."""
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date that ZIP allows. A constant date makes equal files give equal bytes."""


def archive_members(manifest: Manifest) -> dict[str, str]:
    """Make the members (files) of an artifact's archive.

    Args:
        manifest: Manifest of the artifact.

    Returns:
        Name of each member -> text. The members are the manifest, and the class labels if there are
        any, one per line, as TensorFlow Lite's tools read them.
    """
    members = {MANIFEST_FILE: manifest.to_json()}
    if manifest.labels:
        names = (" ".join(label.name.split()) for label in manifest.labels)
        members[LABELS_FILE] = "".join(f"{name}\n" for name in names)
    return members


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
    contents = {name: text.encode("utf-8") for name, text in members.items()}
    return file_bytes + _make_archive(contents, len(file_bytes))


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

    def names_exporter(self, path: Path) -> bool:
        """Return whether a file contains `MARKER` or a header of the member with the manifest."""
        data = read_file(path)
        return _ENCODED_MARKER in data or _contains_archive_header(data)

    def list_companions(self, path: Path) -> tuple[Path, ...]:
        """Return (): everything is in the file."""
        return ()

    def read_graph(self, path: Path) -> NetworkGraph:
        """Return an empty graph: the engines check the operators and their cost themselves."""
        return NetworkGraph()

    def update_hash(self, path: Path, digest: hashlib._Hash) -> None:
        """Update a hash with the bytes before the archive, then each member's name and bytes.

        The member that is the manifest is not hashed. If the archive differs in any byte from the
        one that tinyvit-export writes for these members, the whole archive and all bytes after it
        are hashed too.
        """
        with _open_archive(path) as archive, path.open("rb") as file:
            infos = [] if archive is None else archive.infolist()
            archive_start = min((info.header_offset for info in infos), default=path.stat().st_size)
            bytes_left = archive_start
            while bytes_left and (chunk := file.read(min(bytes_left, _CHUNK_BYTES))):
                digest.update(chunk)
                bytes_left -= len(chunk)
            if archive is None:
                return
            members = {}
            for info in infos:
                members[info.filename] = content = _read_member(archive, info, path)
                if info.filename != MANIFEST_FILE:
                    digest.update(info.filename.encode() + b"\0" + content)
            expected = _make_archive(members, archive_start)
            if file.read(len(expected) + 1) != expected:
                file.seek(archive_start)
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)


class _BufferAfterFile(io.BytesIO):
    """A buffer whose positions are counted from the beginning of the file that precedes it."""

    def __init__(self, file_size: int) -> None:
        super().__init__()
        self._file_size = file_size

    def tell(self) -> int:
        return super().tell() + self._file_size

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            position -= self._file_size
        return super().seek(position, whence) + self._file_size


def _make_archive(members: Mapping[str, bytes], archive_start: int) -> bytes:
    """Make the archive that begins at a position of a file. Equal arguments give equal bytes."""
    buffer = _BufferAfterFile(archive_start)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(members.items()):
            info = zipfile.ZipInfo(name, _FIRST_DATE)
            info.create_system = _UNIX_SYSTEM
            archive.writestr(info, content)
    return buffer.getvalue()


def _contains_archive_header(data: bytes) -> bool:
    """Return whether a header of the member with the manifest is in a file, at any position."""
    name = MANIFEST_FILE.encode("ascii")
    position = data.find(name)
    while position >= 0:
        for magic, header_bytes in _HEADERS_BEFORE_NAME:
            start = position - header_bytes
            if start >= 0 and data[start : start + len(magic)] == magic:
                return True
        position = data.find(name, position + 1)
    return False


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile | None]:
    """Open the archive at the end of a file; yield None if there is no archive.

    Raises ArtifactError if the archive is damaged or hostile, also while the caller reads it.
    """
    try:
        with LimitedReader(open_regular_file(path).detach()) as file:
            file.set_limit(_MAX_DIRECTORY_BYTES)
            if not zipfile.is_zipfile(file):
                yield None
                return
            file.set_limit(_MAX_DIRECTORY_BYTES)
            with zipfile.ZipFile(file) as archive:
                _check_members(archive, path)
                file.set_limit(sys.maxsize)
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
        raise unreadable_error(path, error) from error


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise ArtifactError if the archive at the end of `path` has too many or too large files."""
    infos = archive.infolist()
    size_bytes = sum(info.file_size for info in infos)
    if len(infos) > _MAX_MEMBERS:
        reason = f"{len(infos)} files, more than {_MAX_MEMBERS}"
    elif size_bytes > _MAX_ARCHIVE_BYTES:
        reason = f"{size_bytes >> 20} MiB of files, more than {_MAX_ARCHIVE_BYTES >> 20}"
    else:
        return
    raise ArtifactError(
        f"the archive at the end of {path} has {reason}",
        "the file is damaged or hostile: export it again",
    )


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
