"""Pictures in: files, bytes, Pillow images and arrays become decoded RGB pictures, or an ImageError that says why not.

A picture is shown as a person would see it: transparency lies over white, 16 bits are scaled to 8, and a camera's
rotation is honored. Whatever cannot be shown rightly is refused. Nothing here changes Pillow's settings.
"""

from __future__ import annotations

import io
import os
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
ChannelOrder: TypeAlias = Literal["rgb", "bgr"]

MAX_PIXELS = 89_478_485
"""Pictures of more pixels are refused before they are decoded: Pillow's own default, which a program may have changed."""

_WEB = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp")
_OTHER = (".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".heif")
SUFFIXES = frozenset(_WEB + _OTHER)

# Not all that Pillow knows: EPS would start Ghostscript, and some formats take nearly any bytes for a picture.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF", "HEIF")

# What Pillow's decoders were seen to raise on damaged files; `Warning` for programs that turn warnings into errors.
_DECODER_ERRORS = (
    *(
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        AssertionError,
        EOFError,
    ),
    *(RuntimeError, MemoryError, Warning, struct.error, zlib.error, Image.DecompressionBombError),
)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(
    source: ImageSource, *, channels: ChannelOrder = "rgb", exif: bool = True
) -> Image.Image:
    """Any picture -> a fully decoded Pillow image of mode RGB, the caller's to keep.

    source: a file's path, a file's bytes, a Pillow image (its current frame), or an array, uint8 (height, width, 3).
    channels: the order in an array; "bgr" is OpenCV's. Files and Pillow images know their own.
    exif: turn the picture upright as its EXIF data says; published evaluations do not.

    Of an animation, the first frame. Transparent parts become white. 16-bit grays are scaled to 8 bits. The result carries
    no metadata. Raises ImageError, naming the source, for what is no picture, is damaged, has more than MAX_PIXELS, or
    cannot be shown in 8 bits.
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
        return _from_array(source, channels)
    try:
        with _opened(source, name) as image:
            return _decoded(image, name, exif)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture, or of an unknown format",
            "give a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM file",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error)) from error
    except _DECODER_ERRORS as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise ImageError(
            f"{name} cannot be decoded ({reason})", "the file is damaged or incomplete: replace it"
        ) from error


def describe_source(source: object) -> str:
    """A picture's name for messages: its path, or what it is."""
    if isinstance(source, (str, Path)):
        return str(source)
    if isinstance(source, bytes):
        return f"the picture of {len(source)} bytes"
    if isinstance(source, np.ndarray):
        return f"the array {source.shape} of {source.dtype}"
    if isinstance(source, Image.Image):
        return (
            str(getattr(source, "filename", ""))
            or f"the {source.mode} picture of {source.width} x {source.height}"
        )
    return f"the object of type {type(source).__name__}"


def is_image_path(path: Path) -> bool:
    """Whether a file's name is a picture's; hidden files, such as macOS's "._cat.jpg", are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def list_images(folder: Path) -> list[Path]:
    """The picture files under a folder, at any depth, sorted; raises ImageError where there are none, or no such folder."""

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    try:
        for root, _, names in os.walk(folder, onerror=fail):
            found += [path for name in names if is_image_path(path := Path(root, name))]
    except OSError as error:
        raise ImageError(
            f"the folder {error.filename or folder} cannot be read ({error.strerror})",
            "check the path",
        ) from error
    if not found:
        raise ImageError(
            f"the folder {folder} has no pictures",
            f"put pictures in it; known are {' '.join(sorted(SUFFIXES))}",
        )
    return sorted(found)


def _from_array(array: npt.NDArray[Any], channels: ChannelOrder) -> Image.Image:
    name = describe_source(array)
    if array.dtype != np.uint8:
        raise ImageError(
            f"{name} is not uint8",
            "give values 0 to 255 as uint8; a float picture of 0 to 1: (255 * x).round().astype('uint8')",
        )
    if array.ndim == 2:
        raise ImageError(f"{name} has no color axis", "a gray picture: np.stack([x] * 3, axis=-1)")
    if array.ndim != 3 or array.shape[2] != 3:
        remedy = "give (height, width, 3)"
        if array.ndim == 3 and array.shape[0] == 3:
            remedy += ": x.transpose(1, 2, 0)"
        elif array.ndim == 3 and array.shape[2] == 4:
            remedy += ": x[:, :, :3], or a Pillow image, whose transparency is understood"
        raise ImageError(f"{name} is not of three channels, last", remedy)
    if array.size == 0:
        raise ImageError(f"{name} is empty", "give a picture of at least 1 x 1 pixels")
    return Image.fromarray(np.ascontiguousarray(array if channels == "rgb" else array[:, :, ::-1]))


@contextmanager
def _opened(source: str | Path | bytes | Image.Image, name: str) -> Iterator[Image.Image]:
    """The source as a Pillow image whose header alone has been read."""
    if isinstance(source, Image.Image):
        yield source
    elif isinstance(source, bytes):
        if not source:
            raise ImageError("the picture is empty: 0 bytes", "give the bytes of an image file")
        yield _identified(io.BytesIO(source))
    elif isinstance(source, (str, Path)):
        path = Path(source)
        if path.is_dir():
            raise ImageError(f"{name} is a folder", "give a picture's file")
        if not path.is_file():
            raise ImageError(
                f"{name} does not exist" if not path.exists() else f"{name} is not a file",
                "check the path",
            )
        if path.stat().st_size == 0:
            raise ImageError(f"{name} is empty: 0 bytes", "replace the file")
        with path.open("rb") as file:
            yield _identified(file)
    else:
        raise ImageError(
            f"{name} is not a picture",
            "give a path, bytes, a Pillow image, or a uint8 array of (height, width, 3)",
        )


def _identified(file: io.BytesIO | io.BufferedReader) -> Image.Image:
    """Open with the few plugins that Pillow loads at once, and with the others only where those fail: loading them is slow."""
    Image.preinit()
    tried = [name for name in _FORMATS if name in Image.OPEN]
    try:
        return Image.open(file, formats=tried)
    except UnidentifiedImageError:
        Image.init()
        rest = [name for name in _FORMATS if name in Image.OPEN and name not in tried]
        file.seek(0)
        return Image.open(file, formats=rest)


def _decoded(image: Image.Image, name: str, exif: bool) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name, f"{image.width} x {image.height} are more than {MAX_PIXELS}")
    rawmode = image.tile[0][3] if isinstance(image, ImageFile.ImageFile) and image.tile else None
    image.load()
    turn = _UPRIGHT.get(_orientation(image)) if exif else None
    rgb = _to_rgb(image, rawmode, name)
    rgb.info = {}  # or the same EXIF data would turn it again when it is opened a second time
    return rgb if turn is None else rgb.transpose(turn)


def _too_large(name: str, reason: str) -> ImageError:
    return ImageError(
        f"{name} has too many pixels ({reason})",
        "make it smaller; if it is small, its header is damaged: replace it",
    )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODER_ERRORS:
        # Damaged EXIF data says nothing of the pixels, and viewers ignore it.
        return 1


def _to_rgb(image: Image.Image, rawmode: object, name: str) -> Image.Image:
    if image.mode == "F":
        raise ImageError(
            f"{name} has floating-point pixels, whose range is unknown", "convert it to 8 bits"
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bits(image, name)
    if not image.has_transparency_data:
        return image.convert("RGB")
    transparent = image.info.get("transparency")
    if isinstance(transparent, int) and rawmode in ("L;2", "L;4"):
        # Pillow scales such grays to 8 bits, but not the gray that is said to be transparent.
        image = image.copy()
        image.info["transparency"] = transparent * (85 if rawmode == "L;2" else 17)
    elif isinstance(transparent, tuple) and rawmode == "RGB;16B":
        raise ImageError(
            f"{name} has 16-bit colors, one of them transparent", "convert it to 8 bits"
        )
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _from_16_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > 65535:
        raise ImageError(
            f"{name} has grays from {low} to {high}, beyond 16 bits", "convert it to 8 bits"
        )
    gray = ((values * 255 + 32767) // 65535).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray[values == transparent] = 255
    return Image.fromarray(gray).convert("RGB")
