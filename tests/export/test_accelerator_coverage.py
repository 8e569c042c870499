"""The files of every target state which operators accelerators refuse."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tinyvit.export import ExportedArtifact
from tinyvit.export.targets import target_names
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.network_analysis.coverage import check_coverage

REASONS = {
    "NPUs do not have this operator",
    "it is outside of the part for the delegate XnnpackBackend",
}
"""Why operators of the demo model are refused in float32 and float16."""


@pytest.mark.parametrize("target", target_names())
def test_what_accelerators_refuse_is_stated(
    target: str, demo_64_artifacts: dict[str, ExportedArtifact]
) -> None:
    """test_equalized_network.py checks the int8 files, which take minutes to make."""
    if target not in demo_64_artifacts:
        pytest.skip(f"the tools of {target} are not installed")
    coverage = check_coverage(read_artifact(demo_64_artifacts[target].path))
    assert coverage.refused_share is not None
    assert coverage.refused_share < 0.1
    if coverage.decided_by == "rules":
        assert coverage.operator_count is not None
        assert coverage.operator_count > 100
        assert {item.reason for item in coverage.refused} <= REASONS
