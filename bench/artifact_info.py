"""Facts about a measured artifact for the record, and the list of artifacts that failed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tinyvit.bench.record import ArtifactInfo
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.files import sha256, update_hash
from tinyvit.runtimes.artifact import artifact_files, open_artifact
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
    artifact = open_artifact(path)
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


class Failures:
    """Collects what could not be measured, with the reasons, while the rest is measured.

    Attributes:
        lines: One line per failure: the subject and the reason.
    """

    def __init__(self) -> None:
        """Start with no failures."""
        self.lines: list[str] = []
        self._first: TinyViTError | None = None

    def add(self, subject: str, error: TinyViTError) -> None:
        """Add a failure.

        Args:
            subject: Path of an artifact, or what was measured beside it. It is put before the
                reason unless the reason begins with it.
            error: The reason.
        """
        self._first = self._first or error
        is_named = str(error).startswith(subject)
        self.lines.append(str(error) if is_named else f"{subject}: {error}")

    def error(self) -> TinyViTError:
        """Return the error to raise when nothing is left to measure; needs at least one failure."""
        assert self._first is not None
        if len(self.lines) == 1:
            return self._first
        return RequestError(
            f"none of the {len(self.lines)} measurements is possible; the first fails because"
            f" {self._first.cause}",
            self._first.remedy,
        )
