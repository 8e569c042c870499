"""The processes that profilers start are stopped at limits on time and output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tinyvit.bench.kernel_profile import profile_kernels
from tinyvit.bench.profilers import _litert_profile, executorch
from tinyvit.errors import ArtifactError
from tinyvit.processes.limited_program import RunLimits


@pytest.fixture
def files(demo_64_artifacts: dict[str, Any]) -> dict[str, Path]:
    """Target name -> file of the shortened demo model at 64 pixels, for the installed targets."""
    return {name: artifact.path for name, artifact in demo_64_artifacts.items()}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (RunLimits(0.1, 2**20), "with LiteRT took more than 0.1 s: check with tinyvit-verify"),
        (RunLimits(60, 100), "with LiteRT printed more than 100 bytes: "),
    ],
)
def test_litert_is_stopped_at_limits(
    files: dict[str, Path], limits: RunLimits, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "litert" not in files:
        pytest.skip("needs LiteRT's tools")
    monkeypatch.setattr(_litert_profile, "_LIMITS", limits)
    with pytest.raises(ArtifactError, match=message):
        profile_kernels(files["litert"])


# 25 is the number of the signal SIGXFSZ.
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (RunLimits(0, 2**20), "flatc took more than 0 s"),
        (RunLimits(60, 2**20, file_bytes=1000), "flatc ended with the exit code -25"),
    ],
)
def test_flatc_is_stopped_at_limits(
    files: dict[str, Path], limits: RunLimits, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "executorch" not in files:
        pytest.skip("needs ExecuTorch")
    monkeypatch.setattr(executorch, "_FLATC_LIMITS", limits)
    with pytest.raises(ArtifactError, match=rf"XNNPACK graphs of .* damaged .*{reason}"):
        profile_kernels(files["executorch"])


def test_the_graphs_of_an_executorch_file_are_small(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of 64 MiB is far above the JSON of real graphs."""
    if "executorch" not in files:
        pytest.skip("needs ExecuTorch")
    sizes: list[int] = []
    read_json = executorch.read_json

    def record_size(path: Path, max_bytes: int) -> Any:
        assert max_bytes == 67_108_864
        sizes.append(path.stat().st_size)
        return read_json(path, max_bytes)

    monkeypatch.setattr(executorch, "read_json", record_size)
    assert len(profile_kernels(files["executorch"]).kernels) > 10
    assert 1000 < max(sizes) < 1_000_000, json.dumps(sizes)
