"""Makes the benchmark record of the sensitivity that an export has measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.bench.artifact_info import read_artifact_info
from tinyvit.bench.record import Record, SensitivityResult
from tinyvit.bench.sensitivity.suite import make_record

if TYPE_CHECKING:
    from tinyvit.export.artifact_writer import ExportedArtifact
    from tinyvit.quant.config import QuantizationConfig


def make_sensitivity_record(
    artifacts: Sequence[ExportedArtifact], config: QuantizationConfig
) -> Record:
    """Make a record that tinyvit-bench report reads.

    Args:
        artifacts: The artifacts, at least one, whose sensitivity was measured.
        config: The options of the quantization, with `sensitivity`.

    Returns:
        The record, with one result for each artifact.
    """
    results = []
    for artifact in artifacts:
        assert artifact.search is not None
        assert artifact.search.sensitivity is not None
        results.append(
            SensitivityResult(
                artifact=read_artifact_info(str(artifact.path), artifact.engine),
                reference=artifact.manifest.source.name,
                is_simulated=True,
                network=artifact.search.sensitivity,
            )
        )
    return make_record(tuple(results), _describe_images(config, results[0]))


def _describe_images(config: QuantizationConfig, result: SensitivityResult) -> str:
    count = result.network.image_count
    if config.uses_synthetic_images:
        return f"{count} images made from the network itself"
    assert config.calib_data is not None
    return f"{count} images of {Path(config.calib_data).name}"
