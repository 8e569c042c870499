"""Running any number of images through a network whose batch size may be fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError

Scalar = TypeVar("Scalar", bound=np.generic)

Outputs: TypeAlias = "tuple[npt.NDArray[np.float32], ...]"
"""One array for each output of a network; the first dimension is the batch, or is left out for a
single image."""


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
    """Run a network with one output on any number of images.

    Args:
        run: Function that maps network inputs, (batch, ...), to logits, float32 (batch, classes).
        images: Network inputs, (n, ...), n at least 1.
        batch_size: As for `run_outputs_in_batches`.

    Returns:
        Logits, float32 (n, classes), without those of padding images.

    Raises:
        ArtifactError: The network does not return one row of logits for each image.
    """
    (logits,) = run_outputs_in_batches(lambda batch: (run(batch),), images, batch_size)
    return logits


def run_outputs_in_batches(
    run_outputs: Callable[[npt.NDArray[Any]], Outputs],
    images: npt.NDArray[Any],
    batch_size: int | str | None,
) -> Outputs:
    """Run a network on any number of images.

    Args:
        run_outputs: Function that maps network inputs, (batch, ...), to outputs, float32
            (batch, ...) each.
        images: Network inputs, (n, ...), n at least 1.
        batch_size: The only batch size that the network accepts. A string such as "N" (the name of
            a dimension), or None, means that the network accepts any batch size; all images are
            then run at once.

    Returns:
        The outputs, float32 (n, ...) each, without those of padding images.

    Raises:
        ArtifactError: An output does not have one row for each image.
    """
    if not isinstance(batch_size, int):
        return _check_rows(run_outputs(images), len(images))
    padded = pad_batch(images, batch_size)
    starts = range(0, len(padded), batch_size)
    batches = [
        _check_rows(run_outputs(padded[start : start + batch_size]), batch_size) for start in starts
    ]
    # A single batch is not copied.
    joined = batches[0] if len(batches) == 1 else tuple(map(np.concatenate, zip(*batches)))
    return tuple(output[: len(images)] for output in joined)


def _check_rows(outputs: Outputs, count: int) -> Outputs:
    """Return the outputs of a batch; raise ArtifactError if one is not that of `count` images."""
    for output in outputs:
        if len(output) != count:
            raise ArtifactError(
                f"the network returns {len(output)} rows of output for {count} images",
                "the file is damaged, or its batch size cannot be changed: export it again",
            )
    return outputs
