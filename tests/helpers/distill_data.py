"""Small class folders, and the teachers that tests of distillation name on command lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("n01443537", "n02123045", "n04146614")
"""WordNet ids of the class folders: goldfish, tabby, school bus."""

IMAGES_PER_CLASS = 4

TEACHER = f"{Path(__file__).with_name('teachers.py')}:small"
"""The default teacher of tests, as a command line names it: "file.py:function"."""


def write_class_folders(
    folder: Path, seed: int = 0, images_per_class: int = IMAGES_PER_CLASS
) -> Path:
    """Write class folders of random images and return `folder`.

    Every image of a class has another size, and every class another dominant color.
    """
    random = np.random.RandomState(seed)
    for channel, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(images_per_class):
            shape = (40 + number, 52 - number, 3)
            pixels = random.randint(0, 120, shape).astype(np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def name_teacher(function: str) -> str:
    """Return the name of a teacher in `teachers.py`, as a command line states it."""
    return TEACHER.replace(":small", f":{function}")
