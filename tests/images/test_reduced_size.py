"""Large JPEG files are decoded at a reduced size, and the resized image hardly changes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.image_files import encode_image
from tests.images.test_file_limits import make_scans
from tinyvit.errors import ImageError
from tinyvit.images.decoding import open_image, open_image_for_resizing
from tinyvit.images.reduced_size import MIN_RATIO, DecodedImage, choose_reduction
from tinyvit.preprocess import Preprocess, sam_preprocess
from tinyvit.runtimes.image_input import ImageInput

EXIF_ORIENTATION = 0x0112
PREPROCESS = Preprocess(28, 32)


def make_photograph(width: int, height: int, detail: float = 3.0) -> Image.Image:
    """Make an image with large and small structures, as photographs have."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    pixels += rng.normal(0, detail, (height, width, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encode_jpeg(image: Image.Image, orientation: int | None = None, **options: object) -> bytes:
    if orientation is not None:
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        options["exif"] = exif
    return encode_image(image, "JPEG", quality=95, **options)


def open_reduced(
    source: bytes | Image.Image, preprocess: Preprocess = PREPROCESS, exif: bool = True
) -> DecodedImage:
    return open_image_for_resizing(source, preprocess.resized_size, exif=exif)


def mean_difference(content: bytes, preprocess: Preprocess, exif: bool = True) -> float:
    """The mean difference, in levels, that decoding at a reduced size makes after resizing."""
    reduced = preprocess.resize_and_crop(open_reduced(content, preprocess, exif))
    full = preprocess.resize_and_crop(open_image(content, exif=exif))
    return float(np.abs(reduced.astype(int) - full).mean())


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((900, 1000), 4),
        ((899, 1000), 2),
        ((1000, 450), 2),
        ((449, 449), 1),
        ((90_000, 10), 1),
        ((1800, 1800), 8),
        ((9000, 9000), 8),
    ],
)
def test_the_reduced_image_is_large_enough(size: tuple[int, int], expected: int) -> None:
    assert choose_reduction(size, (100, 100)) == expected
    assert expected == 1 or min(size) / expected >= MIN_RATIO * 100


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1800, 1808), 8), ((1800, 1804), 4), ((1802, 1800), 2), ((1801, 1800), 1), ((448, 448), 1)],
)
def test_only_multiples_are_reduced_for_files_that_resize_all_pixels(
    size: tuple[int, int], expected: int
) -> None:
    assert choose_reduction(size, (100, 100), must_divide=True) == expected


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("width", "decoded_width"), [(400, 100), (402, 201), (401, 401)])
def test_a_file_that_resizes_images_gets_whole_pixels(
    width: int, decoded_width: int, orientation: int
) -> None:
    content = encode_jpeg(make_photograph(width, 600), orientation)
    decoded = ImageInput("full", "NHWC", PREPROCESS, 1).decode(content)
    side = decoded.image.height if orientation == 6 else decoded.image.width
    assert side == decoded_width
    assert decoded.box == (0, 0, decoded.image.width, decoded.image.height)
    resized = PREPROCESS.resize_and_crop(decoded.image).astype(int)
    difference = np.abs(resized - PREPROCESS.resize_and_crop(open_image(content))).mean()
    assert difference < 1
    assert (difference > 0) == (width != 401)


@pytest.mark.parametrize("size", [(143, 200), (200, 143), (32, 32), (20, 300)])
@pytest.mark.parametrize("orientation", [None, 6])
def test_below_the_threshold_nothing_changes(
    size: tuple[int, int], orientation: int | None
) -> None:
    content = encode_jpeg(make_photograph(*size), orientation)
    decoded = open_reduced(content)
    assert np.array_equal(decoded.image, open_image(content))
    assert (decoded.width, decoded.height) == decoded.image.size
    pixels = PREPROCESS.resize_and_crop(open_image(content))
    assert np.array_equal(PREPROCESS.resize_and_crop(decoded), pixels)
    assert np.array_equal(PREPROCESS(decoded), PREPROCESS(open_image(content)))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_never_reduced(format: str) -> None:
    content = encode_image(make_photograph(600, 500), format)
    assert np.array_equal(open_reduced(content).image, open_image(content))


