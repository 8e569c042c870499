"""The image sizes at which TinyViT can run, and the sizes of its feature maps and windows.

A size is the side of a square in pixels, or (height, width) as in timm and PyTorch.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any, Literal, TypeGuard, get_args

from tinyvit.errors import RequestError

MIN_SIZE, MAX_SIZE = 32, 1024
"""Smallest and largest supported height and width of the input image in pixels."""

ImageSize = int | tuple[int, int]
"""Size of an image in pixels: the side of a square, or (height, width) if these differ.

`make_image_size` turns (224, 224) into 224, so equal sizes compare equal.
"""

Windows = Literal["checkpoint", "scaled"]
"""How the attention windows of a network follow its image size.

- "checkpoint": the windows have as many tokens as in the checkpoint file. A feature map that is not
  a whole number of windows high or wide is padded, as in timm's TinyViT.
- "scaled": the sides of the windows are proportional to the image size (`compute_window_sizes`),
  and the attention biases are interpolated to them, as in the paper's fine-tuning at 384 and 512
  pixels. Windows are squares, so the image must be one too.
"""

_SCALED_STEP = 32
"""Scaled windows need an image side that is a multiple of this number of pixels, because the
feature map of the last stage is 32 times smaller and has one window."""


def make_image_size(height: int, width: int) -> ImageSize:
    """Return a size as the side of a square if height and width are equal, else as both."""
    return height if height == width else (height, width)


def height_and_width(size: ImageSize) -> tuple[int, int]:
    """Return the height and the width of an image size in pixels."""
    return (size, size) if isinstance(size, int) else size


def describe_size(size: ImageSize) -> str:
    """Return a size as text, height first, such as "224 x 224" or "320 x 256"."""
    height, width = height_and_width(size)
    return f"{height} x {width}"


def format_size(size: ImageSize) -> str:
    """Return a size as text with one number for a square, such as "224" or "320 x 256"."""
    return str(size) if isinstance(size, int) else describe_size(size)


def describe_pixels(size: ImageSize) -> str:
    """Return a size with its unit, such as "224 pixels" or "320 x 256 pixels"."""
    return f"{format_size(size)} pixels"


def parse_size(text: str) -> ImageSize:
    """Parse the value of an option such as --img-size.

    Args:
        text: The side of a square, such as "224", or height x width, such as "320x256".

    Returns:
        The size; `check_size` checks whether TinyViT can run at it.

    Raises:
        argparse.ArgumentTypeError: The text has another form.
    """
    numbers = text.lower().split("x")
    if len(numbers) > 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise ArgumentTypeError(
            f"{text!r} is not a size: give the side of a square (224) or height x width (320x256)"
        )
    sides = [int(number[:9]) for number in numbers]
    return make_image_size(sides[0], sides[-1])


def is_image_size(size: object) -> TypeGuard[ImageSize]:
    """Return whether a value has the form of an `ImageSize`; its numbers are not checked."""
    sides = size if isinstance(size, tuple) else (size, size)
    return (
        len(sides) == 2
        and not any(isinstance(side, bool) for side in sides)
        and all(isinstance(side, int) for side in sides)
    )


def is_supported_size(img_size: object) -> TypeGuard[ImageSize]:
    """Return whether TinyViT can run at an image size: MIN_SIZE to MAX_SIZE in both directions.

    Args:
        img_size: Size in pixels. Anything but an int or two of them is not supported.
    """
    return is_image_size(img_size) and all(
        MIN_SIZE <= side <= MAX_SIZE for side in height_and_width(img_size)
    )


def check_size(img_size: Any) -> None:
    """Check that TinyViT can run at an image size.

    Args:
        img_size: Size in pixels.

    Raises:
        RequestError: The size is not an int or two of them, or is not between MIN_SIZE and
            MAX_SIZE.
    """
    if not is_image_size(img_size):
        raise RequestError(
            f"the image size {img_size!r} is neither an int nor a tuple (height, width) of ints",
            f"use an int from {MIN_SIZE} to {MAX_SIZE}, such as 224, or two, such as (320, 256)",
        )
    if not is_supported_size(img_size):
        raise RequestError(
            f"TinyViT cannot run at {describe_pixels(img_size)}",
            f"use a height and a width from {MIN_SIZE} to {MAX_SIZE}",
        )


def check_training_size(img_size: int) -> None:
    """Check that TinyViT can be trained at an image size.

    Training scales the windows of a checkpoint in proportion to the image, as in the paper.

    Args:
        img_size: Side of the square input in pixels.

    Raises:
        RequestError: The size is not a multiple of 32 from MIN_SIZE to MAX_SIZE. The message
            contains the nearest possible sizes.
    """
    if not can_scale_windows(img_size) or not is_supported_size(img_size):
        lower = min(max(img_size // _SCALED_STEP * _SCALED_STEP, MIN_SIZE), MAX_SIZE)
        nearest = sorted({lower, min(lower + _SCALED_STEP, MAX_SIZE)})
        raise RequestError(
            f"TinyViT cannot be trained at {img_size} pixels",
            f"use a multiple of {_SCALED_STEP}, such as {' or '.join(map(str, nearest))}",
        )


def require_square(img_size: ImageSize, task: str) -> int:
    """Return the side of a square image size.

    Args:
        img_size: Size in pixels.
        task: What needs square images, as the subject of a sentence.

    Raises:
        RequestError: The height and the width differ.
    """
    if not isinstance(img_size, int):
        raise RequestError(
            f"{task} needs square images, and the network is for {describe_pixels(img_size)}",
            "give --img-size the side of a square",
        )
    return img_size


def check_windows(windows: str | None, img_size: ImageSize | None = None) -> None:
    """Check a request for one of `Windows`.

    Args:
        windows: The requested value; None requests nothing.
        img_size: The image size for which it is requested; None if it is not known.

    Raises:
        RequestError: The value is not one of `Windows`, or windows cannot be scaled to the size.
    """
    if windows is not None and windows not in get_args(Windows):
        raise RequestError(
            f"--windows {windows} is not possible",
            "use checkpoint (keep the attention windows of the checkpoint and pad feature maps) or"
            " scaled (interpolate the attention biases to windows in proportion to the image size)",
        )
    if windows == "scaled" and img_size is not None and not can_scale_windows(img_size):
        raise RequestError(
            f"--windows scaled is not possible at {describe_pixels(img_size)}: scaled windows need"
            f" a square image whose side is a multiple of {_SCALED_STEP}",
            "use --windows checkpoint, which pads feature maps as timm does, or another --img-size",
        )


def can_scale_windows(img_size: ImageSize) -> bool:
    """Return whether an image is a square with a side that `compute_window_sizes` can divide."""
    return isinstance(img_size, int) and img_size % _SCALED_STEP == 0


def compute_window_sizes(img_size: int) -> tuple[int, int, int, int]:
    """Compute the sides of the attention windows for an image size.

    For an image with a side of N pixels, these are N/32, N/32, N/16 and N/32 tokens, as in the
    configs of the paper's code (microsoft/Cream, TinyViT/configs).

    Args:
        img_size: Side of the square input in pixels, a multiple of 32.

    Returns:
        Sides in tokens, one for each stage. The first stage has no attention and does not use its
        number.
    """
    side = img_size // _SCALED_STEP
    return side, side, 2 * side, side


def compute_map_sizes(
    img_size: ImageSize, last_stage_stride: int = 2
) -> tuple[tuple[int, int], ...]:
    """Compute the heights and widths of the feature maps of the four stages, in tokens.

    Each of the five convolutions of stride 2 halves both and rounds up: two in the patch embedding,
    and one before each of the last three stages.

    Args:
        img_size: Size of the input in pixels.
        last_stage_stride: Stride of the convolution before the last stage: 2, or 1 in MobileSAM,
            where the last stage keeps the size of the third.

    Returns:
        One (height, width) for each stage, such as (56, 56), (28, 28), (14, 14), (7, 7) for 224.
    """
    height, width = height_and_width(img_size)
    sizes = []
    for stride in (2, 2, 2, 2, last_stage_stride):
        height, width = -(-height // stride), -(-width // stride)
        sizes.append((height, width))
    return tuple(sizes[1:])
