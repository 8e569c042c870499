"""Folders with one subfolder for each class are read for training and for validation."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinyvit.data.class_folder_checks import require_filled_class_folders
from tinyvit.data.class_folders import class_folder_name, read_image_folder, read_labeled_images
from tinyvit.data.dataset import DatasetLocation, open_dataset
from tinyvit.data.listing import read_listing
from tinyvit.data.splits import find_split_folder
from tinyvit.errors import ImageError, RequestError
from tinyvit.labels import Label

LABELS = (
    Label("goldfish", "n01443537"),
    Label("crane", "n02012849"),
    Label("crane", "n03126707"),
    Label("my thing"),
)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * len(name))
    return folder


def test_class_folders_give_labels_and_indices(tmp_path: Path) -> None:
    touch(tmp_path, "widget/b.jpg", "n01443537/deep/a.jpg", "n01443537/c.png", ".hidden/d.jpg")
    images = read_image_folder(tmp_path)
    assert images.keys == ("n01443537/c.png", "n01443537/deep/a.jpg", "widget/b.jpg")
    assert images.labels == (Label("goldfish", "n01443537"), Label("widget"))
    assert images.class_indices is not None
    assert images.class_indices.dtype == np.int64
    assert images.class_indices.tolist() == [0, 0, 1]
    assert len(images) == 3


def test_images_without_class_folders_have_no_labels(tmp_path: Path) -> None:
    images = read_image_folder(touch(tmp_path, "a.jpg", "cat/b.jpg"))
    assert images.keys == ("a.jpg", "cat/b.jpg")
    assert images.labels is None
    assert images.class_indices is None
    with pytest.raises(RequestError, match="has no class folders"):
        images.find_class_indices(LABELS)


def test_the_training_split_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/a.jpg", "val/cat/b.jpg")
    assert read_image_folder(tmp_path).folder == tmp_path / "train"
    assert find_split_folder(tmp_path, "val") == tmp_path / "val"
    assert find_split_folder(tmp_path / "val", "val") == tmp_path / "val"


def test_the_hash_covers_names_and_sizes(tmp_path: Path) -> None:
    images = read_image_folder(touch(tmp_path, "cat/a.jpg", "dog/bb.jpg"))
    assert images.sha256 == hashlib.sha256(b"cat/a.jpg\x009\ndog/bb.jpg\x0010\n").hexdigest()


def test_classes_become_indices_into_the_labels_of_a_model(tmp_path: Path) -> None:
    touch(tmp_path, "my thing/a.jpg", "n01443537/a.jpg", "n03126707/a.jpg")
    images = read_image_folder(tmp_path)
    indices = images.find_class_indices(LABELS)
    assert indices.dtype == np.int64
    assert indices.tolist() == [3, 0, 2]
    # A model without WordNet ids knows the class by its label.
    assert images.find_class_indices(
        (Label("crane"), Label("my thing"), Label("goldfish"))
    ).tolist() == [1, 2, 0]
    with pytest.raises(
        RequestError,
        match=r"1 of the 3 class folders in .* do not match exactly one class of the model \(my",
    ):
        images.find_class_indices(LABELS[:3])


def test_images_are_opened_without_their_rotation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 2)).save(tmp_path / "a.png", exif=exif)
    assert read_image_folder(tmp_path).open(0).size == (4, 2)
    (tmp_path / "b.png").touch()
    images = read_image_folder(tmp_path)
    with pytest.raises(ImageError, match="empty"):
        images.open(1)


@pytest.mark.parametrize(
    "read", [read_image_folder, lambda path: read_labeled_images(path, LABELS)]
)
def test_what_is_not_a_folder_is_refused(tmp_path: Path, read: object) -> None:
    touch(tmp_path, "000.png")
    for name in ("000.png", "missing"):
        with pytest.raises(RequestError, match="is not a folder"):
            read(tmp_path / name)  # type: ignore[operator]


def test_class_folders_are_matched_by_wordnet_id_or_label(tmp_path: Path) -> None:
    touch(tmp_path, "n03126707/1.png", "my thing/more/2.png", "goldfish/3.png", "n01443537/4.png")
    images = read_labeled_images(tmp_path, LABELS)
    assert [file.name for file in images.files] == ["3.png", "2.png", "4.png", "1.png"]
    assert images.class_indices.tolist() == [0, 3, 0, 2]
    assert len(images) == 4
    text = b"0/goldfish/3.png\x0014\n3/more/2.png\x0019\n0/n01443537/4.png\x0015\n"
    assert images.sha256 == hashlib.sha256(text + b"2/n03126707/1.png\x0015\n").hexdigest()


@pytest.mark.parametrize("name", ["goldfisch", "crane", "0", "Goldfish"])
def test_unknown_and_ambiguous_classes_are_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "goldfish/1.png", f"{name}/2.png")
    with pytest.raises(RequestError, match=rf"1 of the 2 .*\({name}\).*n01443537"):
        read_labeled_images(tmp_path, LABELS)


def test_images_outside_class_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"000\.png"):
        read_labeled_images(touch(tmp_path, "000.png"), LABELS)


def test_the_class_folder_of_a_key() -> None:
    assert class_folder_name("cat/1.jpg") == "cat"
    assert class_folder_name("cat/more/1.jpg") == "cat"
    assert class_folder_name("Val/cat/1.jpg") == "cat"
    assert class_folder_name("test/1.jpg") == "test"


@pytest.mark.parametrize(
    "read", [read_image_folder, lambda path: read_labeled_images(path, LABELS)]
)
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "class folder crane of data is a link that leads to nothing"),
        (
            "data/goldfish",
            "class folder crane of data is a link to a folder whose images are already",
        ),
        (None, "class folder crane of data has no images"),
    ],
)
def test_a_class_that_would_be_lost_is_refused(
    tmp_path: Path, read: object, target: str | None, message: str
) -> None:
    data = touch(tmp_path / "data", "goldfish/1.jpg", "my thing/1.jpg")
    if target is None:
        (data / "crane").mkdir()
    else:
        (data / "crane").symlink_to(tmp_path / target)
    with pytest.raises(RequestError, match=message):
        read(data)  # type: ignore[operator]


def test_linked_class_folders_and_skipped_entries_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.jpg", "data/goldfish/2.jpg", "data/.ipynb_checkpoints/3.jpg")
    touch(tmp_path / "data", "__MACOSX/goldfish/._2.jpg", "goldfish/notes.txt")
    (tmp_path / "data" / "my thing").symlink_to(tmp_path / "elsewhere")
    images = read_image_folder(tmp_path / "data")
    skipped = (
        "skipped 2 hidden or system entries and 1 file that is not an image; followed 1 linked"
        " folder (my thing)"
    )
    assert images.keys == ("goldfish/2.jpg", "my thing/1.jpg")
    assert images.labels == (Label("goldfish"), Label("my thing"))
    assert images.describe() == f"2 images of 2 classes in {tmp_path / 'data'}; {skipped}"
    labeled = read_labeled_images(tmp_path / "data", LABELS)
    assert labeled.class_indices.tolist() == [0, 3]
    assert labeled.describe() == f"2 images of 2 classes; {skipped}"


def test_a_stray_image_is_named(tmp_path: Path) -> None:
    images = read_image_folder(touch(tmp_path, "cat/1.jpg", "dog/1.jpg", "overview.png"))
    with pytest.raises(RequestError, match=r"1 of the 3 images .* class folder, such as overview"):
        images.require_class_folders()


def test_one_folder_around_the_class_folders_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "photos/cat/1.jpg", "photos/dog/1.jpg")
    with pytest.raises(RequestError, match=r"only one class folder, photos, .* 2 folders inside"):
        read_image_folder(tmp_path)
    assert read_image_folder(tmp_path / "photos").labels == (Label("cat"), Label("dog"))
    touch(tmp_path / "single", "cat/2023/1.jpg", "cat/2.jpg")
    assert read_image_folder(tmp_path / "single").labels == (Label("cat"),)


def test_accents_match_in_every_composition(tmp_path: Path) -> None:
    touch(tmp_path, "cafe\u0301/1.jpg")
    images = read_labeled_images(tmp_path, (Label("tea"), Label("caf\u00e9")))
    assert images.class_indices.tolist() == [1]


def test_validation_images_are_read_from_their_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/goldfish/1.jpg", "valid/goldfish/2.jpg", "valid/my thing/3.jpg")
    images = read_labeled_images(tmp_path, LABELS)
    assert [file.name for file in images.files] == ["2.jpg", "3.jpg"]
    assert images.class_indices.tolist() == [0, 3]


def test_a_broken_link_to_an_image_is_no_class_folder(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").touch()
    (tmp_path / "2.png").symlink_to(tmp_path / "missing.png")
    listing = read_listing(tmp_path)
    require_filled_class_folders(tmp_path, ["cat/1.png"], listing)
    assert listing.notes == ("skipped 1 broken link (2.png)",)


@pytest.mark.parametrize("names", [("train", "dev"), ("train_images", "val_images")])
def test_splits_with_other_names_are_not_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        for class_name in ("cat", "dog"):
            (tmp_path / name / class_name).mkdir(parents=True)
            (tmp_path / name / class_name / "1.jpg").touch()
    with pytest.raises(RequestError, match="seem to be splits and not classes"):
        read_image_folder(tmp_path)


def test_splits_inside_folders_of_the_same_name_are_not_classes(tmp_path: Path) -> None:
    """Kaggle's archives are unpacked in this way."""
    classes = ("cat", "dog")
    for split in ("seg_train", "seg_test"):
        touch(tmp_path, *(f"{split}/{split}/{name}/1.jpg" for name in classes))
    touch(tmp_path, "seg_pred/seg_pred/1.jpg")
    with pytest.raises(RequestError, match=r"such as .*/seg_train/seg_train$"):
        read_image_folder(tmp_path)
    assert read_image_folder(tmp_path / "seg_train" / "seg_train").labels == (
        Label("cat"),
        Label("dog"),
    )


