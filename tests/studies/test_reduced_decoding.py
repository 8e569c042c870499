"""The study of reduced decoding finds differences where there are some, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.small_classifiers import build_classifier
from tinyvit.studies import reduced_decoding
from tinyvit.studies.reduced_decoding import make_large_jpeg, measure_difference


def save_noise(path: Path, side: int = 200) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=90)
    return path


def test_differences_decrease_with_the_ratio(tmp_path: Path) -> None:
    file = save_noise(tmp_path / "a.jpg")
    near, far = (measure_difference(file, 2, size, "bicubic") for size in (80, 25))
    assert near > 2 * far > 0
    Image.new("RGB", (200, 200), (90, 120, 60)).save(tmp_path / "flat.jpg")
    assert measure_difference(tmp_path / "flat.jpg", 4, 20, "bicubic") == 0


def test_the_table_has_every_reduction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_noise(tmp_path / "a.jpg", side=260)
    Image.new("RGB", (200, 200)).save(tmp_path / "b.png")
    assert reduced_decoding.main([str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "1 photographs, bicubic" in output
    rows = [line for line in output.splitlines() if line.startswith("| 1/")]
    assert len(rows) == 15


def test_large_files_are_enlarged_and_noisy(tmp_path: Path) -> None:
    Image.new("RGB", (20, 30), (100, 100, 100)).save(tmp_path / "a.png")
    contents = [make_large_jpeg(tmp_path / "a.png", 3, grain, seed=1) for grain in (0, 9)]
    for content, (low, high) in zip(contents, ((0, 0), (6, 12))):
        (tmp_path / "b.jpg").write_bytes(content)
        with Image.open(tmp_path / "b.jpg") as image:
            assert image.size == (60, 90)
            assert low <= np.asarray(image).std() <= high


def test_classes_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "artifact").mkdir()
    artifact = build_classifier(tmp_path / "artifact", ".onnx", "host", "batch", True)
    for name in ("n00000000", "n00000001"):
        save_noise(tmp_path / "photographs" / name / "a.jpg", side=40)
    options = ["--artifact", str(artifact), "--enlarge", "5", "--limit", "2"]
    assert reduced_decoding.main([str(tmp_path / "photographs"), *options]) == 0
    output = capsys.readouterr().out
    assert "complete: top-1 " in output
    assert "2 photographs: mean difference 0." in output
    assert "mean difference 0.00" not in output
