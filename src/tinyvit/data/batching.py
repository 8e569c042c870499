"""Running any number of images through a network whose batch size may be fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError

Scalar = TypeVar("Scalar", bound=np.generic)


def pad_batch(images: npt.NDArray[Scalar], batch_size: int) -> npt.NDArray[Scalar]:
    """Repeat the last image until the number of images is a multiple of the batch size.

    Args:
        images: Network inputs, (n, ...), n at least 1.
        batch_size: The batch size, at least 1.

    Returns:
        The same array if n is a multiple of the batch size, otherwise a longer copy.
    """
    missing_count = -len(images) % batch_size
    if missing_count == 0:
        return images
    return np.concatenate([images, np.repeat(images[-1:], missing_count, axis=0)])


def run_in_batches(
    run: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]],
    images: npt.NDArray[Any],
    batch_size: int | str | None,
) -> npt.NDArray[np.float32]:
    """Run a network on any number of images.

    Args:
        run: Function that maps network inputs, (batch, ...), to logits, float32 (batch, classes).
        images: Network inputs, (n, ...), n at least 1.
        batch_size: The only batch size that the network accepts. A string such as "N" (the name of
            a dimension), or None, means that the network accepts any batch size; all images are
            then run at once.

    Returns:
        Logits, float32 (n, classes), without those of padding images.

    Raises:
        ArtifactError: The network does not return one row of logits for each image.
    """
    if not isinstance(batch_size, int):
        return _check_rows(run(images), len(images))
    padded = pad_batch(images, batch_size)
    starts = range(0, len(padded), batch_size)
    logits = [_check_rows(run(padded[start : start + batch_size]), batch_size) for start in starts]
    # A single batch is not copied.
    joined = logits[0] if len(logits) == 1 else np.concatenate(logits)
    return joined[: len(images)]


def _check_rows(logits: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Return the logits of a batch; raise ArtifactError if they are not those of `count` images."""
    if len(logits) != count:
        raise ArtifactError(
            f"the network returns {len(logits)} rows of logits for {count} images",
            "the file is damaged, or its batch size cannot be changed: export it again",
        )
    return logits
