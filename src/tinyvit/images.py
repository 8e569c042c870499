"""Decoding of images: files, bytes, Pillow images and arrays become RGB images.

The result is what an image viewer would show: transparent parts become white, 16-bit values are
scaled to 8 bits, and the rotation in the EXIF data is applied. An image that cannot be converted
correctly raises an ImageError. Pillow's global settings are not changed.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from tinyvit.errors import ImageError, RequestError

ImageSource: TypeAlias = (
    "str | Path | bytes | bytearray | memoryview | Image.Image | npt.NDArray[Any]"
)
"""Anything that `open_image` accepts: the path or the bytes of a file, a Pillow image, an array."""

ChannelOrder: TypeAlias = Literal["rgb", "bgr"]
"""Order of the color channels of an array; OpenCV uses "bgr"."""

MAX_PIXELS = 89_478_485
"""Images with more pixels are not decoded. The number is Pillow's default limit.
It is checked here because a program can change Pillow's own limit."""

# Not every format that Pillow supports is safe: EPS starts Ghostscript, and some formats accept
# nearly any bytes as an image.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF", "HEIF")

# All types of errors that Pillow's decoders were observed to raise for damaged files. `Warning` is
# included because a program can turn warnings into errors.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    MemoryError,
    Warning,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_ORIENTATION_TAG = 0x0112
"""Number of the EXIF tag that contains the orientation."""

_UPRIGHT_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns an image upright, for each EXIF orientation."""

_LOW_GRAY_FACTORS = {"L;2": 255 // 3, "L;4": 255 // 15}
"""Factor from 2-bit and 4-bit gray values to 8-bit values, by Pillow's raw mode."""


def open_image(
    source: ImageSource, *, channels: ChannelOrder = "rgb", exif: bool = True
) -> Image.Image:
    """Decode an image completely into RGB.

    Only the first frame of an animation is decoded. Transparent parts become white, and 16-bit
    gray values are scaled to 8 bits.

    Args:
        source: The path or the bytes of a file, a Pillow image (its current frame), or an array,
            uint8 (height, width, 3).
        channels: Order of the color channels of an array. Files and Pillow images define their own
            order: for them, `channels` is ignored.
        exif: Whether to rotate the image by its EXIF orientation. Published accuracies were
            measured without this rotation.

    Returns:
        A new Pillow image of mode RGB without metadata.

    Raises:
        ImageError: The source is not an image, is damaged, has more than MAX_PIXELS pixels, or
            cannot be represented in 8 bits. The message names the source.
        RequestError: `channels` is not a known order.
    """
    if channels not in ("rgb", "bgr"):
        raise RequestError(
            f"channels={channels!r} is not known",
            'give "rgb", or "bgr" for arrays that OpenCV read',
        )
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    name = describe_source(source)
    if isinstance(source, np.ndarray):
        return _convert_array(source, channels)
    try:
        with _open_lazily(source, name) as image:
            return _decode(image, name, exif)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not an image, or has an unknown format",
            "give a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM file",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _make_size_error(name, str(error)) from error
    except _DECODER_ERRORS as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise ImageError(
            f"{name} cannot be decoded ({reason})", "the file is damaged or incomplete: replace it"
        ) from error


def describe_source(source: object) -> str:
    """Describe an image for an error message.

    Args:
        source: The object that was passed as an image, of any type.

    Returns:
        Its path if it has one, otherwise its type and size.
    """
    if isinstance(source, (str, Path)):
        return str(source)
    if isinstance(source, bytes):
        return f"the image of {len(source)} bytes"
    if isinstance(source, np.ndarray):
        return f"the array {source.shape} of {source.dtype}"
    if isinstance(source, Image.Image):
        path = str(getattr(source, "filename", ""))
        return path or f"the {source.mode} image of {source.width} x {source.height}"
    return f"the object of type {type(source).__name__}"


def _convert_array(array: npt.NDArray[Any], channels: ChannelOrder) -> Image.Image:
    """Convert an array to an image, or raise an ImageError that says how to correct the array."""
    name = describe_source(array)
    if array.dtype != np.uint8:
        raise ImageError(
            f"{name} is not uint8",
            "give values from 0 to 255 as uint8; convert values from 0 to 1 with"
            " (255 * x).round().astype('uint8')",
        )
    if array.ndim == 2:
        raise ImageError(
            f"{name} has no color axis", "convert a gray image with np.stack([x] * 3, axis=-1)"
        )
    if array.ndim != 3 or array.shape[2] != 3:
        remedy = "give (height, width, 3)"
        if array.ndim == 3 and array.shape[0] == 3:
            remedy += ": x.transpose(1, 2, 0)"
        elif array.ndim == 3 and array.shape[2] == 4:
            remedy += ": x[:, :, :3], or give a Pillow image, whose transparency is handled"
        raise ImageError(f"{name} does not have three channels as its last axis", remedy)
    if array.size == 0:
        raise ImageError(f"{name} is empty", "give an image of at least 1 x 1 pixels")
    rgb = array if channels == "rgb" else array[:, :, ::-1]
    return Image.fromarray(np.ascontiguousarray(rgb))


