"""A source that is no image raises an ImageError that says what it is instead."""

from __future__ import annotations

import base64
import importlib.util
import io
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.image_files import encode_image
from tinyvit.errors import ImageError
from tinyvit.images import decoding, diagnosis
from tinyvit.images.decoding import open_image

PNG = encode_image(Image.new("RGB", (40, 30), "red"))
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
AVIF = b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf" + bytes(40)


def explain(source: Any) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(source)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "data:image/png;base64," + base64.b64encode(PNG).decode(),
            r"the data URL of \d+ characters is not an image file: .*b64decode",
        ),
        (base64.b64encode(PNG * 20).decode(), "is not the path of an image: .*b64decode"),
        (base64.b64encode(PNG).decode()[:100], "is not the path of an image: .*b64decode"),
        ("word, " * 900, "5400 characters that begins with 'word, .* too long for a path"),
        ("n" * 300 + ".jpg", r"n{300}\.jpg is not an image: it has 304 characters, .* too long"),
        (
            "https://example.com/a.jpg",
            "is a URL, not a file: download it, and give the path or the bytes of the file",
        ),
        ("s3://bucket/a.jpg", "is a URL, not a file: download it"),
        ("photos/*.jpg", "does not exist: .*glob"),
        ("a.jpg\n", r"a.jpg does not exist: .*strip\(\)"),
        ("a\0b", "does not exist, and contains a character"),
        ("a\ud800b", "does not exist, and contains a character"),
        ("", "the path is empty"),
        ("none.jpg", "none.jpg does not exist: check the path"),
        ("~nobody-has-this-name/a.jpg", "does not exist: check the path"),
    ],
)
def test_text_that_is_no_path_is_explained(text: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        open_image(text)


def test_messages_do_not_repeat_long_text() -> None:
    assert len(explain("x" * 100_000)) < 300
    assert len(explain("data:image/png;base64," + "A" * 100_000)) < 300


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"<HTML><body>404", "is a web page"),
        (b'\xef\xbb\xbf<?xml version="1.0"?><svg/>', "is an SVG drawing"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (base64.b64encode(PNG), "is base64 text"),
        (b"data:image/png;base64," + base64.b64encode(PNG), "is base64 text"),
        (b"\xff\xd9 nothing", "is not an image, or has an unknown format"),
    ],
)
def test_files_of_other_formats_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert message in explain(content)
    assert message in explain(tmp_path / "a.jpg")


def test_the_path_of_a_file_as_bytes_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    assert "os.fsdecode(path)" in explain(os.fsencode(tmp_path / "a.png"))


def test_a_long_path_without_suffix_is_not_taken_for_base64(tmp_path: Path) -> None:
    name = "one_photo_that_somebody_gave_a_very_long_name_without_any_suffix_at_its_end"
    assert f"{name} does not exist: check the path" in explain(tmp_path / name)


def hide_pillow_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_other_modules(name: str) -> object:
        return None if name == "pillow_heif" else importlib.util.find_spec(name)

    monkeypatch.setattr(diagnosis, "find_spec", find_other_modules)
    monkeypatch.setattr(decoding, "find_spec", find_other_modules)


@pytest.mark.parametrize("name", ["IMG_0001.HEIC", "renamed.jpg"])
def test_a_heic_photo_names_the_package_that_decodes_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_pillow_heif(monkeypatch)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    (tmp_path / name).write_bytes(HEIC)
    (tmp_path / "unusual.heic").write_bytes(b"an unknown variant of the format")
    for source in (tmp_path / name, HEIC, tmp_path / "unusual.heic"):
        assert "is a HEIC photo" in explain(source)
        assert "pip install pillow-heif" in explain(source)


def test_a_heic_photo_is_decoded_by_pillow_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    """pillow-heif need not be registered in Pillow, so that commands can use it."""

    def read_heif_image(file: Any) -> Image.Image:
        assert file.read() == HEIC
        return Image.new("RGB", (3, 2), "red")

    plugin = ModuleType("pillow_heif")
    plugin.HeifImageFile = read_heif_image  # type: ignore[attr-defined]
    plugin.__spec__ = importlib.util.spec_from_loader("pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    assert np.asarray(open_image(HEIC)).tolist() == [[[255, 0, 0]] * 3] * 2


def test_a_real_heic_photo_is_decoded() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="an optional package")
    colors = Image.new("RGB", (64, 48), (200, 30, 90))
    buffer = io.BytesIO()
    pillow_heif.from_pillow(colors).save(buffer, quality=95)
    decoded = np.asarray(open_image(buffer.getvalue())).astype(int)
    assert decoded.shape == (48, 64, 3)
    assert np.abs(decoded - (200, 30, 90)).max() <= 6


def test_an_avif_image_names_the_version_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.SAVE, "AVIF", raising=False)
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    assert "pillow>=11.3" in explain(AVIF)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_files_that_cannot_be_read_are_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert "loop cannot be read (Too many levels" in explain(tmp_path / "loop")
    (tmp_path / "a.png").write_bytes(PNG)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tinyvit.images.decoding.open_regular_file", refuse)
    message = explain(tmp_path / "a.png")
    assert "a.png cannot be read (Permission denied): check its permissions" in message
