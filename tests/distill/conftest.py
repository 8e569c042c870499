"""Fixtures: a few images in class folders, and a store of a small teacher's outputs for them."""

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
    """Twelve images of three classes."""
    return write_class_folders(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def store(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two epochs of the twelve images, top 5 of 1,000 classes, in batches of 5."""
    request = LogitsRequest(
        image_folder,
        (TEACHER,),
        2,
        tmp_path_factory.mktemp("store") / "store",
        top_k=5,
        size=32,
        batch=5,
        precision="float32",
    )
    return save_logits(request)
