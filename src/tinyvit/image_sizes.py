"""The image sizes at which TinyViT can run, and the sizes of its attention windows.

The input of the network is a square image. Its sides are multiples of 32 pixels, because the
feature map of the last stage is 32 times smaller.
"""

from __future__ import annotations

from typing import Literal, get_args

from tinyvit.errors import RequestError

MIN_SIZE, MAX_SIZE = 32, 1024
"""Smallest and largest supported side of the input image in pixels."""

Windows = Literal["checkpoint", "scaled"]
"""How the attention windows of a network follow its image size.

- "checkpoint": the windows have as many tokens as in the checkpoint file. A feature map that is not
  a whole number of windows wide is padded, as in timm's TinyViT.
- "scaled": the sides of the windows are proportional to the image size (`compute_window_sizes`),
  and the attention biases are interpolated to them, as in the paper's fine-tuning at 384 and 512
  pixels.
"""


def is_supported_size(img_size: object) -> bool:
    """Return whether TinyViT can run at an image size: a multiple of 32 from MIN_SIZE to MAX_SIZE.

    Args:
        img_size: Side of the square input in pixels. Anything but an int is not supported.
    """
    if isinstance(img_size, bool) or not isinstance(img_size, int):
        return False
    return img_size % 32 == 0 and MIN_SIZE <= img_size <= MAX_SIZE


def check_size(img_size: int) -> None:
    """Check that TinyViT can run at an image size.

    Args:
        img_size: Side of the square input in pixels.

    Raises:
        RequestError: The size is not an int, not a multiple of 32, or not between MIN_SIZE and
            MAX_SIZE. For an int, the message contains the nearest possible sizes.
    """
    if isinstance(img_size, bool) or not isinstance(img_size, int):
        raise RequestError(
            f"the image size {img_size!r} is not an int", "use an int that is a multiple of 32"
        )
    if not is_supported_size(img_size):
        lower = min(max(img_size // 32 * 32, MIN_SIZE), MAX_SIZE)
        nearest = sorted({lower, min(lower + 32, MAX_SIZE)})
        raise RequestError(
            f"TinyViT cannot run at {img_size} pixels",
            f"use a multiple of 32, such as {' or '.join(map(str, nearest))}",
        )


def check_windows(windows: str | None) -> None:
    """Check a request for one of `Windows`.

    Args:
        windows: The requested value; None requests nothing.

    Raises:
        RequestError: The value is not one of `Windows`.
    """
    if windows is not None and windows not in get_args(Windows):
        raise RequestError(
            f"--windows {windows} is not possible",
            "use checkpoint (keep the attention windows of the checkpoint and pad feature maps) or"
            " scaled (interpolate the attention biases to windows in proportion to the image size)",
        )


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
    side = img_size // 32
    return side, side, 2 * side, side
