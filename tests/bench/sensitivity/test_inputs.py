"""The images of a measurement are bounded, chosen by name, and complete batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.small_classifiers import SIZE, make_manifest
from tinyvit.bench.sensitivity.inputs import make_golden_inputs, read_inputs
from tinyvit.errors import ImageError, RequestError
from tinyvit.golden import CHIRP_FORMULA, CHIRP_PATTERNS
from tinyvit.manifest_parts import GoldenVectors
from tinyvit.runtimes.image_input import ImageInput


def make_image_input(batch_size: int | None) -> ImageInput:
    manifest = make_manifest("host", batch_size or "batch")
    return ImageInput("host", "NCHW", manifest.preprocess, batch_size)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two class folders: one of nine gray images, and one of a gray image."""
    for name in [*(f"many/{i}" for i in range(9)), "few/0"]:
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        shade = 10 * int(path.stem) + (200 if path.parent.name == "few" else 0)
        Image.new("RGB", (48, 40), (shade, shade, shade)).save(path)
    return tmp_path


@pytest.mark.parametrize(
    ("batch_size", "limit", "lengths"),
    [(1, 4, [1] * 4), (None, 64, [8, 2]), (3, 8, [3, 3]), (4, 3, [4]), (16, 64, [16])],
)
def test_batches_are_complete(
    folder: Path, batch_size: int | None, limit: int, lengths: list[int]
) -> None:
    inputs = read_inputs(folder, make_image_input(batch_size), limit)
    assert [len(batch) for batch in inputs.batches] == lengths
    assert all(batch.shape[1:] == (3, SIZE, SIZE) for batch in inputs.batches)
    is_padded = batch_size is not None and batch_size > min(limit, 10)
    assert inputs.image_count == (min(limit, 10) if is_padded else sum(lengths))
    assert inputs.warnings == ()


def test_folders_take_turns_and_the_choice_is_always_the_same(folder: Path) -> None:
    first, second = (read_inputs(folder, make_image_input(1), 2) for _ in range(2))
    assert np.array_equal(first.batches, second.batches)
    assert first.source == f"the first 2 of 10 images in {folder.name}"
    # The normalized red channel of the only image in "few" is (200 / 255 - 0.485) / 0.229.
    reds = [float(batch[0, 0, 0, 0]) for batch in first.batches]
    assert max(reds) == pytest.approx(1.3070, abs=1e-4)
    assert min(reds) < 0


def test_unreadable_images_are_left_out_with_a_warning(folder: Path) -> None:
    (folder / "few" / "0.png").write_bytes(b"damaged")
    inputs = read_inputs(folder, make_image_input(1), 64)
    assert inputs.image_count == 9
    assert inputs.warnings == ("unreadable images that were left out: 1",)


def test_too_many_unreadable_images_are_refused(folder: Path) -> None:
    for path in folder.glob("many/*.png"):
        path.write_bytes(b"damaged")
    with pytest.raises(RequestError, match="cannot be read; the first error: "):
        read_inputs(folder, make_image_input(1), 2)
    (folder / "few" / "0.png").write_bytes(b"damaged")
    with pytest.raises(ImageError):
        read_inputs(folder, make_image_input(1), 64)


def test_golden_inputs_are_those_of_the_artifact() -> None:
    golden = GoldenVectors(CHIRP_FORMULA, CHIRP_PATTERNS, SIZE, SIZE, (), (0.1,))
    inputs = make_golden_inputs(replace(make_manifest("host", 2), golden=golden))
    assert inputs.image_count == len(CHIRP_PATTERNS) == len(inputs.batches)
    assert {batch.shape for batch in inputs.batches} == {(2, 3, SIZE, SIZE)}
    assert "no photographs" in inputs.warnings[0]
    with pytest.raises(RequestError, match="no golden vectors"):
        make_golden_inputs(make_manifest("host", 2))
