"""Reads the facts about an artifact (exported model file) that a benchmark record states."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tinyvit.bench.record import ArtifactInfo
from tinyvit.files.file_io import sha256, update_hash
from tinyvit.runtimes.artifact import list_artifact_files, read_artifact
from tinyvit.runtimes.base import RuntimeInfo


def read_artifact_info(path: str, engine: RuntimeInfo) -> ArtifactInfo:
    """Read the size, the hash and some manifest entries of an artifact.

    Args:
        path: Path of the artifact, as the user gave it.
        engine: Description of the engine that ran the artifact, from `Runtime.describe`.

    Returns:
        The description of the artifact for a record. Its `int8_mac_share` is None, because that
        share is known only after a profile.

    Raises:
        ArtifactError: The file cannot be opened as an artifact.
    """
    artifact = read_artifact(path)
    manifest = artifact.manifest
    return ArtifactInfo(
        path=path,
        sha256=hash_artifact(artifact.path),
        size_bytes=read_size_bytes(artifact.path),
        model=manifest.model if manifest else "",
        precision=manifest.precision if manifest else "",
        engine=engine,
        int8_mac_share=None,
    )


def read_size_bytes(path: Path) -> int:
    """Return the size of all files of an artifact.

    Args:
        path: Path of the artifact, or of its main file if it consists of several files.
    """
    return sum(file.stat().st_size for file in list_artifact_files(path))


def hash_artifact(path: Path) -> str:
    """Return the SHA-256 of an artifact as hex digits.

    Args:
        path: Path of the artifact, or of its main file if it consists of several files.

    Returns:
        For a single file, the digest that sha256sum prints. For several files, the SHA-256 of their
        concatenated binary digests, in the order of `list_artifact_files`.
    """
    files = list_artifact_files(path)
    if len(files) == 1:
        return sha256(files[0])
    digest = hashlib.sha256()
    for file in files:
        file_digest = hashlib.sha256()
        update_hash(file, file_digest)
        digest.update(file_digest.digest())
    return digest.hexdigest()
