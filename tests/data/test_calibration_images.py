"""Images to calibrate with come from a folder, a list of paths or an array."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinyvit.data.calibration_images import (
    list_calibration_images,
    make_calibration_image,
    order_calibration_images,
    read_image_array,
)
from tinyvit.errors import ImageError, RequestError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_images_of_a_folder_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "b/1.jpg", "a.png", "b/deep/2.jpg", ".hidden/3.jpg", "notes.txt")
    images = list_calibration_images(tmp_path).images
    assert [(image.name, image.group) for image in images] == [
        ("a.png", "."),
        ("b/1.jpg", "b"),
        ("b/deep/2.jpg", "b/deep"),
    ]
    assert [image.get_source() for image in images] == [tmp_path / image.name for image in images]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="has no images"):
        list_calibration_images(tmp_path / "empty")


def test_paths_in_a_list_are_relative_to_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "\r\n\r\n".join(["deep/1.png", " ../2.png ", str(tmp_path / "3.png")])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "list.txt").write_text("\ufeff" + lines + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    images = list_calibration_images(Path("in/list.txt")).images
    assert [image.name for image in images] == ["deep/1.png", "../2.png", "../3.png"]
    assert [image.group for image in images] == ["deep", "..", ".."]
    assert images[0].get_source() == Path("in/deep/1.png")
    assert images[2].get_source() == tmp_path / "3.png"


def test_names_of_a_list_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["a/b.jpg", "./c.jpg", "a/../d.jpg", "../e.jpg", "..f/g.jpg", f"{tmp_path}/h.jpg"]
    Path("list.txt").write_text("\n".join(lines))
    names = ["a/b.jpg", "c.jpg", "d.jpg", "../e.jpg", "..f/g.jpg", "h.jpg"]
    for path in (Path("list.txt"), tmp_path / "list.txt"):
        assert [image.name for image in list_calibration_images(path).images] == names


def test_images_of_an_array_are_listed(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (36, 30, 50, 3), np.uint8)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "images.npz", pixels)
        assert np.array_equal(read_image_array(tmp_path / "images.npz"), pixels)
        images = list_calibration_images(tmp_path / "images.npz").images
        assert np.array_equal(np.stack([image.get_source() for image in images]), pixels)
        # The names enter the hash that orders the images: another spelling is another sample.
        assert (images[7].name, images[7].group) == ("picture 7", "")


def test_the_order_is_drawn_by_names_and_the_seed(tmp_path: Path) -> None:
    images = [
        make_calibration_image(tmp_path / f"{g}/{i}.png", tmp_path) for g in "ab" for i in range(9)
    ]
    names = [image.name for image in order_calibration_images(images, 0)]
    assert names == [image.name for image in order_calibration_images(images[::-1], 0)]
    assert sorted(names) == [image.name for image in images]
    assert names != [image.name for image in order_calibration_images(images, 1)]
    assert all(names[i][0] != names[i + 1][0] for i in range(0, 18, 2))


@pytest.mark.parametrize("name", ["missing", "missing.txt", "notes.pdf"])
def test_what_is_not_a_source_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    with pytest.raises(RequestError, match="give a folder of images"):
        list_calibration_images(tmp_path / name)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00a", b"a\x00b"])
def test_a_list_that_is_not_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(RequestError, match=r"the list .* cannot be read"):
        list_calibration_images(tmp_path / "list.txt")


def npz(header: bytes, body: bytes, names: tuple[str, ...] = ("a.npy",)) -> bytes:
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, start + header + body)
    return buffer.getvalue()


def array_header(shape: str, dtype: str = "|u1", fortran: bool = False) -> bytes:
    return f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}}}\n".encode()


GOOD = array_header("(40, 20, 20, 3)")
BODY = np.random.default_rng(0).integers(0, 256, 40 * 20 * 20 * 3, np.uint8).tobytes()
HOSTILE = {
    "empty": b"",
    "no zip": b"PK\x03\x04 and no more",
    "cut": npz(GOOD, BODY)[:3000],
    "flipped": npz(GOOD, BODY)[:2000] + bytes(64) + npz(GOOD, BODY)[2064:],
    "huge": npz(array_header("(1000000, 30000, 30000, 3)"), b"\0" * 100),
    "fewer bytes than stated": npz(GOOD, BODY[:-1]),
    "more bytes than stated": npz(GOOD, BODY + b"\0"),
    "negative": npz(array_header("(-40, -20, 20, 3)"), BODY),
    "no images": npz(array_header("(0, 20, 20, 3)"), b""),
    "float": npz(array_header("(40, 20, 20, 3)", "<f4"), BODY * 4),
    "objects": npz(array_header("(40,)", "|O"), b"cos\nsystem\n(S'true'\ntR."),
    "channels first": npz(array_header("(40, 3, 20, 20)"), BODY),
    "one image": npz(array_header("(20, 20, 3)"), BODY[:1200]),
    "fortran": npz(array_header("(40, 20, 20, 3)", fortran=True), BODY),
    "two arrays": npz(GOOD, BODY, ("a.npy", "b.npy")),
    "no array": npz(GOOD, BODY, ()),
    "no header": npz(b"import os\n", BODY),
    "long header": npz(b"(" * 60000, BODY),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_arrays_are_refused_on_one_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "good.npz").write_bytes(npz(GOOD, BODY))
    assert len(read_image_array(tmp_path / "good.npz")) == 40
    (tmp_path / "bad.npz").write_bytes(HOSTILE[kind])
    with pytest.raises(RequestError, match=r"bad\.npz cannot be used") as caught:
        read_image_array(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)
