"""Text files list images and their classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinyvit.data.image_lists import MAX_LINES, read_labeled_list
from tinyvit.errors import RequestError
from tinyvit.labels import Label
from tinyvit.preprocess import Preprocess
from tinyvit.quant.images.validation_data import read_validation_set

LABELS = (Label("tabby", "n02123045"), Label("school bus"), Label("oak tree"))


def write_list(folder: Path, text: str) -> Path:
    path = folder / "list.txt"
    path.write_text(text)
    return path


def test_each_line_has_a_path_and_a_class(tmp_path: Path) -> None:
    text = "../b c/2.jpg\tschool bus\n\na/1.jpg\tn02123045\n  z.jpg\toak tree\r\n"
    images = read_labeled_list(write_list(tmp_path, text), LABELS)
    assert images.files == (
        tmp_path / "../b c/2.jpg",
        tmp_path / "a/1.jpg",
        tmp_path / "z.jpg",
    )
    assert images.class_indices.tolist() == [1, 0, 2]
    assert images.describe() == "3 images of 3 classes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.txt is empty: list one image in each line"),
        ("a.jpg\ttabby\nb.jpg\n", "list.txt has a line without a class: b.jpg: write the path of"),
        ("a.jpg\ttabby\na.jpg\toak tree\n", "list.txt has an image twice: list each image once"),
        ("a.jpg\tlion\n", "lion"),
        ("a.jpg\0\ttabby\n", "list.txt cannot be read .it is not text.: give one path per line"),
        ("a.jpg\ttabby\n" * (MAX_LINES + 1), "it has 1500001 lines, more than 1500000"),
    ],
)
def test_other_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_labeled_list(write_list(tmp_path, text), LABELS)


def test_validation_images_can_be_a_list(tmp_path: Path) -> None:
    for name, red in (("a", 10), ("b", 20)):
        Image.new("RGB", (64, 64), (red, 0, 0)).save(tmp_path / f"{name}.png")
    source = write_list(tmp_path, "b.png\ttabby\na.png\toak tree\n")
    ((pixels, classes),) = read_validation_set(
        source, Preprocess(size=64, resize=64), LABELS
    ).batches()
    assert np.array_equal(pixels[:, 0, 0], [[10, 0, 0], [20, 0, 0]])
    assert classes.tolist() == [2, 0]
