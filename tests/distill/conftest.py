"""A few images in class folders, and a store of a small teacher's outputs for them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.helpers.distill_data import TEACHER, write_class_folders
from tinyvit.distill.logits.save import save_logits
from tinyvit.distill.logits.store import Store
from tinyvit.distill.logits.teacher_predictions import LogitsRequest


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with twelve images of three classes."""
    return write_class_folders(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def store(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of two epochs of the twelve images, with the top 5 of 1,000 classes."""
    request = LogitsRequest(
        data=image_folder,
        teachers=(TEACHER,),
        epochs=2,
        output=tmp_path_factory.mktemp("store") / "store",
        top_k=5,
        size=32,
        batch=5,
        precision="float32",
    )
    return save_logits(request)
