"""Small photographs to calibrate with, cut out of the two example photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def save_photograph_crops(examples: Path, folder: Path) -> None:
    """Save 120 random square crops as PNG files of 96 x 96 pixels.

    Args:
        examples: The folder examples/images.
        folder: An existing folder for the files.
    """
    rng = np.random.default_rng(0)
    for name in ("cat.jpg", "coffee.jpg"):
        photograph = Image.open(examples / name).convert("RGB")
        for i in range(60):
            side = int(rng.integers(80, min(photograph.size)))
            left, top = (int(rng.integers(0, size - side + 1)) for size in photograph.size)
            crop = photograph.crop((left, top, left + side, top + side))
            crop.resize((96, 96)).save(folder / f"{name}{i}.png")