@contextmanager
def _open_lazily(source: str | Path | bytes | Image.Image, name: str) -> Iterator[Image.Image]:
    """Open a source as a Pillow image. Only its header is read here."""
    if isinstance(source, Image.Image):
        yield source
    elif isinstance(source, bytes):
        if not source:
            raise ImageError("the image is empty: 0 bytes", "give the bytes of an image file")
        yield _identify_format(io.BytesIO(source))
    elif isinstance(source, (str, Path)):
        _require_file(Path(source), name)
        with Path(source).open("rb") as file:
            yield _identify_format(file)
    else:
        raise ImageError(
            f"{name} is not an image",
            "give a path, bytes, a Pillow image, or a uint8 array of (height, width, 3)",
        )


def _require_file(path: Path, name: str) -> None:
    """Raise ImageError if a path does not lead to a file, or the file is empty."""
    if path.is_dir():
        raise ImageError(f"{name} is a folder", "give the path of an image file")
    if not path.is_file():
        raise ImageError(
            f"{name} does not exist" if not path.exists() else f"{name} is not a file",
            "check the path",
        )
    if path.stat().st_size == 0:
        raise ImageError(f"{name} is empty: 0 bytes", "replace the file")


def _identify_format(file: io.BytesIO | io.BufferedReader) -> Image.Image:
    """Open an image file in one of the allowed formats.

    Formats whose plugins Pillow loads by default are tried first, because loading the other plugins
    is slow.
    """
    Image.preinit()
    default_formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        return Image.open(file, formats=default_formats)
    except UnidentifiedImageError:
        Image.init()
        other_formats = [
            name for name in _FORMATS if name in Image.OPEN and name not in default_formats
        ]
        file.seek(0)
        return Image.open(file, formats=other_formats)


def _decode(image: Image.Image, name: str, exif: bool) -> Image.Image:
    """Decode a lazily opened image to RGB, and rotate it by its EXIF orientation if `exif`."""
    if image.width * image.height > MAX_PIXELS:
        raise _make_size_error(name, f"{image.width} x {image.height} are more than {MAX_PIXELS}")
    # The raw mode (pixel format in the file) is read first: load() removes it from the image.
    raw_mode = image.tile[0][3] if isinstance(image, ImageFile.ImageFile) and image.tile else None
    image.load()
    transpose = _UPRIGHT_TRANSPOSES.get(_read_orientation(image)) if exif else None
    rgb = _convert_to_rgb(image, raw_mode, name)
    # The EXIF data are removed: otherwise a second call of open_image would rotate the image again.
    rgb.info = {}
    return rgb if transpose is None else rgb.transpose(transpose)


def _make_size_error(name: str, reason: str) -> ImageError:
    return ImageError(
        f"{name} has too many pixels ({reason})",
        "make it smaller; if it is small, its header is damaged: replace it",
    )


def _read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation. Like image viewers, assume 1 (upright) for damaged EXIF data."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODER_ERRORS:
        return 1


def _convert_to_rgb(image: Image.Image, raw_mode: object, name: str) -> Image.Image:
    """Convert a decoded image of any mode to RGB; `raw_mode` is the pixel format in the file."""
    if image.mode == "F":
        raise ImageError(
            f"{name} has floating-point pixels, whose range is unknown", "convert it to 8 bits"
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _scale_16_bits(image, name)
    if not image.has_transparency_data:
        return image.convert("RGB")
    # The gray value or the color (tuple) whose pixels are transparent, or a bytes table.
    transparent = image.info.get("transparency")
    if isinstance(transparent, int) and raw_mode in _LOW_GRAY_FACTORS:
        # Pillow scales 2-bit and 4-bit gray values to 8 bits, but not the transparent value.
        image = image.copy()
        image.info["transparency"] = transparent * _LOW_GRAY_FACTORS[raw_mode]
    elif isinstance(transparent, tuple) and raw_mode == "RGB;16B":
        raise ImageError(
            f"{name} has 16-bit colors, one of which is transparent", "convert it to 8 bits"
        )
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _scale_16_bits(image: Image.Image, name: str) -> Image.Image:
    """Convert 16-bit gray values to RGB, rounding to the nearest of 256 levels."""
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > 65535:
        raise ImageError(
            f"{name} has gray values from {low} to {high}, beyond 16 bits", "convert it to 8 bits"
        )
    gray = ((values * 255 + 32767) // 65535).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray[values == transparent] = 255  # white
    return Image.fromarray(gray).convert("RGB")
