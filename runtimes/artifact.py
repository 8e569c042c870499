"""What a file is and what it says of itself, read with no engine and no onnx package.

In: a path. Out: its format, its manifest, the hash of its content.
"""

from __future__ import annotations

import hashlib
import os
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.manifest import Manifest
from tinyvit.runtimes import engines
from tinyvit.runtimes.formats import Format

_HEAD = 4096


@dataclass(frozen=True)
class Artifact:
    """An exported file. manifest is None for a file that tinyvit-export did not make."""

    path: Path
    manifest: Manifest | None

    @property
    def format(self) -> Format:
        """The file's format, by its content."""
        return detect_format(self.path)


@cache
def known_formats() -> tuple[Format, ...]:
    """Every format that an engine names, installed or not; ONNX, which has no magic number, is tried last."""
    names = [
        module.name
        for module in pkgutil.iter_modules(engines.__path__)
        if not module.name.startswith("_")
    ]
    modules = [import_module(f"{engines.__name__}.{name}") for name in names]
    found = {each.name: each for module in modules for each in module.FORMATS}
    return tuple(sorted(found.values(), key=lambda each: (each.name == "onnx", each.name)))


def open_artifact(path: str | Path) -> Artifact:
    """The file at `path` with its manifest.

    Raises ArtifactError where it is missing, damaged, or of no known format, RequestError where `path` is no path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise RequestError(
            f"an object of type {type(path).__name__} is not a path",
            f"give the path of an exported file ({known_suffixes()})",
        )
    path = Path(path)
    return Artifact(path, read_manifest(path))


def detect_format(path: str | Path) -> Format:
    """The format by the file's content, whatever its name; raises ArtifactError where it is of no known one."""
    path = Path(path)
    head = _head(path)
    for each in known_formats():
        if each.recognizes(path, head):
            return each
    if path.is_dir():
        raise ArtifactError(f"{path} is a folder", "give the exported file itself")
    known = path.suffix.lower() in {each.suffix for each in known_formats()}
    cause = (
        f"{path} is damaged or incomplete, or of another kind than its name says"
        if known
        else f"{path} is of no known format"
    )
    raise ArtifactError(
        cause, f"give a file that tinyvit-export wrote ({known_suffixes()}), or export it again"
    )


def read_manifest(path: str | Path) -> Manifest | None:
    """The manifest of the file, None where it has none; raises ArtifactError where it or the file is damaged."""
    path = Path(path)
    texts = detect_format(path).manifests(path)
    if len(texts) > 1:
        raise ArtifactError(
            f"{path} has {len(texts)} manifests", "the file was tampered with: export it again"
        )
    return Manifest.from_json(texts[0]) if texts else None


def content_sha256(path: str | Path) -> str:
    """Hex digest of all but the manifest; each format says of what, in which order."""
    path, digest = Path(path), hashlib.sha256()
    detect_format(path).digest(path, digest)
    return digest.hexdigest()


def artifact_files(path: str | Path) -> tuple[Path, ...]:
    """What an exported file is made of: itself (of a folder, every file in it, sorted), then the files that belong to it."""
    path = Path(path)
    inside = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    return (*inside, *detect_format(path).companions(path))


def known_suffixes() -> str:
    """Of every format, for people: ".engine, .mlpackage, .onnx, ..."."""
    return ", ".join(sorted({each.suffix for each in known_formats()}))


def _head(path: Path) -> bytes:
    """The first bytes of a file, none of a folder."""
    if path.is_dir():
        return b""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(f"{path} cannot be read ({reason})", "check the path") from error
    if not head:
        raise ArtifactError(f"{path} is empty: 0 bytes", "export it again")
    return head
