"""The EXIF orientation of an image, and the operations that turn an image upright."""

from __future__ import annotations

from PIL import Image

from tinyvit.images.decoder_errors import DECODER_ERRORS

SIDEWAYS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
)
"""The operations that exchange width and height."""
FLIPS_X = (
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
)
"""The operations after which the end of the rows or columns is at the left."""
FLIPS_Y = (
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.ROTATE_180,
    Image.Transpose.ROTATE_90,
    Image.Transpose.TRANSVERSE,
)
"""The operations after which the end of the rows or columns is at the top."""

_MAX_EXIF_BYTES = 16 * 2**20
"""Larger EXIF data are ignored. Those of JPEG have 64 KiB. Pillow converts all values of a tag."""

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


def find_transpose(image: Image.Image) -> Image.Transpose | None:
    """Return the operation that turns an image upright by its EXIF data; None if it is upright.

    Args:
        image: An image whose pixels may not have been decoded yet.
    """
    return _UPRIGHT_TRANSPOSES.get(_read_orientation(image))


def _read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation. Like image viewers, assume 1 (upright) for damaged EXIF data."""
    if len(image.info.get("exif") or b"") > _MAX_EXIF_BYTES:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except DECODER_ERRORS:
        return 1
