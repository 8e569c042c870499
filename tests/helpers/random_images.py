"""Image files of random pixels. Every number gives another image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def random_image(number: int, size: tuple[int, int] = (20, 24)) -> Image.Image:
    """Return an RGB image. `size` is (height, width)."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8))


def save_random_images(
    folder: Path, numbers: Iterable[int], size: tuple[int, int] = (20, 24)
) -> Path:
    """Save one PNG file for each number, create the folder where needed, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        random_image(number, size).save(folder / f"{number:03}.png")
    return folder
