"""Lists and arrays of calibration images, labels and orders of any size cost bounded time."""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.processes import run_limited
from tinyvit.data import calibration_images, image_lists
from tinyvit.data.calibration_images import (
    MAX_ARRAY_IMAGES,
    list_calibration_images,
    read_image_array,
)
from tinyvit.data.class_folders import read_image_folder, read_labeled_images
from tinyvit.data.dataset import DatasetLocation, open_dataset
from tinyvit.data.image_lists import MAX_LINES
from tinyvit.data.sampling import order_stratified
from tinyvit.data.truth_files import read_truth_file
from tinyvit.errors import RequestError
from tinyvit.labels import labels_from_data, read_labels


def make_array_header(shape: tuple[int, ...]) -> bytes:
    """Return the header of an array of uint8."""
    buffer = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def write_npz(path: Path, header: bytes, zeros: int) -> Path:
    """Write an .npz file of one packed array of zeros, after any header."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("images.npy", "w", force_zip64=True) as file,
    ):
        file.write(header)
        for start in range(0, zeros, 2**20):
            file.write(bytes(min(2**20, zeros - start)))
    return path


def test_an_array_of_two_million_images_is_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", make_array_header((2_000_000, 1, 1, 3)), 6_000_000)
    start = time.monotonic()
    with pytest.raises(RequestError, match="contains 2000000 images, more than 200000"):
        list_calibration_images(path)
    assert time.monotonic() - start < 5
    assert MAX_ARRAY_IMAGES == 200_000


def test_an_array_of_few_images_is_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), np.uint8)
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "a.npz", pixels)
        assert np.array_equal(read_image_array(tmp_path / "a.npz"), pixels)


def test_an_array_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    shape = (1000, 600, 600, 3)
    path = write_npz(tmp_path / "a.npz", make_array_header(shape), 1000 * 600 * 600 * 3)
    with pytest.raises(RequestError, match="it unpacks to 1029 MiB"):
        read_image_array(path)


@pytest.mark.parametrize(
    "header",
    [
        b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000,
        b"\x93NUMPY\x01\x00\x40\x00" + b"{'descr': '|u1', 'shape': (1,".ljust(63) + b"\n",
        b"\x93NUMPY\x01\x00\x40\x00" + b"'''".ljust(63) + b"\n",
        b"\x93NUMPY\x01\x00\x40\x00"
        + b"{'descr': [[]], 'shape': (1,), 'fortran_order': 0}".ljust(64),
        b"\x93NUMPY\x03\x00\x40\x00\x00\x00" + b"{}".ljust(64),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        make_array_header((2**62, 1, 1, 3)),
        b"",
    ],
)
def test_damaged_headers_of_arrays_are_refused(tmp_path: Path, header: bytes) -> None:
    path = write_npz(tmp_path / "a.npz", header, 100)
    run_limited(
        f"""
        from pathlib import Path
        from tinyvit.data.calibration_images import read_image_array
        from tinyvit.errors import RequestError
        try:
            read_image_array(Path({str(path)!r}))
        except RequestError as error:
            assert "cannot be used" in str(error)
        else:
            raise SystemExit("it was accepted")
        """
    )


def test_an_archive_of_very_many_entries_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(60_000):
            archive.writestr(f"{number:040d}", b"")
    with pytest.raises(RequestError, match="a header is too long"):
        read_image_array(path)


def test_a_list_of_two_million_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a.jpg\n" * 2_000_000)
    with pytest.raises(RequestError, match="it has 2000000 lines, more than 1500000"):
        list_calibration_images(path)
    assert MAX_LINES == 1_500_000


def test_names_in_a_list_are_relative_to_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast way to a name gives the same result as os.path.relpath."""
    lines = [
        "b/1.jpg",
        "./b//2.jpg",
        "../c/3.jpg",
        "b/../4.jpg",
        str(tmp_path / "d" / "5.jpg"),
        "x",
    ]
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "a.txt").write_text("\n".join([*lines, str(folder / "e" / "6.jpg")]))
    expected = {
        "b/1.jpg": "b",
        "b/2.jpg": "b",
        "../c/3.jpg": "../c",
        "4.jpg": ".",
        "../d/5.jpg": "../d",
        "x": ".",
        "e/6.jpg": "e",
    }
    monkeypatch.chdir(folder)
    for path in (folder / "a.txt", Path("a.txt")):
        images = list_calibration_images(path).images
        assert {image.name: image.group for image in images} == expected
    assert images[0].get_source() == Path("b/1.jpg")


def test_a_large_group_beside_many_small_ones_is_ordered_in_linear_time() -> None:
    """Taking turns must not ask each of the small groups again in every round."""
    items = [f"big/{i}" for i in range(50_000)] + [f"small{i}/0" for i in range(50_000)]
    start = time.monotonic()
    ordered = order_stratified(items, str, lambda name: (name.partition("/")[0],), seed=0)
    assert time.monotonic() - start < 20
    assert sorted(ordered) == sorted(items)
    # Every group has had its turn before the large one has its second.
    assert len({name.partition("/")[0] for name in ordered[:50_001]}) == 50_001


def test_labels_of_120_megabytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(["x" * 120_000_000, "b"]))
    with pytest.raises(RequestError, match="it is larger than 32 MiB"):
        read_labels(path)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["x" * 120_000_000, "b"], "line 1 has more than 2000 characters"),
        ({0: "a", 1: "x" * 2001}, "the name of class 1 has 2001 characters, more than 2000"),
        (["x" * 1900 + str(i) for i in range(9000)], "characters in all, more than 16777216"),
        ([str(i) for i in range(1_000_001)], "it has more than 1000000 labels"),
        ({i: str(i) for i in range(1_000_001)}, "it has more than 1000000 labels"),
    ],
    ids=["one", "long", "all", "many", "map"],
)
def test_labels_are_limited_in_length_and_number(names: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        labels_from_data(names)
    assert len(labels_from_data({0: "x" * 2000, 1: "b"})) == 2


def test_a_label_file_of_very_many_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n" * 2_000_001 + "a")
    with pytest.raises(RequestError, match="it has more than 2000000 lines"):
        read_labels(tmp_path / "a.txt")


@pytest.mark.parametrize("suffix", [".json", ".txt", ".yaml"])
def test_deeply_nested_labels_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text(("names: " if suffix == ".yaml" else "") + "[" * 1_000_000)
    with pytest.raises(RequestError, match="is not understood"):
        read_labels(path)


def test_the_limits_are_those_of_the_documentation() -> None:
    assert calibration_images.MAX_ARRAY_BYTES == 4 * 2**30
    assert image_lists.MAX_LIST_BYTES == 64 * 2**20


@pytest.mark.parametrize("shape", [(1, 1, 200_001, 3), (1, 200_001, 1, 3), (1, 9460, 9460, 3)])
def test_images_of_unusual_sizes_in_an_array_are_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = write_npz(tmp_path / "a.npz", make_array_header(shape), 100)
    with pytest.raises(RequestError, match=f"an image has {shape[2]} x {shape[1]} pixels"):
        read_image_array(path)


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000, "a\0b"])
def test_a_path_that_cannot_exist_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for read in (
        lambda: list_calibration_images(path),
        lambda: read_image_folder(path),
        lambda: read_labeled_images(path, ()),
        lambda: open_dataset(DatasetLocation(str(path))),
        lambda: read_truth_file(path, []),
    ):
        with pytest.raises(RequestError, match=r"does not exist|is not a folder"):
            read()
