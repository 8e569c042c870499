"""The study of the time from bytes to labels measures every stage in every round."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.small_classifiers import build_classifier
from tinyvit.studies import pixels_to_labels


@pytest.mark.parametrize("batch", ["batch", 2])
def test_every_stage_is_measured(tmp_path: Path, batch: int | str) -> None:
    artifact = build_classifier(tmp_path, ".onnx", "host", batch, True)
    buffer = io.BytesIO()
    Image.new("RGB", (400, 400)).save(buffer, "JPEG")
    times_ms = pixels_to_labels.measure_stages(artifact, [buffer.getvalue()], rounds=3)
    names = ["decode", "prepare", "network", "predict", "decode completely", "prepare completely"]
    assert list(times_ms) == names
    assert all(len(times) == 3 and min(times) >= 0 for times in times_ms.values())


def test_the_output_ends_with_the_ratio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = build_classifier(tmp_path, ".onnx", "normalize", 1, True)
    Image.new("RGB", (50, 40)).save(tmp_path / "a.jpg")
    assert pixels_to_labels.main([str(artifact), str(tmp_path / "a.jpg"), "--rounds", "2"]) == 0
    assert "predict / network: " in capsys.readouterr().out
