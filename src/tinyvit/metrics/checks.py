"""Input checks that all metrics share."""

from __future__ import annotations

from tinyvit.errors import RequestError


def require_images(image_count: int) -> None:
    """Check that a statistic describes at least one image.

    Args:
        image_count: Number of images that the statistic describes.

    Raises:
        RequestError: There are no images.
    """
    if image_count < 1:
        raise RequestError("there are no images to evaluate", "give at least one image")


def require_same_length(image_count: int, other_image_count: int) -> None:
    """Check that two inputs of a statistic describe the same number of images.

    Args:
        image_count: Number of images that one input describes.
        other_image_count: Number of images that the other input describes.

    Raises:
        RequestError: The two numbers differ.
    """
    if image_count != other_image_count:
        raise RequestError(
            f"the inputs describe {image_count} and {other_image_count} images",
            "give both inputs one entry for each image",
        )
