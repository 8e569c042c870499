"""The study that compares an NPU's emulator with onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tinyvit.studies.npu_emulator import compare_logits, main


def test_answers_are_compared_by_class_and_by_logit() -> None:
    logits = {
        "emulator": np.float32([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [0.0, 3.0]]),
        "onnxruntime": np.float32([[1.0, 0.0], [0.0, 1.5], [1.0, 1.25], [0.0, 3.0]]),
        "float32": np.float32([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]),
    }
    comparison = compare_logits(logits, [(0,), (1,), (0,), (0, 1)], tolerance=0.5)
    assert comparison.top1 == {"emulator": 100.0, "onnxruntime": 75.0, "float32": 75.0}
    assert comparison.reference_agreement == 75.0
    assert comparison.float32_agreement == 50.0
    assert comparison.largest_difference == 1.0
    assert comparison.describe()[-1] == "  logits differ by at most 1 (tolerance 0.5)"


def test_the_command_uses_several_processes(
    demo: dict[str, Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The engine is onnxruntime here, because the emulator takes seconds for an image."""
    folder = tmp_path / "val" / "espresso"
    folder.mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes((images / "coffee.jpg").read_bytes())
    arguments = ["--val-data", str(tmp_path / "val"), "--processes", "2", "--json"]
    assert main([str(demo["onnx"]), "--engine", "onnxruntime", *arguments]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["image_count"], record["reference_agreement"]) == (2, 100.0)
    assert record["largest_difference"] == 0.0
    assert record["float32_agreement"] is None
