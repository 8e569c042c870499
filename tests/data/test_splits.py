"""Folders of training, validation and test images are told from class folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit.data.class_folders import read_image_folder
from tinyvit.data.splits import find_split_folder, list_splits
from tinyvit.errors import RequestError


def make_folders(folder: Path, *names: str) -> Path:
    for name in names:
        for class_name in ("cat", "dog"):
            (folder / name / class_name).mkdir(parents=True)
            (folder / name / class_name / "1.jpg").touch()
    return folder


@pytest.mark.parametrize(
    ("names", "train", "val"),
    [
        (("train", "val"), "train", "val"),
        (("train", "valid", "test"), "train", "valid"),
        (("Training", "Validation"), "Training", "Validation"),
        (("train", "val", "annotations"), "train", "val"),
    ],
)
def test_splits_are_found_by_their_usual_names(
    tmp_path: Path, names: tuple[str, ...], train: str, val: str
) -> None:
    make_folders(tmp_path, *names)
    assert find_split_folder(tmp_path, "train") == tmp_path / train
    assert find_split_folder(tmp_path, "val") == tmp_path / val
    images = read_image_folder(tmp_path)
    assert images.keys == ("cat/1.jpg", "dog/1.jpg")
    assert [label.name for label in images.labels or ()] == ["cat", "dog"]


def test_a_class_of_trains_is_not_a_split(tmp_path: Path) -> None:
    make_folders(tmp_path, "bus", "car", "train")
    assert list_splits(tmp_path) == {}
    assert [label.name for label in read_image_folder(tmp_path).labels or ()] == [
        "bus",
        "car",
        "train",
    ]


def test_a_missing_split_is_refused(tmp_path: Path) -> None:
    make_folders(tmp_path, "train", "test")
    with pytest.raises(RequestError, match=r"folder test and train|folder train and test"):
        find_split_folder(tmp_path, "val")
    assert read_image_folder(tmp_path).folder == tmp_path / "train"


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    make_folders(tmp_path, "train", "val", "valid")
    with pytest.raises(RequestError, match=r"two folders .* split val, val and valid"):
        find_split_folder(tmp_path, "train")


def test_a_single_split_is_found_if_it_contains_class_folders(tmp_path: Path) -> None:
    make_folders(tmp_path / "a", "train")
    assert find_split_folder(tmp_path / "a", "train") == tmp_path / "a" / "train"
    (tmp_path / "b" / "train").mkdir(parents=True)
    (tmp_path / "b" / "train" / "1.jpg").touch()
    assert list_splits(tmp_path / "b") == {}
    assert list_splits(tmp_path / "missing") == {}
