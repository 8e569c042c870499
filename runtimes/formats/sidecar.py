"""A file whose manifest is beside it, in a .json: for engines whose own loaders must find nothing else in the file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.files import update_hash
from tinyvit.manifest import MAX_BYTES


def manifest_path(path: Path) -> Path:
    """Of the file at `path`: demo.int8.engine.json of demo.int8.engine."""
    return path.with_name(f"{path.name}.json")


@dataclass(frozen=True)
class Sidecar:
    """A `Format` of one file that begins with one of `magics`."""

    name: str
    suffix: str
    magics: tuple[bytes, ...]

    def recognizes(self, path: Path, head: bytes) -> bool:
        """See `Format`."""
        return head.startswith(self.magics)

    def manifests(self, path: Path) -> list[str]:
        """See `Format`."""
        beside = manifest_path(path)
        try:
            if not beside.is_file():
                return []
            if beside.stat().st_size > MAX_BYTES:
                raise ArtifactError(
                    f"{beside} is larger than {MAX_BYTES >> 20} MiB",
                    "the file is damaged or hostile: export it again",
                )
            return [beside.read_text(encoding="utf-8")]
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(
                f"{beside} cannot be read ({type(error).__name__})", "export the file again"
            ) from error

    def companions(self, path: Path) -> tuple[Path, ...]:
        """See `Format`: the manifest, where there is one."""
        beside = manifest_path(path)
        return (beside,) if beside.is_file() else ()

    def digest(self, path: Path, into: hashlib._Hash) -> None:
        """See `Format`: all bytes of the file."""
        update_hash(path, into)
