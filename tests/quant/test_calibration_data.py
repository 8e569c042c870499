"""Calibration and validation images: every source, every refusal, and a choice that depends on nothing but names and the seed."""

from __future__ import annotations

import io
import os
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinyvit.errors import RequestError
from tinyvit.images import open_image
from tinyvit.labels import Label
from tinyvit.preprocess import Preprocess
from tinyvit.quant import calibration_data as data
from tinyvit.quant.calibration_data import (
    BATCH,
    MIN_IMAGES,
    CalibrationSet,
    read_calibration,
    read_validation,
    split_calibration,
)

RULE = Preprocess(16, 18)


def picture(number: int, size: tuple[int, int] = (20, 24)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8))


def fill(folder: Path, numbers: Iterable[int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture(number).save(folder / f"{number:03}.png")
    return folder


def keys(pixels: np.ndarray) -> set[bytes]:
    return {one.tobytes() for one in pixels}


def test_a_folder_in_the_models_preprocessing(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", range(40))
    made = read_calibration(folder, RULE, 32)
    assert made.pixels.shape == (32, 16, 16, 3)
    assert made.pixels.dtype == np.uint8
    assert keys(made.pixels) <= {
        RULE.resize_and_crop(picture(number)).tobytes() for number in range(40)
    }
    assert made.source == "32 of 40 pictures in photos, seed 0"
    assert made.skipped == 0


def test_the_choice_is_the_seeds(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", range(48))
    made = read_calibration(folder, RULE, 32)
    copy = fill(tmp_path / "b", range(47, -1, -1))  # in another order, in another place
    assert read_calibration(copy, RULE, 32).sha256 == made.sha256
    assert read_calibration(folder, RULE, 32, seed=1).sha256 != made.sha256


def test_the_hash_is_of_pixels_their_order_and_the_preprocessing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    made = {
        CalibrationSet.of(pixels, "", RULE).sha256,
        CalibrationSet.of(pixels[::-1], "", RULE).sha256,
        CalibrationSet.of(pixels, "", Preprocess(16, 20)).sha256,
        CalibrationSet.of(pixels ^ np.uint8(1), "", RULE).sha256,
    }
    assert len(made) == 4
    assert CalibrationSet.of(pixels, "other words", RULE).sha256 in made


def test_classes_share_equally_as_far_as_they_go(tmp_path: Path) -> None:
    owner = {}
    for name, numbers in (("a", range(100, 104)), ("b", range(200, 230)), ("c", range(300, 330))):
        fill(tmp_path / "in" / name, numbers)
        owner.update({RULE.resize_and_crop(picture(number)).tobytes(): name for number in numbers})
    made = read_calibration(tmp_path / "in", RULE, 32)
    assert Counter(owner[one.tobytes()] for one in made.pixels) == {"a": 4, "b": 14, "c": 14}


def test_more_classes_than_pictures_are_drawn_by_the_seed(tmp_path: Path) -> None:
    for number in range(50):
        fill(tmp_path / "in" / f"class{number:02}", range(number, number + 1))
    first = {RULE.resize_and_crop(picture(number)).tobytes() for number in range(32)}
    assert keys(read_calibration(tmp_path / "in", RULE, 32).pixels) != first


def test_fewer_than_asked_are_all_used_and_it_is_said(tmp_path: Path) -> None:
    made = read_calibration(fill(tmp_path / "few", range(35)), RULE)
    assert len(made.pixels) == 35
    assert made.source.startswith("35 of 35")


def test_a_list_is_relative_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "in" / "deep", range(33))
    listed = tmp_path / "in" / "list.txt"
    listed.write_text(
        "\ufeff" + "\r\n\r\n".join(f"deep/{number:03}.png" for number in range(33)) + "\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    assert keys(read_calibration("in/list.txt", RULE).pixels) == {
        RULE.resize_and_crop(picture(number)).tobytes() for number in range(33)
    }


def test_an_array_goes_through_the_preprocessing(tmp_path: Path) -> None:
    images = np.stack([np.asarray(picture(number, (30, 50))) for number in range(36)])
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "images.npz", images)
        made = read_calibration(tmp_path / "images.npz", RULE)
        assert keys(made.pixels) == {
            RULE.resize_and_crop(Image.fromarray(one)).tobytes() for one in images
        }


def test_exif_rotation_is_not_honored(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", range(31))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(99).save(folder / "turned.png", exif=exif)
    made = read_calibration(folder, RULE)
    assert RULE.resize_and_crop(open_image(folder / "turned.png")).tobytes() not in keys(
        made.pixels
    )
    assert RULE.resize_and_crop(picture(99)).tobytes() in keys(made.pixels)


def test_unreadable_files_are_passed_over_up_to_a_share(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", range(40))
    (folder / "broken1.png").write_bytes(b"\x89PNG")
    (folder / "broken2.jpg").write_bytes(b"")
    made = read_calibration(folder, RULE)
    assert (len(made.pixels), made.skipped) == (40, 2)
    assert "2 unreadable" in made.source
    (folder / "broken3.png").write_bytes(b"x")
    with pytest.raises(
        RequestError, match=r"3 of the 43 pictures looked at cannot be read, the first: .*broken\d"
    ):
        read_calibration(folder, RULE)


def test_copies_count_once(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", range(34))
    for number in range(20):
        picture(3).save(folder / f"copy{number}.png")
    made = read_calibration(folder, RULE)
    assert len(made.pixels) == len(keys(made.pixels)) == 34
    assert "20 copies" in made.source
    same = tmp_path / "same"
    same.mkdir()
    for number in range(256):
        picture(1).save(same / f"{number}.png")
    with pytest.raises(RequestError, match="1 different pictures"):
        read_calibration(same, RULE)


def test_too_few_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"31 different pictures.*at least 32"):
        read_calibration(fill(tmp_path / "few", range(31)), RULE)


def test_a_picture_of_one_color_is_refused_by_name(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", range(32))
    Image.new("RGB", (30, 30), "gray").save(folder / "plain.png")
    with pytest.raises(RequestError, match=r"plain\.png.*one color"):
        read_calibration(folder, RULE)


@pytest.mark.parametrize("count", [31, 10_001, -1])
def test_counts_have_bounds(tmp_path: Path, count: int) -> None:
    with pytest.raises(RequestError, match="give 32 to 10000"):
        read_calibration(tmp_path, RULE, count)


@pytest.mark.parametrize("name", ["missing", "missing.txt", "notes.pdf"])
def test_what_is_no_source_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    with pytest.raises(RequestError, match="give a folder of images"):
        read_calibration(tmp_path / name, RULE)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    for content in (b"\xff\xfe\x00a", b"a\x00b"):
        (tmp_path / "list.txt").write_bytes(content)
        with pytest.raises(RequestError, match=r"the list .* cannot be read"):
            read_calibration(tmp_path / "list.txt", RULE)


def npz(header: bytes, body: bytes, names: tuple[str, ...] = ("a.npy",)) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(
                name, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body
            )
    return buffer.getvalue()


def described(shape: str, dtype: str = "|u1", fortran: bool = False) -> bytes:
    return f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}}}\n".encode()


GOOD = described("(40, 20, 20, 3)")
BODY = np.random.default_rng(0).integers(0, 256, 40 * 20 * 20 * 3, np.uint8).tobytes()
HOSTILE = {
    "empty": b"",
    "no zip": b"PK\x03\x04 and no more",
    "cut": npz(GOOD, BODY)[:3000],
    "flipped": npz(GOOD, BODY)[:2000] + bytes(64) + npz(GOOD, BODY)[2064:],
    "huge": npz(described("(1000000, 30000, 30000, 3)"), b"\0" * 100),
    "less than said": npz(GOOD, BODY[:-1]),
    "more than said": npz(GOOD, BODY + b"\0"),
    "negative": npz(described("(-40, -20, 20, 3)"), BODY),
    "none": npz(described("(0, 20, 20, 3)"), b""),
    "float": npz(described("(40, 20, 20, 3)", "<f4"), BODY * 4),
    "objects": npz(described("(40,)", "|O"), b"cos\nsystem\n(S'true'\ntR."),
    "channels first": npz(described("(40, 3, 20, 20)"), BODY),
    "one picture": npz(described("(20, 20, 3)"), BODY[:1200]),
    "fortran": npz(described("(40, 20, 20, 3)", fortran=True), BODY),
    "two arrays": npz(GOOD, BODY, ("a.npy", "b.npy")),
    "no array": npz(GOOD, BODY, ()),
    "no header": npz(b"import os\n", BODY),
    "long header": npz(b"(" * 60000, BODY),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_arrays_are_refused_on_one_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "good.npz").write_bytes(npz(GOOD, BODY))
    assert len(read_calibration(tmp_path / "good.npz", RULE).pixels) == 40
    (tmp_path / "bad.npz").write_bytes(HOSTILE[kind])
    with pytest.raises(RequestError, match=r"bad\.npz cannot be used") as caught:
        read_calibration(tmp_path / "bad.npz", RULE)
    assert "\n" not in str(caught.value)


def test_what_is_held_out_is_in_no_calibration(tmp_path: Path) -> None:
    for name, numbers in (("a", range(60)), ("b", range(100, 160))):
        fill(tmp_path / "in" / name, numbers)
    for number in range(10):  # the same picture under another name
        picture(number).save(tmp_path / "in" / "b" / f"again{number}.png")
    calibration, held = split_calibration(tmp_path / "in", RULE, 40, 50)
    assert (len(calibration.pixels), len(held)) == (40, 50)
    assert not keys(calibration.pixels) & keys(held)
    assert calibration.sha256 == read_calibration(tmp_path / "in", RULE, 40).sha256
    assert "50 held out" in calibration.source


@pytest.mark.parametrize(
    ("found", "count", "held", "expected"),
    [
        (200, 256, 1000, 67),
        (400, 256, 1000, 144),
        (500, 450, 1000, 100),
        (90, 256, 1000, 58),
        (40, 256, 1000, 8),
    ],
)
def test_small_folders_are_shared_out(
    tmp_path: Path, found: int, count: int, held: int, expected: int
) -> None:
    calibration, left = split_calibration(fill(tmp_path, range(found)), RULE, count, held)
    assert (len(calibration.pixels), len(left)) == (found - expected, expected)


def test_nothing_to_hold_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="32 different pictures, all needed"):
        split_calibration(fill(tmp_path, range(MIN_IMAGES)), RULE)


LABELS = (
    Label("goldfish", "n01443537"),
    Label("crane", "n02012849"),
    Label("crane", "n03126707"),
    Label("my thing"),
)


def test_validation_by_wordnet_id_and_by_name(tmp_path: Path) -> None:
    fill(tmp_path / "n03126707", range(3))
    fill(tmp_path / "my thing" / "more", range(10, 14))
    fill(tmp_path / "goldfish", range(20, 20 + BATCH))
    made = read_validation(tmp_path, RULE, LABELS)
    for _ in range(2):
        batches = list(made.batches())
        assert [len(pixels) for pixels, _ in batches] == [BATCH, 7]
        right = (
            dict.fromkeys(range(3), 2)
            | dict.fromkeys(range(10, 14), 3)
            | dict.fromkeys(range(20, 20 + BATCH), 0)
        )
        wanted = {
            RULE.resize_and_crop(picture(number)).tobytes(): index
            for number, index in right.items()
        }
        seen = {
            one.tobytes(): int(index)
            for pixels, classes in batches
            for one, index in zip(pixels, classes)
        }
        assert seen == wanted
    assert len(made) == BATCH + 7


@pytest.mark.parametrize("name", ["goldfisch", "crane"])
def test_unknown_and_ambiguous_classes_are_refused(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "goldfish", range(2))
    fill(tmp_path / name, range(2))
    with pytest.raises(RequestError, match=rf"1 of the 2 .*\({name}\).*n01443537"):
        read_validation(tmp_path, RULE, LABELS)


def test_pictures_outside_class_folders_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, range(1))
    with pytest.raises(RequestError, match=r"000\.png"):
        read_validation(tmp_path, RULE, LABELS)
    with pytest.raises(RequestError, match="no folder"):
        read_validation(tmp_path / "000.png", RULE, LABELS)


