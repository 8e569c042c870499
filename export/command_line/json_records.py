"""Describes artifacts, and targets without an artifact, for tinyvit-export --json."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyvit.export.artifact_writer import ExportedArtifact
    from tinyvit.export.checks.baseline_timing import SpeedComparison
    from tinyvit.export.export_results import FailedTarget


def make_artifact_record(artifact: ExportedArtifact) -> dict[str, Any]:
    """Describe an artifact for JSON output.

    Args:
        artifact: The artifact.

    Returns:
        The facts of the summary, as JSON types only.
    """
    manifest, parity = artifact.manifest, artifact.manifest.parity
    assert parity is not None
    sensitivity = None if artifact.search is None else artifact.search.sensitivity
    return {
        "artifact": str(artifact.path),
        "files": [str(file) for file in artifact.files],
        "size_bytes": artifact.size_bytes,
        "target": manifest.target,
        "precision": manifest.precision,
        "model": manifest.model,
        "variant": manifest.variant,
        "img_size": manifest.img_size,
        "windows": manifest.windows,
        "classes": len(manifest.labels),
        "outputs": [asdict(spec) for spec in manifest.outputs],
        "preprocess": asdict(manifest.preprocess),
        "preprocess_source": manifest.preprocess_source,
        "labels_source": manifest.labels_source,
        "engine": asdict(artifact.engine),
        "speed": None if artifact.speed is None else _speed_record(artifact.speed),
        "max_abs_diff": parity.max_abs_diff,
        "notes": list(artifact.notes),
        "content_sha256": manifest.content_sha256,
        "quantization": manifest.quantization and asdict(manifest.quantization),
        "sensitivity": None if sensitivity is None else asdict(sensitivity),
    }


def _speed_record(speed: SpeedComparison) -> dict[str, str | int | float]:
    return {
        "median_ms": round(speed.artifact.median_ms, 3),
        "samples": len(speed.artifact.samples_ms),
        "baseline": speed.baseline_name,
        "baseline_median_ms": round(speed.baseline.median_ms, 3),
        "baseline_samples": len(speed.baseline.samples_ms),
    }


def make_failure_record(failure: FailedTarget) -> dict[str, str | bool]:
    """Describe a target without an artifact for JSON output.

    Args:
        failure: The target and its error.

    Returns:
        The name, the error on one line, and whether the target was skipped, as JSON types only.
    """
    return {
        "target": failure.target,
        "error": str(failure.error),
        "is_skipped": failure.is_skipped,
    }
