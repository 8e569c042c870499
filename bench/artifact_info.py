"""What is measured, as a record names it: a file and what its engine says that it runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tinyvit.bench.record import ArtifactInfo
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.files import sha256, update_hash
from tinyvit.runtimes.artifact import artifact_files, open_artifact


def read_artifact_info(
    given: str, engine: dict[str, str | int], int8_macs: float | None = None
) -> ArtifactInfo:
    """The file at the path `given`, and `Runtime.describe` of the engine that has it open. Raises what opening the file raises."""
    artifact = open_artifact(given)
    manifest = artifact.manifest
    model, precision = (manifest.model, manifest.precision) if manifest else ("", "")
    size = sum(each.stat().st_size for each in artifact_files(artifact.path))
    return ArtifactInfo(
        given, digest(artifact.path), size, model, precision, dict(engine), int8_macs
    )


def digest(path: Path) -> str:
    """Hex SHA-256 of an exported file, as sha256sum prints it; of one in several files, of their digests in their order."""
    parts = artifact_files(path)
    if len(parts) == 1:
        return sha256(parts[0])
    whole = hashlib.sha256()
    for each in parts:
        one = hashlib.sha256()
        update_hash(each, one)
        whole.update(one.digest())
    return whole.hexdigest()


class Refusals:
    """Files that could not be measured, each with its reason, while the others are."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._first: TinyViTError | None = None

    def add(self, given: str, error: TinyViTError) -> None:
        """The file `given`, or a thing beside it; most reasons name it themselves."""
        self._first = self._first or error
        self.lines.append(str(error) if str(error).startswith(given) else f"{given}: {error}")

    def error(self) -> TinyViTError:
        """For where nothing is left to measure: the one reason itself, or the first of several."""
        assert self._first is not None
        if len(self.lines) == 1:
            return self._first
        return RequestError(
            f"none of {len(self.lines)} can be measured; the first: {self._first.cause}",
            self._first.remedy,
        )
