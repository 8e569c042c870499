"""Decoding of images: files, bytes, Pillow images and arrays become RGB images.

The result is what an image viewer would show: transparent parts become white, 16-bit values are
scaled to 8 bits, and the rotation in the EXIF data is applied. An image that cannot be converted
correctly raises an ImageError. Pillow's global settings are not changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import TypeAlias

from PIL import Image, ImageFile, UnidentifiedImageError

from tinyvit.errors import ImageError, RequestError
from tinyvit.files.limited_reader import ReadLimitError
from tinyvit.files.regular_files import open_regular_file
from tinyvit.images.arrays import ChannelOrder as ChannelOrder
from tinyvit.images.arrays import SupportsArray, convert_array, is_array_like, to_numpy
from tinyvit.images.colors import convert_to_rgb
from tinyvit.images.decoder_errors import DECODER_ERRORS
from tinyvit.images.diagnosis import (
    HEAD_BYTES,
    describe_source,
    explain_unknown_format,
    explain_unreadable,
    find_file,
    is_heif,
)
from tinyvit.images.file_limits import (
    LimitedImageBytes,
    LimitedImageFile,
    limit_decoding,
    limit_header,
)
from tinyvit.images.libtiff_messages import silence_libtiff
from tinyvit.images.orientation import find_transpose
from tinyvit.images.reduced_size import (
    DecodedImage,
    Resizing,
    SizeChoice,
    is_jpeg,
    reduce_jpeg,
)

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | SupportsArray"
)
"""Anything that `open_image` accepts: the path or the bytes of a file, a Pillow image, an array, a
tensor."""

MAX_PIXELS = 89_478_485
"""Images with more pixels are not decoded. The number is Pillow's default limit.
It is checked here because a program can change Pillow's own limit."""

MAX_SIDE = 200_000
"""Images with more pixels in a row or in a column are not decoded. This is three times the largest
side of a JPEG. Decoders need a step for each row, so 1 x 89 million pixels take minutes."""

MAX_FILE_BYTES = 2**30
"""Larger image files are not read: some decoders read the whole file into memory first. An image of
MAX_PIXELS pixels with four channels of 16 bits has 0.7 GiB without compression."""

# Not every format that Pillow supports is safe: EPS starts Ghostscript, and some formats accept
# nearly any bytes as an image.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF", "HEIF")


def open_image(
    source: ImageSource, *, channels: ChannelOrder = "rgb", exif: bool = True
) -> Image.Image:
    """Decode an image completely into RGB.

    Only the first frame of an animation is decoded. Transparent parts become white, and 16-bit
    gray values are scaled to 8 bits.

    Args:
        source: The path or the bytes of a file, a Pillow image (its current frame), or an array,
            uint8 (height, width, 3). A tensor of torch may also be uint8 (3, height, width). An
            array uint8 (n,) is taken as the bytes of a file.
        channels: Order of the color channels of an array. Files and Pillow images define their own
            order: for them, `channels` is ignored.
        exif: Whether to rotate the image by its EXIF orientation. Published accuracies were
            measured without this rotation.

    Returns:
        A new Pillow image of mode RGB without metadata.

    Raises:
        ImageError: The source is not an image, is damaged, is larger than MAX_PIXELS, MAX_SIDE or
            MAX_FILE_BYTES, or cannot be represented in 8 bits. The message names the source.
        RequestError: `channels` is not a known order.
    """
    return _open_decoded(source, None, channels, exif).image


def open_image_for_resizing(
    source: ImageSource,
    choose_size: SizeChoice,
    *,
    uses_box: bool = True,
    channels: ChannelOrder = "rgb",
    exif: bool = True,
) -> DecodedImage:
    """Decode an image into RGB, a large JPEG perhaps at a reduced size.

    Prediction, calibration and the measurement of accuracy all decode images with this function.
    Only JPEG files of at least 4.5 times the size after resizing are reduced
    (`tinyvit.images.reduced_size`). The pixels of all other images are those of `open_image`.

    Args:
        source: As for `open_image`. A Pillow image is never reduced.
        choose_size: Returns the width and height to which an image of a given width and height will
            be resized, such as `Preprocess.resized_size`.
        uses_box: Whether only the box of the result is resized. If not, an image is reduced only if
            all pixels of the result are inside the box.
        channels: As for `open_image`.
        exif: As for `open_image`.

    Returns:
        The image and its full size.

    Raises:
        ImageError: As for `open_image`.
        RequestError: As for `open_image`.
    """
    return _open_decoded(source, Resizing(choose_size, uses_box), channels, exif)


