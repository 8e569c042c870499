"""The search example prints the most similar photographs first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.small_encoders import build_encoder

SCRIPT = Path(__file__).parents[2] / "examples" / "search" / "search.py"


def test_the_most_similar_images_come_first(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    colors = {"red.png": (250, 0, 0), "more/orange.png": (250, 125, 0), "blue.png": (0, 0, 250)}
    for name, color in colors.items():
        Image.fromarray(np.full((20, 30, 3), color, np.uint8)).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"no image")
    example = tmp_path / "example.png"
    Image.fromarray(np.full((9, 9, 3), (200, 20, 0), np.uint8)).save(example)
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(build_encoder(tmp_path)), str(example), str(folder)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"0.995  {folder / 'red.png'}",
        f"0.934  {folder / 'more' / 'orange.png'}",
        f"0.000  {folder / 'blue.png'}",
    ]


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "missing.onnx"), "a.jpg", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")


def test_the_script_has_forty_lines() -> None:
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 40
