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
        (RunLimits(0.01, 2**20), "with LiteRT took more than 0.01 s: check with tinyvit-verify"),
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


def test_flatc_without_end_is_stopped(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flatc itself takes so little time that it can end within any limit."""
    if "executorch" not in files:
        pytest.skip("needs ExecuTorch")
    program = tmp_path / "flatc"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(
        "executorch.exir._serialize._flatbuffer._get_flatc_path", lambda: str(program)
    )
    monkeypatch.setattr(executorch, "_FLATC_LIMITS", RunLimits(0.5, 2**20))
    with pytest.raises(ArtifactError, match=r"XNNPACK graphs of .* damaged .*flatc took more"):
        profile_kernels(files["executorch"])


def test_flatc_cannot_write_large_files(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "executorch" not in files:
        pytest.skip("needs ExecuTorch")
    monkeypatch.setattr(executorch, "_FLATC_LIMITS", RunLimits(60, 2**20, file_bytes=1000))
    # 25 is the number of the signal SIGXFSZ.
    with pytest.raises(ArtifactError, match=r"XNNPACK graphs of .* damaged .*exit code -25"):
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
