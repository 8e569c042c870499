"""Decodes large JPEG images at a half, a quarter or an eighth of their size.

libjpeg can compute fewer pixels from the frequencies that a JPEG contains. That is several times as
fast as computing all pixels and averaging them. An image is reduced only if it remains at least
`MIN_RATIO` times as large as it is resized afterwards, so that the result hardly depends on it
(docs/lab-notes/pixels.md has the measured differences).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image, JpegImagePlugin

from tinyvit.images.orientation import FLIPS_X, FLIPS_Y, SIDEWAYS

MIN_RATIO = 2.25
"""Smallest ratio of the size of a reduced image to the size that it gets by resizing."""

SizeChoice: TypeAlias = Callable[[int, int], tuple[int, int]]
"""A function from the width and height of an image, in pixels, to those after resizing, such as
`Preprocess.resized_size`."""

_SCALES = (8, 4, 2)
"""What libjpeg can divide the width and height by."""


@dataclass(frozen=True)
class Resizing:
    """How an image will be resized after it is decoded.

    Attributes:
        choose_size: Returns the size that the image gets.
        uses_box: Whether only `DecodedImage.box` is resized. If not, an image is reduced only if
            its sides are multiples of the reduction, because only then all of its pixels are
            completely inside the box.
    """

    choose_size: SizeChoice
    uses_box: bool


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image, perhaps at a reduced size.

    Attributes:
        image: The pixels, in mode RGB.
        width: Width of the image at its full size in pixels.
        height: Height of the image at its full size in pixels.
        box: Left, top, right and bottom edge of the full image in pixels of `image`. They are not
            always whole, because the full size may be no multiple of the reduction: then the last
            row or column of `image` is only partly inside.
    """

    image: Image.Image
    width: int
    height: int
    box: tuple[float, float, float, float]

    @classmethod
    def from_full(cls, image: Image.Image) -> DecodedImage:
        """Return a decoded image that is not reduced."""
        box = (0.0, 0.0, float(image.width), float(image.height))
        return cls(image, image.width, image.height, box)

    def transpose(self, operation: Image.Transpose) -> DecodedImage:
        """Return the image rotated by a multiple of 90 degrees, or flipped."""
        left, top, right, bottom = self.box
        width, height = self.width, self.height
        image = self.image.transpose(operation)
        if operation in SIDEWAYS:
            left, top, right, bottom = top, left, bottom, right
            width, height = height, width
        if operation in FLIPS_X:
            left, right = image.width - right, image.width - left
        if operation in FLIPS_Y:
            top, bottom = image.height - bottom, image.height - top
        return DecodedImage(image, width, height, (left, top, right, bottom))


def is_jpeg(image: Image.Image) -> bool:
    """Return whether an image is a JPEG file whose pixels have not been decoded yet."""
    return isinstance(image, JpegImagePlugin.JpegImageFile) and bool(image.tile)


def choose_reduction(
    size: tuple[int, int], resized: tuple[int, int], *, must_divide: bool = False
) -> int:
    """Choose by how much an image may be reduced before it is resized.

    Args:
        size: Width and height of the image in pixels.
        resized: Width and height after resizing.
        must_divide: Whether the reduction must divide width and height.

    Returns:
        8, 4, 2, or 1 if the image is too small to be reduced.
    """
    ratio = min(side / (MIN_RATIO * new) for side, new in zip(size, resized))
    scales = [scale for scale in _SCALES if ratio >= scale]
    if must_divide:
        scales = [scale for scale in scales if not any(side % scale for side in size)]
    return max(scales, default=1)


def reduce_jpeg(
    image: Image.Image, resizing: Resizing, transpose: Image.Transpose | None
) -> tuple[float, float, float, float] | None:
    """Let Pillow decode a JPEG at the smallest size that is large enough for resizing.

    Args:
        image: A JPEG that was opened and whose pixels have not been decoded. Its size changes.
        resizing: How the image will be resized.
        transpose: The operation that turns the image upright before it is resized; None if it is
            not turned.

    Returns:
        The box as in `DecodedImage`, before the image is turned; None if it is not reduced.
    """
    width, height = image.size
    if transpose in SIDEWAYS:
        resized_height, resized_width = resizing.choose_size(height, width)
    else:
        resized_width, resized_height = resizing.choose_size(width, height)
    scale = choose_reduction(
        (width, height), (resized_width, resized_height), must_divide=not resizing.uses_box
    )
    if scale == 1:
        return None
    draft = image.draft(None, (width // scale, height // scale))
    return None if draft is None else draft[1]