def test_a_pillow_image_is_neither_reduced_nor_changed() -> None:
    image = Image.open(io.BytesIO(encode_jpeg(make_photograph(600, 500), orientation=6)))
    decoded = open_reduced(image)
    assert decoded.image.size == (500, 600)
    assert image.size == (600, 500)
    assert image.info["exif"]
    assert decoded.image is not image


@pytest.mark.parametrize(("side", "reduced_side"), [(287, 144), (401, 101), (577, 73)])
def test_a_large_jpeg_is_reduced(side: int, reduced_side: int) -> None:
    decoded = open_reduced(encode_jpeg(make_photograph(side, side + 40)))
    assert decoded.image.width == reduced_side
    assert (decoded.width, decoded.height) == (side, side + 40)


# Sides that are no multiple of 8: the last row and column of the reduced image are only partly
# inside. The crops at the edges would be displaced if that were ignored.
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("exif", [True, False])
@pytest.mark.parametrize(
    "preprocess",
    [
        PREPROCESS,
        Preprocess(32, 32, "squash"),
        Preprocess((24, 48), (24, 48), "squash"),
        Preprocess((48, 24), (50, 26)),
        sam_preprocess(32),
    ],
    ids=["center", "squash", "squash wide", "center tall", "pad"],
)
def test_the_result_stays_within_half_a_level(
    orientation: int, exif: bool, preprocess: Preprocess
) -> None:
    content = encode_jpeg(make_photograph(601, 577), orientation, subsampling=0)
    decoded = open_reduced(content, preprocess, exif)
    assert decoded.image.width < decoded.width / 2
    assert (decoded.width, decoded.height) == open_image(content, exif=exif).size
    assert mean_difference(content, preprocess, exif) < 0.5


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_color_modes_stay_within_a_level(mode: str) -> None:
    content = encode_jpeg(make_photograph(500, 500).convert(mode))
    assert open_reduced(content).image.size == (125, 125)
    assert mean_difference(content, PREPROCESS) < 1


def test_progressive_jpegs_are_reduced() -> None:
    content = encode_jpeg(make_photograph(500, 500), progressive=True)
    assert open_reduced(content).image.size == (125, 125)
    assert mean_difference(content, PREPROCESS) < 1


def test_limits_hold_for_reduced_images() -> None:
    def to_one_pixel(width: int, height: int) -> tuple[int, int]:
        return 1, 1

    with pytest.raises(ImageError, match="more than 100 scans"):
        open_image_for_resizing(make_scans(200), to_one_pixel)
    content = bytearray(encode_jpeg(make_photograph(64, 64)))
    header = content.index(b"\xff\xc0") + 5
    content[header : header + 4] = b"\x60\x00" * 2
    with pytest.raises(ImageError, match="too many pixels"):
        open_image_for_resizing(bytes(content), to_one_pixel)
    whole = encode_jpeg(make_photograph(500, 500))
    with pytest.raises(ImageError, match="damaged or incomplete"):
        open_image_for_resizing(whole[: len(whole) // 2], to_one_pixel)


def test_prediction_and_measurement_decode_alike(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tinyvit.quant.images.image_decoding import decode_images

    path = tmp_path / "a.jpg"
    path.write_bytes(encode_jpeg(make_photograph(500, 520, detail=30)))
    (measured,) = decode_images([lambda: path], PREPROCESS)
    image_input = ImageInput("normalize", "NHWC", PREPROCESS, 1)
    predicted = image_input.prepare_input(image_input.decode(path))
    assert np.array_equal(measured, predicted)
    assert not np.array_equal(measured, PREPROCESS.resize_and_crop(open_image(path)))
