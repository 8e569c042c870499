"""Unusual images are either decoded correctly, pixel by pixel, or refused with an ImageError."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from tests.helpers.image_files import encode_image, make_png
from tinyvit.errors import ImageError, RequestError
from tinyvit.images.decoding import MAX_PIXELS, open_image

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (6, 9, 3), np.uint8)


def pixels(source: Any, **options: Any) -> npt.NDArray[np.uint8]:
    """Decode an image to uint8 (height, width, 3)."""
    image = open_image(source, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(
    "kind", ["path", "str", "bytes", "bytearray", "memoryview", "pil", "array"]
)
def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_image(Image.fromarray(COLORS)))
    data = path.read_bytes()
    kinds = {
        "path": path,
        "str": str(path),
        "bytes": data,
        "bytearray": bytearray(data),
        "memoryview": memoryview(data),
    }
    source = {**kinds, "pil": Image.fromarray(COLORS), "array": COLORS}[kind]
    assert np.array_equal(pixels(source), COLORS)


def test_bgr_arrays_and_strided_arrays_are_read() -> None:
    assert np.array_equal(pixels(COLORS[:, :, ::-1], channels="bgr"), COLORS)
    assert np.array_equal(pixels(COLORS[::2, ::-3]), COLORS[::2, ::-3])
    with pytest.raises(RequestError, match="channels"):
        open_image(COLORS, channels="gbr")


def test_gray_and_bilevel_images_become_rgb() -> None:
    gray = COLORS[:, :, 0]
    assert np.array_equal(pixels(encode_image(Image.fromarray(gray))), np.stack([gray] * 3, -1))
    assert set(np.unique(pixels(encode_image(Image.fromarray(gray > 127))))) == {0, 255}


def test_cmyk_becomes_rgb() -> None:
    cmyk = Image.fromarray(COLORS).convert("CMYK")
    assert np.array_equal(pixels(encode_image(cmyk, "TIFF")), COLORS)
    smooth = Image.fromarray(np.full((32, 32, 3), (200, 30, 90), np.uint8))
    jpeg = pixels(encode_image(smooth.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(jpeg.astype(int) - (200, 30, 90)).max() <= 4


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bit_grays_are_scaled_not_clipped(format: str) -> None:
    values = np.array([[0, 1, 128, 129, 255, 257, 4660, 32768, 65535]], np.uint16)
    image = Image.fromarray(values) if format != "PPM" else Image.fromarray(values.astype(np.int32))
    decoded = pixels(encode_image(image, format))
    assert np.array_equal(decoded[:, :, 0], np.round(values / 257).astype(np.uint8))


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I"])
def test_16_bit_modes_are_scaled(mode: str) -> None:
    image = Image.new(mode, (3, 2), 51400)
    assert (pixels(image) == 200).all()


@pytest.mark.parametrize(
    "values", [np.array([[0, 65536]], np.int32), np.array([[-1, 5]], np.int32)]
)
def test_32_bit_range_is_refused(values: npt.NDArray[Any]) -> None:
    with pytest.raises(ImageError, match="beyond 16 bits"):
        open_image(encode_image(Image.fromarray(values), "TIFF"))


def test_float_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="floating-point"):
        open_image(encode_image(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa"])
def test_transparency_lies_over_white(mode: str) -> None:
    image = Image.new("RGBA", (2, 1))
    image.putdata([(100, 100, 100, 255), (10, 10, 10, 0)])
    decoded = pixels(image.convert(mode))
    assert np.array_equal(decoded[0], [[100] * 3, [255] * 3])


def test_palette_with_an_alpha_band() -> None:
    image = Image.new("PA", (2, 1))
    image.putpalette([100, 90, 80, 10, 10, 10])
    image.putdata([(0, 255), (1, 0)])
    assert np.array_equal(pixels(image)[0], [(100, 90, 80), (255, 255, 255)])


def test_half_transparency_is_blended_over_white() -> None:
    assert (pixels(encode_image(Image.new("RGBA", (4, 4), (0, 0, 0, 128)))) == 127).all()


def test_palette_with_alpha() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    decoded = pixels(encode_image(image, transparency=bytes([255, 0, 128])))
    assert np.array_equal(decoded[0, :2], [(10, 20, 30), (255, 255, 255)])
    assert np.abs(decoded[0, 2].astype(int) - (162, 167, 172)).max() <= 1
    one_transparent = pixels(encode_image(image, transparency=1))[0]
    assert np.array_equal(one_transparent, [(10, 20, 30), (255, 255, 255), (70, 80, 90)])


def test_png_transparent_color() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert np.array_equal(
        pixels(encode_image(image, transparency=(4, 5, 6)))[0], [(1, 2, 3), (255, 255, 255)]
    )


@pytest.mark.parametrize(
    ("depth", "row", "expected"),
    [(2, 0b00_01_10_11, (0, 255, 170, 255)), (4, 0x01_2F, (0, 255, 34, 255))],
)
def test_png_transparent_gray_of_few_bits(depth: int, row: int, expected: tuple[int, ...]) -> None:
    rows = b"\0" + row.to_bytes(depth // 2, "big")
    decoded = pixels(make_png((4, 1), depth, 0, rows, (b"tRNS", struct.pack(">H", 1))))
    assert decoded[0, :, 0].tolist() == list(expected)


def test_png_transparent_gray_of_8_and_16_bits() -> None:
    image = make_png((2, 1), 8, 0, b"\0\x07\x09", (b"tRNS", b"\0\x07"))
    assert pixels(image)[0, :, 0].tolist() == [255, 9]
    image = make_png((2, 1), 16, 0, b"\0\x12\x34\x12\x35", (b"tRNS", b"\x12\x34"))
    assert pixels(image)[0, :, 0].tolist() == [255, 18]


def test_png_16_bit_colors() -> None:
    image = make_png((1, 1), 16, 2, b"\0" + struct.pack(">HHH", 0, 32768, 65535))
    assert np.abs(pixels(image).astype(int) - (0, 127, 255)).max() <= 1
    with pytest.raises(ImageError, match="16-bit colors"):
        open_image(make_png((1, 1), 16, 2, b"\0" + bytes(6), (b"tRNS", bytes(6))))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode_image(Image.fromarray(COLORS), exif=exif)
    assert np.array_equal(
        pixels(data), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    )
    assert np.array_equal(pixels(data, exif=False), COLORS)


def test_opening_twice_rotates_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    once = open_image(encode_image(Image.fromarray(COLORS), exif=exif))
    assert np.array_equal(pixels(once), np.asarray(once))


@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_is_ignored() -> None:
    assert np.array_equal(
        pixels(encode_image(Image.fromarray(COLORS), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")), COLORS
    )


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (5, 5), color) for color in ("red", "blue")]
    for format in ("GIF", "PNG", "WEBP"):
        decoded = pixels(
            encode_image(
                frames[0],
                format,
                save_all=True,
                append_images=frames[1:],
                **({"lossless": True} if format == "WEBP" else {}),
            )
        )
        assert (decoded == (255, 0, 0)).all(), format


def test_very_thin_images_are_read() -> None:
    assert open_image(encode_image(Image.new("RGB", (1, 5000)))).size == (1, 5000)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_truncated_and_corrupted_files_raise_only_image_errors(format: str) -> None:
    data = encode_image(Image.fromarray(RNG.integers(0, 256, (40, 40, 3), np.uint8)), format)
    with pytest.raises(ImageError):
        open_image(data[: len(data) // 2])
    for _ in range(150):
        corrupted = bytearray(data)
        for position in RNG.integers(0, len(corrupted) if RNG.random() < 0.5 else 64, 4):
            corrupted[position] = RNG.integers(256)
        with contextlib.suppress(ImageError):
            assert open_image(bytes(corrupted)).mode == "RGB"


@pytest.mark.parametrize("side", [9_460, 14_000, 50_000])
def test_bomb_headers_are_refused_before_decoding(
    side: int, recwarn: pytest.WarningsRecorder
) -> None:
    assert side * side > MAX_PIXELS
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match=r"too many pixels .*: make it smaller"):
        open_image(make_png((side, side), 8, 2, b""))
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_limit_does_not_depend_on_pillows_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="more than"):
        open_image(make_png((50_000, 50_000), 8, 2, b""))


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [("a.jpg", b"just some text\n", "not an image"), ("b.png", b"", "empty")],
)
def test_files_that_are_not_images_are_refused(
    tmp_path: Path, name: str, content: bytes, cause: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=cause) as caught:
        open_image(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_folders_and_empty_bytes_are_refused(tmp_path: Path) -> None:
    for source, cause in (
        (tmp_path / "no.jpg", "does not exist"),
        (tmp_path, "is a folder"),
        (b"", "empty"),
        ("a\0b", "exist|decoded"),
    ):
        with pytest.raises(ImageError, match=cause):
            open_image(source)


def test_eps_is_not_opened() -> None:
    with pytest.raises(ImageError, match="not an image"):
        open_image(encode_image(Image.fromarray(COLORS), "EPS"))


@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((4, 4), np.uint8), "stack"),
        (np.zeros((3, 4, 4), np.uint8), "transpose"),
        (np.zeros((4, 4, 4), np.uint8), r"x\[:, :, :3\]"),
        (np.zeros((0, 4, 3), np.uint8), "at least"),
        (np.zeros((2, 4, 4, 3), np.uint8), "height, width, 3"),
        (np.zeros((), np.uint8), "height, width, 3"),
    ],
)
def test_other_arrays_are_refused_with_a_remedy(array: npt.NDArray[Any], remedy: str) -> None:
    with pytest.raises(ImageError, match=remedy):
        open_image(array)


@pytest.mark.parametrize("source", [None, 5, object(), {"a": 1}, [1, 2]])
def test_other_objects_are_refused(source: object) -> None:
    with pytest.raises(ImageError, match="not an image"):
        open_image(source)


def test_a_closed_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_image(Image.fromarray(COLORS)))
    image = Image.open(tmp_path / "a.png")
    image.close()
    with pytest.raises(ImageError):
        open_image(image)
