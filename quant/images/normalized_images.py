"""Normalizes images for a network when it uses them, so that not all are in memory as float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tinyvit.preprocess import Preprocess
from tinyvit.quant.images.pixel_source import PixelSource


class NetworkInputs(Protocol):
    """Normalized images, float32 (N, 3, H, W): a tensor, or `NormalizedImages`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (N, 3, H, W)."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, images: slice, /) -> Tensor:
        """Return some of the images."""
        ...


@dataclass(frozen=True)
class NormalizedImages:
    """Images as `NetworkInputs`. They need at most a quarter of the memory of a tensor.

    Attributes:
        pixels: RGB pixels, uint8 (N, H, W, 3), resized and cropped to the input size.
        preprocess: The preprocessing, which states the mean and the standard deviation.
    """

    pixels: PixelSource
    preprocess: Preprocess

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (N, 3, H, W) of all images together."""
        count, height, width, channels = self.pixels.shape
        return count, channels, height, width

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.pixels)

    def __getitem__(self, images: slice, /) -> Tensor:
        """Return some of the images, float32 (n, 3, H, W)."""
        return torch.from_numpy(self.preprocess.normalize(self.pixels[images]))
