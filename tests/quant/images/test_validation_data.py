"""Labeled images for measuring accuracy are decoded in batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.helpers.random_images import make_random_image, save_random_images
from tinyvit.errors import RequestError
from tinyvit.labels import Label
from tinyvit.preprocess import Preprocess
from tinyvit.quant.images import validation_data
from tinyvit.quant.images.validation_data import BATCH_SIZE, read_validation_set

PREPROCESS = Preprocess(16, 18)
LABELS = (
    Label("goldfish", "n01443537"),
    Label("crane", "n02012849"),
    Label("crane", "n03126707"),
    Label("my thing"),
)


def expected_pixels(number: int) -> bytes:
    """The pixels of `make_random_image(number)` after resizing and cropping."""
    return PREPROCESS.resize_and_crop(make_random_image(number)).tobytes()


def test_folders_are_named_by_wordnet_id_or_label(tmp_path: Path) -> None:
    classes = {
        "n03126707": (range(3), 2),
        "my thing/more": (range(10, 14), 3),
        "goldfish": (range(20, 20 + BATCH_SIZE), 0),
    }
    expected = {}
    for folder, (numbers, class_index) in classes.items():
        save_random_images(tmp_path / folder, numbers)
        expected.update({expected_pixels(number): class_index for number in numbers})
    validation = read_validation_set(tmp_path, PREPROCESS, LABELS)
    for _ in range(2):
        batches = list(validation.batches())
        assert [len(pixels) for pixels, _ in batches] == [BATCH_SIZE, 7]
        assert {
            image.tobytes(): int(class_index)
            for pixels, class_indices in batches
            for image, class_index in zip(pixels, class_indices)
        } == expected
    assert len(validation) == BATCH_SIZE + 7


@pytest.mark.parametrize("name", ["goldfisch", "crane"])
def test_unknown_and_ambiguous_classes_are_refused(tmp_path: Path, name: str) -> None:
    save_random_images(tmp_path / "goldfish", range(2))
    save_random_images(tmp_path / name, range(2))
    with pytest.raises(RequestError, match=rf"1 of the 2 .*\({name}\).*n01443537"):
        read_validation_set(tmp_path, PREPROCESS, LABELS)


def test_images_outside_class_folders_are_refused(tmp_path: Path) -> None:
    save_random_images(tmp_path, range(1))
    with pytest.raises(RequestError, match=r"000\.png"):
        read_validation_set(tmp_path, PREPROCESS, LABELS)
    with pytest.raises(RequestError, match="is not a folder"):
        read_validation_set(tmp_path / "000.png", PREPROCESS, LABELS)


def count_images(validation: validation_data.ValidationSet) -> int:
    return sum(len(class_indices) for _, class_indices in validation.batches())


def test_unreadable_images_are_counted_and_limited(tmp_path: Path) -> None:
    folder = save_random_images(tmp_path / "goldfish", range(40))
    (folder / "000.png").write_bytes(b"broken")
    (folder / "007.png").write_bytes(b"")
    validation = read_validation_set(tmp_path, PREPROCESS, LABELS)
    assert count_images(validation) == 38
    assert validation.skipped == 2
    readable_numbers = [number for number in range(40) if number not in (0, 7)]
    assert validation.readable_files == tuple(folder / f"{n:03}.png" for n in readable_numbers)
    (folder / "039.png").write_bytes(b"broken")
    assert count_images(validation) == 38, "a small set is decoded once"
    with pytest.raises(RequestError, match="3 of 40 images cannot be read"):
        count_images(read_validation_set(tmp_path, PREPROCESS, LABELS))


def test_a_large_set_is_decoded_in_every_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_data, "MAX_CACHED_BYTES", 1000)
    folder = save_random_images(tmp_path / "goldfish", range(40))
    validation = read_validation_set(tmp_path, PREPROCESS, LABELS)
    first_pass = [pixels.copy() for pixels, _ in validation.batches()]
    assert all(
        np.array_equal(first, second)
        for first, (second, _) in zip(first_pass, validation.batches())
    )
    (folder / "000.png").write_bytes(b"broken")
    assert count_images(validation) == 39
