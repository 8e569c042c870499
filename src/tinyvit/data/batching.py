"""Running any number of images through a network whose batch size may be fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)


def pad_batch(images: npt.NDArray[Scalar], batch: int) -> npt.NDArray[Scalar]:
    """Repeat the last image until the number of images is a multiple of the batch size.

    Args:
        images: Network inputs, (n, ...), n at least 1.
        batch: The batch size, at least 1.

    Returns:
        The same array if n is already such a multiple, otherwise a longer copy.
    """
    missing = -len(images) % batch
    if not missing:
        return images
    return np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])


def run_in_batches(
    run: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]],
    images: npt.NDArray[Any],
    batch: int | str | None,
) -> npt.NDArray[np.float32]:
    """Run a network on any number of images.

    Args:
        run: Maps network inputs, (batch, ...), to logits, float32 (batch, classes).
        images: Network inputs, (n, ...), n at least 1.
        batch: The only batch size that the network accepts. A string such as "N", or None, means
            that it accepts any batch size; all images are then run at once.

    Returns:
        Logits, float32 (n, classes), without those of padding images.
    """
    if not isinstance(batch, int):
        return run(images)
    padded = pad_batch(images, batch)
    logits = [run(padded[start : start + batch]) for start in range(0, len(padded), batch)]
    return (logits[0] if len(logits) == 1 else np.concatenate(logits))[: len(images)]