def test_unreadable_validation_pictures_are_counted_and_bounded(tmp_path: Path) -> None:
    folder = fill(tmp_path / "goldfish", range(40))
    (folder / "000.png").write_bytes(b"broken")
    (folder / "007.png").write_bytes(b"")
    made = read_validation(tmp_path, RULE, LABELS)
    assert sum(len(classes) for _, classes in made.batches()) == 38
    assert made.skipped == 2
    (folder / "039.png").write_bytes(b"broken")
    assert sum(len(classes) for _, classes in made.batches()) == 38, "read once"
    with pytest.raises(RequestError, match="3 of the 40 pictures looked at cannot be read"):
        list(read_validation(tmp_path, RULE, LABELS).batches())


def test_many_validation_pictures_are_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "MAX_KEPT_BYTES", 1000)
    folder = fill(tmp_path / "goldfish", range(40))
    made = read_validation(tmp_path, RULE, LABELS)
    first = [pixels.copy() for pixels, _ in made.batches()]
    assert all(np.array_equal(a, b) for a, (b, _) in zip(first, made.batches()))
    (folder / "000.png").write_bytes(b"broken")
    assert sum(len(classes) for _, classes in made.batches()) == 39


def test_real_photographs(shared: Path) -> None:
    photos = shared / "data" / "imagenet-sample-250"
    rule = Preprocess(224, 235)
    made = read_calibration(photos, rule, 40)
    assert made.pixels.shape == (40, 224, 224, 3)
    assert made.source == f"40 of {len(os.listdir(photos))} pictures in imagenet-sample-250, seed 0"
    classes = shared / "data" / "tiny-imagenet-10" / "train"
    assert len(split_calibration(classes, Preprocess(32, 32), 100, 100)[1]) == 100
