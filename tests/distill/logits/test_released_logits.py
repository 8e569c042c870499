"""Logits that the paper's code wrote become a store, whose views follow the paper's rules."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.helpers.paper_logits import K, RecordArray, write_rank
from tinyvit.data.class_folders import read_image_folder
from tinyvit.distill.augmentation.paper_views import make_paper_view
from tinyvit.distill.augmentation.probe import hash_probe_views
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.augmentation.views import ViewSource
from tinyvit.distill.logits.check import check_store
from tinyvit.distill.logits.convert import ReleasedLogits, convert_store
from tinyvit.distill.logits.header import HEADER_NAME
from tinyvit.distill.logits.records import compute_checksums
from tinyvit.distill.logits.store import Store, open_store
from tinyvit.distill.training.batches.sample_order import shuffle_indices
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.train import train_student
from tinyvit.errors import RequestError
from tinyvit.nn.model import TinyViT


def write_released_epochs(folder: Path, keys: list[str], epochs: int = 2) -> list[RecordArray]:
    """Write epochs of one rank, with records for the keys in reverse order, and return them."""
    return [
        write_rank(folder / f"logits_top{K}_epoch{epoch}", 0, keys[::-1], seed=epoch)[::-1]
        for epoch in range(epochs)
    ]


@pytest.mark.parametrize("form", ["stems", "numbers", "paths"])
def test_released_files_become_a_store_with_the_papers_views(
    image_folder: Path, tmp_path: Path, form: str
) -> None:
    """The paper's code names images of ImageNet-22k by stems, and other images by numbers."""
    data = tmp_path / "images"
    paths = []
    for path in sorted(image_folder.rglob("*.png")):
        copied = data / path.parent.name / f"{path.parent.name}_{path.name}"
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
        paths.append(copied)
    keys = {
        "stems": [path.stem for path in paths],
        "numbers": [str(number) for number in range(12)],
        "paths": [str(path.relative_to(data)) for path in paths],
    }[form]
    written = write_released_epochs(tmp_path / "released", keys)
    convert_store(tmp_path / "released", data, "store", tmp_path / "s", ReleasedLogits(size=32))
    store = open_store(tmp_path / "s")
    assert store.header.augmentation == Augmentation(rule="paper")
    assert (store.epochs, store.header.num_classes, store.header.size) == (2, 21841, 32)
    for epoch in range(2):
        records = store.read_epoch(epoch)[:]
        for field in ("seed", "classes", "probabilities"):
            assert records[field].tolist() == written[epoch][field].tolist()
    assert len(list(check_store(tmp_path / "s", data, ()))) == 2


