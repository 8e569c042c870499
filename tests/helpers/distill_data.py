"""Small class folders and the requests that tests of distillation share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("n01443537", "n02123045", "n04146614")
"""WordNet ids of the class folders: goldfish, tabby, school bus."""
IMAGES_PER_CLASS = 4
TEACHER = f"{Path(__file__).with_name('teachers.py')}:small"
"""The default teacher of tests, as it is named on the command line."""


def write_class_folders(
    folder: Path, seed: int = 0, images_per_class: int = IMAGES_PER_CLASS
) -> Path:
    """Write class folders of random images; sizes differ by image, and colors by class."""
    random = np.random.RandomState(seed)
    for channel, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(images_per_class):
            shape = (40 + number, 52 - number, 3)
            pixels = random.randint(0, 120, shape).astype(np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def teacher_named(function: str) -> str:
    """Name another function of `teachers.py` as the command line does."""
    return TEACHER.replace(":small", f":{function}")
