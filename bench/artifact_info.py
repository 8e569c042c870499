"""Facts about a measured artifact for the record."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tinyvit.bench.record import ArtifactInfo
from tinyvit.files import sha256, update_hash
from tinyvit.runtimes.artifact import artifact_files, read_artifact
from tinyvit.runtimes.base import RuntimeInfo


def read_artifact_info(
    path: str, engine: RuntimeInfo, int8_mac_share: float | None = None
) -> ArtifactInfo:
    """Read the facts that a record states about an artifact.

    Args:
        path: Path of the artifact, as the user gave it.
        engine: What the runtime that opened the artifact reports about itself.
        int8_mac_share: Share of the multiply-accumulates that ran in integer kernels, 0 to 1;
            None if unknown.

    Raises:
        ArtifactError: The file cannot be opened as an artifact.
    """
    artifact = read_artifact(path)
    manifest = artifact.manifest
    return ArtifactInfo(
        path=path,
        sha256=hash_artifact(artifact.path),
        size_bytes=sum(file.stat().st_size for file in artifact_files(artifact.path)),
        model=manifest.model if manifest else "",
        precision=manifest.precision if manifest else "",
        engine=engine,
        int8_mac_share=int8_mac_share,
    )


def hash_artifact(path: Path) -> str:
    """Compute the hex SHA-256 of an artifact.

    Args:
        path: Path of the artifact's first file.

    Returns:
        The digest of the file, as sha256sum prints it; for an artifact of several files, the
        digest of their binary digests, in the order of `artifact_files`.
    """
    files = artifact_files(path)
    if len(files) == 1:
        return sha256(files[0])
    digest = hashlib.sha256()
    for file in files:
        file_digest = hashlib.sha256()
        update_hash(file, file_digest)
        digest.update(file_digest.digest())
    return digest.hexdigest()
