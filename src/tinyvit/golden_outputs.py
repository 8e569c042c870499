"""Which values of a network's outputs are compared with the golden vectors of its manifest.

All values of logits and of an embedding are compared. A feature map has up to millions of values,
so a few that are evenly spaced stand for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.manifest_parts import OutputSpec

FEATURE_SAMPLES = 512
"""Number of values of a feature map that are compared. They are at the positions
floor(i * count / 512) of its `count` values, in the order channel, row, column."""


def count_compared_values(spec: OutputSpec) -> int:
    """Return how many values of one image of an output are compared.

    Args:
        spec: The output. It may come from a hostile manifest.

    Raises:
        ValueError: A dimension other than the batch has no fixed size of at least 1.
    """
    sizes = [size for size in spec.shape[1:] if isinstance(size, int) and size > 0]
    if len(sizes) != len(spec.shape) - 1 or not sizes:
        raise ValueError(f"the shape of {spec.name} is not known")
    return min(prod(sizes), FEATURE_SAMPLES) if spec.kind == "features" else prod(sizes)


def select_compared_values(output: npt.NDArray[Any], spec: OutputSpec) -> npt.NDArray[Any]:
    """Select the values of an output that are compared.

    Args:
        output: The output of a batch, (batch, ...).
        spec: Its description.

    Returns:
        The values, (batch, `count_compared_values(spec)`).
    """
    return sample_values(output, count_compared_values(spec))


def sample_values(output: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """Select evenly spaced values of each image of a batch.

    Args:
        output: The output of a batch, (batch, ...).
        count: Number of values; all values if there are not more.

    Returns:
        The values, (batch, `count` or fewer), in their order.
    """
    flat = output.reshape(len(output), -1)
    if flat.shape[1] <= count:
        return flat
    return flat[:, np.arange(count) * flat.shape[1] // count]


def split_row(row: Sequence[float], specs: Sequence[OutputSpec]) -> list[npt.NDArray[np.float64]]:
    """Divide the golden values of one input into those of each output.

    Args:
        row: The values of all outputs, one output after the other.
        specs: The outputs.

    Returns:
        One array for each output, float64 (`count_compared_values(spec)`,).
    """
    ends = np.cumsum([count_compared_values(spec) for spec in specs])
    return np.split(np.asarray(row, np.float64), ends[:-1])
