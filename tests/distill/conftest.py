"""A few pictures in class folders, a teacher that answers at once, and a store of its answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from tinyvit.distill.logits.save import LogitsRequest, save_logits
from tinyvit.distill.logits.store import Store

CLASSES = ("n01443537", "n02123045", "n04146614")
EACH = 4
TEACHER = f"{Path(__file__).with_name('teachers.py')}:small"


def make_pictures(folder: Path, seed: int = 0, each: int = EACH) -> Path:
    """Class folders of pictures that differ in size and in color by class."""
    random = np.random.RandomState(seed)
    for place, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = random.randint(0, 120, (40 + i, 52 - i, 3)).astype(np.uint8)
            pixels[..., place] += 120
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of three classes."""
    return make_pictures(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def store(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two epochs of them, top 5 of 1000 classes, in batches of 5."""
    return save_logits(
        LogitsRequest(
            photos,
            (TEACHER,),
            2,
            tmp_path_factory.mktemp("store") / "s",
            top_k=5,
            size=32,
            batch=5,
            precision="float32",
        )
    )
