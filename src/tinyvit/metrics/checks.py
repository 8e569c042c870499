"""Input checks that all metrics share."""

from __future__ import annotations

from tinyvit.errors import RequestError


def require_images(images: int) -> None:
    """Refuse to compute a statistic of no images.

    Args:
        images: Number of images that the statistic is about.

    Raises:
        RequestError: There are no images.
    """
    if images < 1:
        raise RequestError("there are no images to evaluate", "give at least one image")


def require_same_length(images: int, other_images: int) -> None:
    """Refuse inputs that describe different numbers of images.

    Args:
        images: Number of images that one input describes.
        other_images: Number of images that the other input describes.

    Raises:
        RequestError: The two numbers differ.
    """
    if images != other_images:
        raise RequestError(
            f"the inputs describe {images} and {other_images} images",
            "give one entry for each image in both",
        )