def test_a_student_trains_on_the_views_of_released_files(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network sees what the paper's transform returns, noise of random erasing included."""
    data = read_image_folder(image_folder)
    (records,) = write_released_epochs(tmp_path / "r", [str(n) for n in range(12)], epochs=1)
    convert_store(tmp_path / "r", image_folder, "store", tmp_path / "s", ReleasedLogits(size=32))
    inputs: list[npt.NDArray[np.float32]] = []
    forward = TinyViT.forward

    def record(model: TinyViT, images: torch.Tensor) -> torch.Tensor:
        if model.training:
            inputs.extend(images.numpy())
        return forward(model, images)

    monkeypatch.setattr(TinyViT, "forward", record)
    request = TrainingRequest(
        image_folder,
        tmp_path / "run",
        replace(PRESETS["pretrain-22k"], epochs=1, batch=6, accumulation=1, precision="float32"),
        student="tiny_vit_5m_224",
        logits=tmp_path / "s",
        img_size=32,
        classes="teacher",
        workers=1,
    )
    train_student(request)
    mean, std = (np.array(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = []
    for index, seed in enumerate(records["seed"].tolist()):
        pixels, erasure = make_paper_view(data.open(index), seed, 32)
        view = ((pixels / 255 - mean) / std).transpose(2, 0, 1)
        if erasure is not None:
            _, height, width = erasure.noise.shape
            rows = slice(erasure.top, erasure.top + height)
            view[:, rows, erasure.left : erasure.left + width] = erasure.noise
        expected.append(view)
    order = shuffle_indices(0, 0, 12)
    np.testing.assert_allclose(inputs, np.stack(expected)[order], atol=1e-5)


def test_released_files_with_more_classes_are_refused(image_folder: Path, tmp_path: Path) -> None:
    write_released_epochs(tmp_path / "r", [str(n) for n in range(12)])
    with pytest.raises(RequestError, match="but the teacher has 10 classes: use --num-classes"):
        convert_store(tmp_path / "r", image_folder, "store", tmp_path / "s", ReleasedLogits(10))
    assert not (tmp_path / "s").exists()


def test_released_files_of_other_images_are_refused(image_folder: Path, tmp_path: Path) -> None:
    write_released_epochs(tmp_path / "r", ["n0/0-0", "n0/0-1"])
    with pytest.raises(RequestError, match="the keys of the logits, such as n0/0-1, are not those"):
        convert_store(tmp_path / "r", image_folder, "store", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_released_files_with_a_header_of_this_project_are_refused(
    store: Store, image_folder: Path, tmp_path: Path
) -> None:
    """Their seeds are not those of this project's rule, so the views would be others."""
    convert_store(store.folder, image_folder, "paper", tmp_path / "converted")
    assert len(list(check_store(tmp_path / "converted", None, ()))) == 2
    keys = (tmp_path / "converted" / "logits_top5_epoch0" / "rank0-keys.txt").read_text().split()
    write_released_epochs(tmp_path / "r", keys)
    header = json.loads((store.folder / HEADER_NAME).read_text())
    (tmp_path / "r" / HEADER_NAME).write_text(json.dumps({**header, "top_k": K}))
    message = r"the predictions for n0\S+ in epoch 0 have the seed \d+ instead of \d+, so they are"
    with pytest.raises(RequestError, match=message):
        list(check_store(tmp_path / "r", None, ()))
    with pytest.raises(RequestError, match=message):
        convert_store(tmp_path / "r", image_folder, "store", tmp_path / "new")


def test_a_store_with_other_seeds_is_refused(
    store: Store, image_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(store.folder, tmp_path / "s"))
    header = json.loads((folder / HEADER_NAME).read_text())
    (folder / HEADER_NAME).write_text(json.dumps({**header, "augmentation": {"rule": "paper"}}))
    paper_store = open_store(folder)
    images = read_image_folder(image_folder)
    source = ViewSource(images.open, 12, 32, Augmentation(rule="paper"))
    probe = hash_probe_views(source, images.keys, header["seed"])
    changed = {**header, "seed": header["seed"], "probe_sha256": probe}
    changed["augmentation"] = {"rule": "paper"}
    (folder / HEADER_NAME).write_text(json.dumps(changed))
    assert len(list(check_store(folder, image_folder, ()))) == 2  # any seed is possible there
    assert paper_store.epochs == 2
    records = store.read_epoch(0)[:].copy()
    records["seed"][7] += 1
    records["crc"] = compute_checksums(records, 0)
    (folder / "epoch-0000.bin").write_bytes(records.tobytes())
    (folder / HEADER_NAME).write_text(json.dumps(header))
    assert len(list(check_store(folder, None, ()))) == 1
    with pytest.raises(RequestError, match="so they are for another view of this image"):
        list(check_store(folder, image_folder, ()))
    request = TrainingRequest(
        image_folder,
        tmp_path / "run",
        replace(PRESETS["transfer"], epochs=1, batch=12, val_split=0.0),
        student="tiny_vit_5m_224",
        logits=folder,
        img_size=32,
        workers=0,
    )
    with pytest.raises(RequestError, match="so they are for another view of this image"):
        train_student(request)