def _open_decoded(
    source: ImageSource, resizing: Resizing | None, channels: ChannelOrder, exif: bool
) -> DecodedImage:
    """Decode an image into RGB, at a reduced size only if `resizing` is not None."""
    if channels not in ("rgb", "bgr"):
        raise RequestError(
            f"channels={channels!r} is not known",
            'give "rgb", or "bgr" for arrays that OpenCV read',
        )
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    if is_array_like(source):
        if not _has_bytes_of_a_file(source):
            return DecodedImage.from_full(convert_array(source, channels))
        source = to_numpy(source).tobytes()
    if isinstance(source, Image.Image):
        resizing = None  # reducing it would change the caller's image
    name = describe_source(source)
    try:
        with _open_lazily(source, name) as image:
            return _decode(image, name, resizing, exif)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _make_size_error(name, str(error)) from error
    except ReadLimitError as error:
        raise ImageError(
            f"{name} would take too long to decode: {error}", "save it again, for example as PNG"
        ) from error
    except DECODER_ERRORS as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise ImageError(
            f"{name} cannot be decoded ({reason})", "the file is damaged or incomplete: replace it"
        ) from error


def _has_bytes_of_a_file(array: SupportsArray) -> bool:
    """Return whether an array is the content of an image file, as cv2.imencode returns it."""
    return len(array.shape) == 1 and str(array.dtype) in ("uint8", "torch.uint8")


@contextmanager
def _open_lazily(source: object, name: str) -> Iterator[Image.Image]:
    """Open a source as a Pillow image. Only its header is read here."""
    if isinstance(source, Image.Image):
        yield source
    elif isinstance(source, bytes):
        if not source:
            raise ImageError("the image is empty: 0 bytes", "give the bytes of an image file")
        _check_file_size(len(source), name)
        yield _identify_format(LimitedImageBytes(source), name)
    elif isinstance(source, (str, os.PathLike)):
        try:
            file = LimitedImageFile(open_regular_file(find_file(source)).detach())
        except OSError as error:
            raise explain_unreadable(name, error) from error
        with file:
            _check_file_size(os.fstat(file.fileno()).st_size, name)
            yield _identify_format(file, name)
    else:
        raise ImageError(
            f"{name} is not an image",
            "give a path, bytes, a Pillow image, or a uint8 array of (height, width, 3)",
        )


def _check_file_size(size_bytes: int, name: str) -> None:
    """Raise ImageError if an image file is larger than `MAX_FILE_BYTES`."""
    if size_bytes > MAX_FILE_BYTES:
        raise ImageError(
            f"{name} has {size_bytes / 2**30:.1f} GiB, more than {MAX_FILE_BYTES >> 30}",
            "give an image file of a usual size",
        )


def _identify_format(file: LimitedImageBytes | LimitedImageFile, name: str) -> Image.Image:
    """Open an image file in one of the allowed formats.

    Formats whose plugins Pillow loads by default are tried first, because loading the other plugins
    is slow.
    """
    limit_header(file)
    Image.preinit()
    default_formats = [format for format in _FORMATS if format in Image.OPEN]
    try:
        return Image.open(file, formats=default_formats)
    except UnidentifiedImageError:
        Image.init()
        other_formats = [
            format for format in _FORMATS if format in Image.OPEN and format not in default_formats
        ]
        limit_header(file)
    try:
        return Image.open(file, formats=other_formats)
    except UnidentifiedImageError as error:
        limit_header(file)
        head = file.read(HEAD_BYTES)
        file.seek(0)
        if is_heif(head) and find_spec("pillow_heif") is not None:
            return _open_heif(file)
        raise explain_unknown_format(head, name) from error


def _open_heif(file: LimitedImageBytes | LimitedImageFile) -> Image.Image:
    """Open a HEIC photo with pillow-heif, without registering it in Pillow for the whole process.

    pillow-heif rotates the pixels itself and sets the EXIF orientation to 1.
    """
    plugin = import_module("pillow_heif")
    image: Image.Image = plugin.HeifImageFile(file)
    return image


def _decode(image: Image.Image, name: str, resizing: Resizing | None, exif: bool) -> DecodedImage:
    """Decode a lazily opened image to RGB, and rotate it by its EXIF orientation if `exif`."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _make_size_error(name, f"{width} x {height} are more than {MAX_PIXELS}")
    if max(image.size) > MAX_SIDE:
        raise _make_size_error(name, f"{width} x {height}: a side has more than {MAX_SIDE}")
    # The raw mode (pixel format in the file) is read first: load() removes it from the image.
    raw_mode = image.tile[0][3] if isinstance(image, ImageFile.ImageFile) and image.tile else None
    limit_decoding(image)
    box = None
    if resizing is not None and is_jpeg(image):
        box = reduce_jpeg(image, resizing, find_transpose(image) if exif else None)
    with silence_libtiff() if image.format == "TIFF" else nullcontext():
        image.load()
    transpose = find_transpose(image) if exif else None
    if resizing is not None and image.mode == "RGB" and not image.has_transparency_data:
        rgb = image  # of a file that was opened here; it will only be resized, so no copy is made
    else:
        rgb = convert_to_rgb(image, raw_mode, name)
        # The EXIF data are removed: otherwise a second call would rotate the image again.
        rgb.info = {}
    decoded = DecodedImage(rgb, width, height, box) if box else DecodedImage.from_full(rgb)
    return decoded if transpose is None else decoded.transpose(transpose)


def _make_size_error(name: str, reason: str) -> ImageError:
    return ImageError(
        f"{name} has too many pixels ({reason})",
        "make it smaller; if it is small, its header is damaged: replace it",
    )
