"""Generates pictures of noise, because no data set has as many as the study needs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tinyvit.labels import Label
from tinyvit.runtimes.artifact import read_artifact

_PICTURE_SIDE = 64
"""Usual width and height of the generated pictures in pixels."""
_LINKS_OF_A_FILE = 50_000
"""Number of names that one picture gets. File systems allow 65,000, for example."""


def read_class_labels(path: Path) -> tuple[Label, ...]:
    """Read the labels of an artifact, which become names of folders.

    Args:
        path: A file that tinyvit-export wrote.
    """
    manifest = read_artifact(path).manifest
    assert manifest is not None  # tinyvit-export wrote the file
    return tuple(manifest.labels)


def save_pictures(
    folder: Path, count: int, labels: tuple[Label, ...], side: int = _PICTURE_SIDE
) -> Path:
    """Generate different pictures of noise, in one folder for each class.

    Args:
        folder: Folder that contains the folder of each number of pictures.
        count: Number of pictures, at least as many as classes.
        labels: The classes, of which as many are used as there are pictures.
        side: Width and height of the pictures in pixels.

    Returns:
        The folder of these pictures.
    """
    root = folder / f"pictures-{side}-{count}"
    if root.is_dir():
        return root
    rng = np.random.default_rng(0)
    names = [label.wnid or label.name for label in labels[:count]]
    for name in names:
        (root / name).mkdir(parents=True)
    for index in range(count):
        picture = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
        picture.save(root / names[index % len(names)] / f"{index:07}.jpg")
    return root


def link_pictures(folder: Path, count: int, labels: tuple[Label, ...]) -> Path:
    """Make many names of few pictures, in one folder for each class.

    Args:
        folder: Folder that contains the folder of each number of pictures.
        count: Number of names, at least as many as classes.
        labels: The classes, of which as many are used as there are names.

    Returns:
        The folder of these names.
    """
    root = folder / f"names-{count}"
    if root.is_dir():
        return root
    classes = save_pictures(folder, min(count, len(labels)), labels)
    sources = sorted(classes.glob("*/*.jpg"))
    for index in range(count):
        number = index % len(sources)
        path = root / sources[number].parent.name / f"{index:07}.jpg"
        if index // len(sources) % _LINKS_OF_A_FILE:
            os.link(sources[number], path)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sources[number], path)
        sources[number] = path
    return root
