"""Reads an artifact (an exported file) without any engine: its format, manifest, hash and files.

The manifest is the JSON text that tinyvit-export puts into every artifact (`tinyvit.manifest`).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from tinyvit.checkpoint_paths import CHECKPOINT_SUFFIXES
from tinyvit.discovery import list_plugins, load_plugin
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.files.file_io import expand_home
from tinyvit.files.regular_files import open_regular_file
from tinyvit.manifest import Manifest
from tinyvit.runtimes import engines
from tinyvit.runtimes.formats import MAX_FILE_BYTES, Format
from tinyvit.runtimes.formats.file_errors import unreadable_error
from tinyvit.text.safe_text import quote_argument
from tinyvit.urls import refuse_url
from tinyvit.variants import DEMO_MODEL, find_released

_HEAD_BYTES = 4096
"""A format is recognized from this number of bytes at the beginning of a file."""

_CHECKPOINT_ONLY_SUFFIXES = frozenset(CHECKPOINT_SUFFIXES) - {".bin"}
"""Suffixes that only checkpoints have. The weights of an OpenVINO artifact are in a .bin file."""


@dataclass(frozen=True)
class Artifact:
    """An exported file, or any other file that an engine can run.

    Attributes:
        path: The file; a folder for Core ML.
        manifest: The manifest in the file; None if tinyvit-export did not write the file.
    """

    path: Path
    manifest: Manifest | None

    @cached_property
    def format(self) -> Format:
        """The file's format, which is detected once, from the content of the file."""
        return detect_format(self.path)


@cache
def known_formats() -> tuple[Format, ...]:
    """Return the formats of all engines, installed or not.

    Returns:
        The formats, sorted by name, except that ONNX comes last: it has no magic number, so a
        file of another format might be recognized as ONNX.
    """
    formats = {
        format.name: format
        for name in list_plugins(engines)
        for format in load_plugin(engines, name, "ENGINE").formats
    }

    def rank(format: Format) -> tuple[bool, str]:
        return format.name == "onnx", format.name

    return tuple(sorted(formats.values(), key=rank))


def read_artifact(path: str | Path) -> Artifact:
    """Read the manifest of a file and check that its format is known.

    Args:
        path: Path of the file.

    Returns:
        The path and the manifest.

    Raises:
        ArtifactError: If the file is missing, if the file or its manifest is damaged, or if its
            format is not known.
        RequestError: If `path` is a URL, or neither a str nor an os.PathLike.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise RequestError(
            f"an object of type {type(path).__name__} is not a path",
            f"give the path of an exported file ({known_suffixes()})",
        )
    refuse_url("the file", path)
    path = expand_home(path)
    return Artifact(path, read_manifest(path))


def detect_format(path: str | Path) -> Format:
    """Detect a file's format from its content, not from its name.

    Args:
        path: Path of the file.

    Returns:
        The format.

    Raises:
        ArtifactError: If the file is missing or damaged, or if its format is not known.
    """
    path = expand_home(path)
    head = _read_head(path)
    for format in known_formats():
        if format.recognizes(path, head):
            return format
    if path.is_dir():
        raise ArtifactError(f"{path} is a folder", "give the exported file itself")
    if path.suffix.lower() in _CHECKPOINT_ONLY_SUFFIXES:
        raise ArtifactError(
            f"{path} is not an exported file; its suffix is that of a checkpoint",
            f"export it first: tinyvit-export --checkpoint {quote_argument(path)}",
        )
    has_known_suffix = path.suffix.lower() in {format.suffix for format in known_formats()}
    cause = (
        f"{path} is damaged or incomplete, or its suffix is that of another format"
        if has_known_suffix
        else f"the format of {path} is not known"
    )
    raise ArtifactError(
        cause, f"give a file that tinyvit-export wrote ({known_suffixes()}), or export it again"
    )


def read_manifest(path: str | Path) -> Manifest | None:
    """Read the manifest of a file.

    Args:
        path: Path of the file.

    Returns:
        The manifest; None if the file has none.

    Raises:
        ArtifactError: If the file is missing, if the file or its manifest is damaged, if its format
            is not known, if it has several manifests, or if tinyvit-export wrote the file and its
            manifest is missing.
    """
    path = expand_home(path)
    format = detect_format(path)
    texts = format.read_manifests(path)
    if len(texts) > 1:
        raise ArtifactError(
            f"{path} has {len(texts)} manifests", "the file was tampered with: export it again"
        )
    if not texts and format.names_exporter(path):
        raise ArtifactError(
            f"{path} was written by tinyvit-export, but its manifest is missing or incomplete, so"
            " its preprocessing and labels are not known",
            "copy the whole file again, with the .json file beside it if there is one, or export it"
            " again; tools that rewrite a file may remove the manifest",
        )
    return Manifest.from_json(texts[0]) if texts else None


def is_manifest_unchanged(artifact: Artifact) -> bool:
    """Check whether the manifest in a file is, byte by byte, what tinyvit-export wrote.

    Args:
        artifact: The artifact.

    Returns:
        Whether the JSON text in the file is the text of the manifest, with the right digest; False
        if there is no manifest.
    """
    if artifact.manifest is None:
        return False
    texts = artifact.format.read_manifests(artifact.path)
    return texts == [artifact.manifest.to_json()]


def content_sha256(path: str | Path) -> str:
    """Hash everything in an artifact except its manifest.

    Args:
        path: Path of the file.

    Returns:
        SHA-256 as a hexadecimal string. Each format's `update_hash` states which bytes are hashed.

    Raises:
        ArtifactError: If the file is missing or damaged, or if its format is not known.
    """
    path, digest = expand_home(path), hashlib.sha256()
    detect_format(path).update_hash(path, digest)
    return digest.hexdigest()


def list_artifact_files(path: str | Path) -> tuple[Path, ...]:
    """List all files that have to be copied together with an artifact.

    Args:
        path: Path of the artifact.

    Returns:
        The artifact itself (for a folder, all files in it, sorted), followed by the separate files
        that the artifact needs, such as the weights of an OpenVINO model.

    Raises:
        ArtifactError: If the file is missing or damaged, or if its format is not known.
    """
    path = expand_home(path)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return (*files, *detect_format(path).list_companions(path))


def known_suffixes() -> str:
    """Return the suffixes of all formats as text for messages, such as ".engine, .mlpackage"."""
    return ", ".join(sorted({format.suffix for format in known_formats()}))


def _read_head(path: Path) -> bytes:
    """Read the first bytes of a file; b"" for a folder."""
    try:
        if path.is_dir():
            return b""
        with open_regular_file(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError) as error:
        raise unreadable_error(path, error, _find_remedy(path)) from error
    if not head:
        raise ArtifactError(f"{path} is empty: 0 bytes", "export it again")
    if size_bytes > MAX_FILE_BYTES:
        raise ArtifactError(
            f"{path} has {size_bytes / 2**30:.1f} GiB, and the largest file that is opened has 2",
            "give an exported file",
        )
    return head


def _find_remedy(path: Path) -> str:
    """Return what to do about an unreadable path, which may be the name of a released model."""
    try:
        name = DEMO_MODEL if str(path) == DEMO_MODEL else find_released(str(path)).name
    except RequestError:
        return "check the path"
    return (
        f"export the model {name} first: tinyvit-export --model {quote_argument(path)}; in Python,"
        f" Classifier.from_pretrained({str(path)!r}) does that"
    )
