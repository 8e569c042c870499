"""What is measured, as a record names it: a file and what its engine says that it runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tinyvit.bench.record import Subject
from tinyvit.files import feed, sha256
from tinyvit.runtimes.artifact import files, open_artifact


def subject(given: str, engine: dict[str, str | int], int8_macs: float | None = None) -> Subject:
    """The file at the path `given`, and `Runtime.describe` of the engine that has it open. Raises what opening the file raises."""
    artifact = open_artifact(given)
    manifest = artifact.manifest
    model, precision = (manifest.model, manifest.precision) if manifest else ("", "")
    size = sum(each.stat().st_size for each in files(artifact.path))
    return Subject(given, digest(artifact.path), size, model, precision, dict(engine), int8_macs)


def digest(path: Path) -> str:
    """Hex SHA-256 of an exported file, as sha256sum prints it; of one in several files, of their digests in their order."""
    parts = files(path)
    if len(parts) == 1:
        return sha256(parts[0])
    whole = hashlib.sha256()
    for each in parts:
        one = hashlib.sha256()
        feed(each, one)
        whole.update(one.digest())
    return whole.hexdigest()