def test_splits_without_class_folders_are_not_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train_images/1.jpg", "test_images/2.jpg")
    with pytest.raises(RequestError, match="test_images and train_images, seem to be splits"):
        read_image_folder(tmp_path)


def test_classes_with_names_like_splits_are_classes(tmp_path: Path) -> None:
    for name in ("trainer", "valley"):
        (tmp_path / name / "more").mkdir(parents=True)
        (tmp_path / name / "more" / "1.jpg").touch()
    labels = read_image_folder(tmp_path).labels
    assert labels == (Label("trainer"), Label("valley"))


def test_folders_inside_class_folders_are_noted(tmp_path: Path) -> None:
    touch(tmp_path, "art/cat/1.jpg", "art/dog/1.jpg", "photo/1.jpg")
    counts = f"3 images of 2 classes in {tmp_path}"
    note = (
        "2 images are in folders inside the class folders, such as art/cat, whose names are not"
        " used as classes"
    )
    assert read_image_folder(tmp_path).describe() == f"{counts}; {note}"
    labels = (Label("art"), Label("photo"))
    assert read_labeled_images(tmp_path, labels).describe() == f"3 images of 2 classes; {note}"
    description = open_dataset(DatasetLocation(str(tmp_path))).description
    assert description == f"3 images in class folders of {tmp_path.name}; {note}"


@pytest.mark.parametrize("other", ["Cat", "cat - Copy", "cat (1)", "cat_"])
def test_class_folders_with_similar_names_are_noted(tmp_path: Path, other: str) -> None:
    touch(tmp_path, "cat/1.jpg", f"{other}/1.jpg", "dog/1.jpg")
    first, second = sorted(("cat", other))
    assert read_image_folder(tmp_path).notes == (
        f"{first!r} and {second!r} were read as different classes, although their names are"
        " similar",
    )
