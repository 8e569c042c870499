"""Images of random pixels. Each number is a seed and gives a different image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def make_random_image(number: int, size: tuple[int, int] = (20, 24)) -> Image.Image:
    """Make an RGB image from the seed `number`; `size` is (height, width) in pixels."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8))


def save_random_images(
    folder: Path, numbers: Iterable[int], size: tuple[int, int] = (20, 24)
) -> Path:
    """Save one PNG file for each number, in a folder that may not exist yet; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        make_random_image(number, size).save(folder / f"{number:03}.png")
    return folder
