"""Calibration images: the choice depends on names and the seed alone, and bad data is refused.

The sources of images themselves are tested in tests/data/test_calibration_images.py.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

pytest.importorskip("torch")

from tests.helpers.random_images import make_random_image, save_random_images
from tinyvit.errors import RequestError
from tinyvit.images.decoding import open_image
from tinyvit.preprocess import Preprocess
from tinyvit.quant.images.calibration_data import (
    MIN_IMAGES,
    CalibrationSet,
    read_calibration_set,
    read_calibration_split,
)

PREPROCESS = Preprocess(16, 18)


def expected_pixels(number: int) -> bytes:
    """The pixels of `make_random_image(number)` after resizing and cropping."""
    return PREPROCESS.resize_and_crop(make_random_image(number)).tobytes()


def pixels_of(images: npt.NDArray[np.uint8]) -> set[bytes]:
    """The pixels of each image."""
    return {image.tobytes() for image in images}


def test_a_folder_is_read_in_the_models_preprocessing(tmp_path: Path) -> None:
    folder = save_random_images(tmp_path / "photos", range(40))
    calibration = read_calibration_set(folder, PREPROCESS, 32)
    assert calibration.pixels.shape == (32, 16, 16, 3)
    assert calibration.pixels[:].dtype == np.uint8
    assert pixels_of(calibration.pixels[:]) <= {expected_pixels(number) for number in range(40)}
    assert calibration.source == "32 of 40 images in photos, seed 0"
    assert calibration.skipped == 0


def test_the_seed_determines_the_choice(tmp_path: Path) -> None:
    folder = save_random_images(tmp_path / "a", range(48))
    same_in_other_order = save_random_images(tmp_path / "b", range(47, -1, -1))
    calibration = read_calibration_set(folder, PREPROCESS, 32)
    assert read_calibration_set(same_in_other_order, PREPROCESS, 32).sha256 == calibration.sha256
    assert read_calibration_set(folder, PREPROCESS, 32, seed=1).sha256 != calibration.sha256


def test_the_chosen_images_have_the_recorded_hashes(tmp_path: Path) -> None:
    """Recipes record these hashes: another choice of images would be another recipe."""
    exact_size = Preprocess(16, 16)
    for group, numbers in (("a", range(100, 104)), ("b", range(200, 230)), ("c", range(300, 330))):
        save_random_images(tmp_path / group, numbers, size=(16, 16))
    assert [read_calibration_set(tmp_path, exact_size, 32, seed).sha256 for seed in (0, 1)] == [
        "25b815f47fec41ba49c06d42407608038f520b880607d4639ffeab46694e8a17",
        "37e4f3488c640ac0a4d33d5357692194178dcb11519c67cb174464cf25423904",
    ]
    calibration, held_out = read_calibration_split(tmp_path, exact_size, 40, 20)
    assert [calibration.sha256, hashlib.sha256(held_out.tobytes()).hexdigest()] == [
        "9a8b4a91c439c6852c27261dd6926a862a6faffd359cb842b5a576f722315722",
        "5b03e584718ed45b138955523ccf16f7a2dd10a276725d131bb3e8a6290e1276",
    ]


def test_the_hash_covers_pixels_their_order_and_the_preprocessing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    hashes = {
        CalibrationSet.from_pixels(pixels, "", PREPROCESS).sha256,
        CalibrationSet.from_pixels(pixels[::-1], "", PREPROCESS).sha256,
        CalibrationSet.from_pixels(pixels, "", Preprocess(16, 20)).sha256,
        CalibrationSet.from_pixels(pixels ^ np.uint8(1), "", PREPROCESS).sha256,
    }
    assert len(hashes) == 4
    assert CalibrationSet.from_pixels(pixels, "other words", PREPROCESS).sha256 in hashes


def test_classes_contribute_equally_as_far_as_they_go(tmp_path: Path) -> None:
    class_of_pixels = {}
    for name, numbers in (("a", range(100, 104)), ("b", range(200, 230)), ("c", range(300, 330))):
        save_random_images(tmp_path / "in" / name, numbers)
        class_of_pixels.update({expected_pixels(number): name for number in numbers})
    calibration = read_calibration_set(tmp_path / "in", PREPROCESS, 32)
    counts = Counter(class_of_pixels[image.tobytes()] for image in calibration.pixels[:])
    assert counts == {"a": 4, "b": 14, "c": 14}


def test_more_classes_than_images_are_drawn_by_the_seed(tmp_path: Path) -> None:
    for number in range(50):
        save_random_images(tmp_path / "in" / f"class{number:02}", [number])
    first_by_name = {expected_pixels(number) for number in range(32)}
    assert (
        pixels_of(read_calibration_set(tmp_path / "in", PREPROCESS, 32).pixels[:]) != first_by_name
    )


def test_all_images_are_used_where_there_are_fewer(tmp_path: Path) -> None:
    calibration = read_calibration_set(save_random_images(tmp_path / "few", range(35)), PREPROCESS)
    assert len(calibration.pixels) == 35
    assert calibration.source.startswith("35 of 35")


def test_a_list_of_paths_is_read(tmp_path: Path) -> None:
    save_random_images(tmp_path / "deep", range(33))
    lines = [f"deep/{number:03}.png" for number in range(33)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    calibration = read_calibration_set(tmp_path / "list.txt", PREPROCESS)
    assert pixels_of(calibration.pixels[:]) == {expected_pixels(number) for number in range(33)}


def test_an_array_goes_through_the_preprocessing(tmp_path: Path) -> None:
    images = np.stack([np.asarray(make_random_image(number, (30, 50))) for number in range(36)])
    np.savez(tmp_path / "images.npz", images)
    calibration = read_calibration_set(tmp_path / "images.npz", PREPROCESS)
    assert pixels_of(calibration.pixels[:]) == {
        PREPROCESS.resize_and_crop(Image.fromarray(image)).tobytes() for image in images
    }


def test_the_exif_rotation_is_ignored(tmp_path: Path) -> None:
    folder = save_random_images(tmp_path / "photos", range(31))
    exif = Image.Exif()
    exif[0x0112] = 6
    make_random_image(99).save(folder / "rotated.png", exif=exif)
    calibration = read_calibration_set(folder, PREPROCESS)
    rotated = PREPROCESS.resize_and_crop(open_image(folder / "rotated.png")).tobytes()
    assert rotated not in pixels_of(calibration.pixels[:])
    assert expected_pixels(99) in pixels_of(calibration.pixels[:])


def test_few_unreadable_files_are_left_out(tmp_path: Path) -> None:
    folder = save_random_images(tmp_path / "photos", range(40))
    (folder / "broken1.png").write_bytes(b"\x89PNG")
    (folder / "broken2.jpg").write_bytes(b"")
    calibration = read_calibration_set(folder, PREPROCESS)
    assert (len(calibration.pixels), calibration.skipped) == (40, 2)
    assert "2 unreadable" in calibration.source


def test_what_was_skipped_in_a_folder_and_followed_is_stated(tmp_path: Path) -> None:
    folder = save_random_images(tmp_path / "photos", range(40))
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "notes.txt").touch()
    (folder / "more").symlink_to(save_random_images(tmp_path / "elsewhere", range(50, 52)))
    (folder / "gone.png").symlink_to(tmp_path / "gone.png")
    assert read_calibration_set(folder, PREPROCESS).source == (
        "42 of 42 images in photos, seed 0, skipped 1 hidden or system entry and 1 file that is"
        " not an image, followed 1 linked folder (more), skipped 1 broken link (gone.png)"
    )


def test_many_unreadable_files_are_refused(tmp_path: Path) -> None:
    folder = save_random_images(tmp_path / "photos", range(40))
    for number in range(3):
        (folder / f"broken{number}.png").write_bytes(b"x")
    with pytest.raises(
        RequestError, match=r"3 of 43 images cannot be read; the first error: .*broken\d"
    ):
        read_calibration_set(folder, PREPROCESS)


def test_copies_count_once(tmp_path: Path) -> None:
    folder = save_random_images(tmp_path / "photos", range(34))
    for number in range(20):
        make_random_image(3).save(folder / f"copy{number}.png")
    calibration = read_calibration_set(folder, PREPROCESS)
    assert len(calibration.pixels) == len(pixels_of(calibration.pixels[:])) == 34
    assert "20 copies" in calibration.source


def test_copies_of_a_single_image_are_refused(tmp_path: Path) -> None:
    for number in range(256):
        make_random_image(1).save(tmp_path / f"{number}.png")
    with pytest.raises(RequestError, match=r"1 different images.*255 copies"):
        read_calibration_set(tmp_path, PREPROCESS)


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"31 different images.*at least 32"):
        read_calibration_set(save_random_images(tmp_path / "few", range(31)), PREPROCESS)


def test_an_image_of_one_color_is_refused_by_name(tmp_path: Path) -> None:
    folder = save_random_images(tmp_path / "photos", range(32))
    Image.new("RGB", (30, 30), "gray").save(folder / "plain.png")
    with pytest.raises(RequestError, match=r"plain\.png.*one color"):
        read_calibration_set(folder, PREPROCESS)


@pytest.mark.parametrize("count", [31, 1_000_001, -1])
def test_counts_outside_the_range_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(
        RequestError, match=f"{count} calibration.*--calib-count a number from 32 to 1000000"
    ):
        read_calibration_set(tmp_path, PREPROCESS, count)
    with pytest.raises(
        RequestError, match=f"{count} calibration.*--calib-count a number from 32 to 1000000"
    ):
        read_calibration_split(tmp_path, PREPROCESS, count)


@pytest.mark.parametrize("name", ["missing", "missing.txt", "notes.pdf"])
def test_data_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    with pytest.raises(RequestError, match="give a folder of images"):
        read_calibration_set(tmp_path / name, PREPROCESS)


def test_held_out_images_are_not_calibrated_on(tmp_path: Path) -> None:
    for name, numbers in (("a", range(60)), ("b", range(100, 160))):
        save_random_images(tmp_path / "in" / name, numbers)
    for number in range(10):
        make_random_image(number).save(tmp_path / "in" / "b" / f"copy{number}.png")
    calibration, held_out = read_calibration_split(tmp_path / "in", PREPROCESS, 40, 50)
    assert (len(calibration.pixels), len(held_out)) == (40, 50)
    assert not pixels_of(calibration.pixels[:]) & pixels_of(held_out)
    assert calibration.sha256 == read_calibration_set(tmp_path / "in", PREPROCESS, 40).sha256
    assert "50 held out" in calibration.source


@pytest.mark.parametrize(
    ("available", "count", "expected_held_out"),
    [(200, 256, 67), (400, 256, 144), (500, 450, 100), (90, 256, 58), (40, 256, 8)],
)
def test_small_folders_are_divided(
    tmp_path: Path, available: int, count: int, expected_held_out: int
) -> None:
    folder = save_random_images(tmp_path, range(available))
    calibration, held_out = read_calibration_split(folder, PREPROCESS, count, 1000)
    assert len(held_out) == expected_held_out
    assert len(calibration.pixels) == available - expected_held_out


def test_a_folder_with_nothing_to_hold_out_is_refused(tmp_path: Path) -> None:
    folder = save_random_images(tmp_path, range(MIN_IMAGES))
    with pytest.raises(RequestError, match="32 different images, all of which calibration needs"):
        read_calibration_split(folder, PREPROCESS)


def test_photographs_are_read(shared: Path) -> None:
    photographs = shared / "data" / "imagenet-sample-250"
    calibration = read_calibration_set(photographs, Preprocess(224, 235), 40)
    assert calibration.pixels.shape == (40, 224, 224, 3)
    available = len(os.listdir(photographs))
    assert calibration.source == f"40 of {available} images in imagenet-sample-250, seed 0"
    class_folders = shared / "data" / "tiny-imagenet-10" / "train"
    assert len(read_calibration_split(class_folders, Preprocess(32, 32), 100, 100)[1]) == 100
