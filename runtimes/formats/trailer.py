"""A manifest behind an engine's own bytes, in a ZIP archive, as TensorFlow Lite keeps its labels.

Engines that find their parts by offsets from the beginning do not see it, and any ZIP tool opens it. It holds the manifest
(tinyvit.json) and the labels (labels.txt).
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

MANIFEST, LABELS = "tinyvit.json", "labels.txt"
_MAX_FILES = 64
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""ZIP's first date: the same files give the same bytes."""


def described(manifest: Manifest) -> dict[str, str]:
    """What goes behind a file: its manifest, and the names of its classes, one a line, as TensorFlow Lite's own tools read them."""
    return {
        MANIFEST: manifest.to_json(),
        LABELS: "".join(f"{' '.join(label.name.split())}\n" for label in manifest.labels),
    }


def append(data: bytes, files: Mapping[str, str]) -> bytes:
    """`data` with a ZIP archive of these texts (name -> text) behind it. Raises ValueError where there is one already."""
    whole = io.BytesIO(data)
    if zipfile.is_zipfile(whole):
        raise ValueError("there is an archive already")
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        for name, text in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text.encode("utf-8"))
    return whole.getvalue()


@dataclass(frozen=True)
class TrailerFormat:
    """A `Format` of one file that begins with `magic` at byte `at`, and ends with such an archive where tinyvit-export made it."""

    name: str
    suffix: str
    magic: bytes
    at: int = 0

    def recognizes(self, path: Path, head: bytes) -> bool:
        """See `Format`."""
        return head[self.at : self.at + len(self.magic)] == self.magic

    def manifests(self, path: Path) -> list[str]:
        """See `Format`."""
        with _archive(path) as archive:
            if archive is None:
                return []
            found = [info for info in archive.infolist() if info.filename == MANIFEST]
            return [_read(archive, info, path).decode("utf-8") for info in found]

    def companions(self, path: Path) -> tuple[Path, ...]:
        """See `Format`: none."""
        return ()

    def digest(self, path: Path, into: hashlib._Hash) -> None:
        """See `Format`: the engine's own bytes, then the name and the bytes of each file in the archive but the manifest."""
        with _archive(path) as archive, path.open("rb") as file:
            infos = [] if archive is None else archive.infolist()
            left = min((info.header_offset for info in infos), default=path.stat().st_size)
            while left and (chunk := file.read(min(left, 2**20))):
                into.update(chunk)
                left -= len(chunk)
            for info in infos:
                if archive and info.filename != MANIFEST:
                    into.update(info.filename.encode() + b"\0" + _read(archive, info, path))


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile | None]:
    """The archive behind the file, or None; raises ArtifactError where it is damaged or hostile."""
    try:
        if not zipfile.is_zipfile(path):
            yield None
            return
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) > _MAX_FILES:
                raise ArtifactError(
                    f"{path} has {len(archive.infolist())} files behind it",
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
            f"the archive behind {path} is damaged ({error})", "export the file again"
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror or error})", "check the path"
        ) from error


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> bytes:
    """A file of the archive, bounded; it is stored as it is, so that no few bytes become many."""
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > MAX_BYTES:
        raise ArtifactError(
            f"{info.filename} behind {path} is compressed or larger than {MAX_BYTES >> 20} MiB",
            "export the file again",
        )
    return archive.read(info)
