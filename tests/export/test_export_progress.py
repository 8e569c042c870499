"""An export shows its stages with percentages."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tests.helpers.exports import shorten_demo, shorten_timing
from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.export import ExportConfig, export


def test_every_stage_of_an_export_is_counted(tmp_path: Path) -> None:
    config = ExportConfig(
        model="demo", img_size=64, windows="scaled", output_path=tmp_path / "demo.onnx"
    )
    progress = RecordedProgress()
    with shorten_demo(), shorten_timing():
        export(config, progress)
    assert progress.steps == [
        *(("tracing, steps", done, 2) for done in (0, 1, 2)),
        *(("computing the expected outputs, test inputs", done, 3) for done in (1, 2, 3)),
        *(("making onnx, steps", done, 4) for done in (0, 1, 2, 3, 4)),
    ]
    assert progress.messages[-1] == "making and checking onnx"
