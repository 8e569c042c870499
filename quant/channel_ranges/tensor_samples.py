"""Samples of the values of tensors, from which the channels of tensors are rescaled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.nn.model import TinyViT
from tinyvit.progress import NullProgress, Progress
from tinyvit.quant.images.image_counts import choose_batch_size

ROWS_PER_IMAGE = 32
"""Number of tokens or positions of one image in a sample."""


@dataclass
class TensorSample:
    """Values of one tensor.

    Attributes:
        rows: Some tokens or positions, float32 (rows, channels): evenly spaced ones, and the one of
            each image that has the largest value, because a few tokens can be massive.
        magnitude: The largest absolute value of each channel in all positions, (channels,).
        weights: The share of all positions that each row represents, (rows,); None if it is the
            same for all.
    """

    rows: Tensor
    magnitude: Tensor
    weights: Tensor | None = None

    def average(self, values: Tensor) -> Tensor:
        """Return the weighted mean of the rows of a matrix like `rows`, float64 (channels,)."""
        if self.weights is None:
            return values.mean(0).double()
        return (self.weights.double() / self.weights.double().sum()) @ values.double()


def sample_tensors(
    network: TinyViT, names: Sequence[str], images: Tensor, progress: Progress = NullProgress()
) -> dict[str, TensorSample]:
    """Run a network, and take samples of the outputs of modules.

    Args:
        network: The network.
        names: Names of modules whose output is tokens (N, C) or a feature map (B, C, H, W).
        images: Normalized images, float32 (N, 3, H, W).
        progress: Receives the number of images that have passed through the network.

    Returns:
        The sample of each output, by the name of the module.
    """
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    magnitudes: dict[str, Tensor] = {}

    def make_hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def record(_: nn.Module, __: Any, output: Tensor) -> None:
            values = output if output.ndim == 2 else output.movedim(1, -1)
            values = values.reshape(batch_count, -1, values.shape[-1])
            magnitude = values.abs().amax((0, 1))
            magnitudes[name] = torch.maximum(magnitude, magnitudes.get(name, magnitude))
            rows, weights = sample_rows(values)
            rows_per_image = len(rows) // batch_count
            if name not in parts:
                parts[name] = _allocate_rows(len(images) * rows_per_image, rows.shape[1])
            part = slice(start * rows_per_image, (start + batch_count) * rows_per_image)
            all_rows, all_weights = parts[name]
            all_rows[part], all_weights[part] = rows, weights

        return record

    handles = [network.get_submodule(name).register_forward_hook(make_hook(name)) for name in names]
    try:
        with torch.inference_mode():
            batch_size = choose_batch_size(*images.shape[2:])
            for start in range(0, len(images), batch_size):
                batch = images[start : start + batch_size]
                batch_count = len(batch)
                network(batch)
                progress.advance("sampling channels", start + batch_count, len(images))
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: TensorSample(rows, magnitudes[name], weights)
        for name, (rows, weights) in parts.items()
    }


@torch.inference_mode(False)
def _allocate_rows(count: int, channels: int) -> tuple[Tensor, Tensor]:
    """Allocate the rows of all images, and their weights.

    If each batch allocated its own, these small tensors would lie between the large ones of the
    run, and fragment the heap.
    """
    return torch.empty(count, channels), torch.empty(count)


def sample_rows(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return some positions, (rows, channels), and their weights, (rows,).

    Args:
        values: All positions of each image, (images, positions, channels).
    """
    step = max(1, values.shape[1] // ROWS_PER_IMAGE)
    spaced = values[:, ::step].flatten(0, 1)
    largest = values.abs().amax(2).argmax(1)
    massive = values[torch.arange(len(values)), largest]
    weights = torch.cat([torch.full((len(spaced),), float(step)), torch.ones(len(massive))])
    return torch.cat([spaced, massive]), weights
