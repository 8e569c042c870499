"""Every epoch of a balanced run uses every class equally often, in a reproducible order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.distill_data import CLASSES, write_class_folders
from tinyvit.data.class_folders import read_image_folder
from tinyvit.distill.augmentation.views import compute_view_seed, make_view
from tinyvit.distill.logits.store import Store
from tinyvit.distill.training import trainer
from tinyvit.distill.training.batches.data_loader import TrainingBatch, TrainingData, _EpochDataset
from tinyvit.distill.training.batches.sample_order import SampleOrder, draw_balanced
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.train import train_student

CONFIG = replace(
    PRESETS["transfer"],
    epochs=2,
    batch=3,
    warmup_epochs=0,
    precision="float32",
    balance=True,
    val_split=0.0,
)


def test_every_class_is_drawn_equally_often() -> None:
    classes = np.array([7] * 10 + [2] * 2 + [5] * 3)
    order = draw_balanced(seed=3, epoch=0, classes=classes)
    assert Counter(classes[order % 15].tolist()) == {7: 5, 2: 5, 5: 5}
    assert len(set(order.tolist())) == 15
    uses = Counter((order % 15).tolist())
    # Five of ten samples once; of two samples, one three times; of three samples, two twice.
    assert sorted(uses[index] for index in range(10)) == [0] * 5 + [1] * 5
    assert sorted(uses[index] for index in (10, 11)) == [2, 3]
    assert sorted(uses[index] for index in (12, 13, 14)) == [1, 2, 2]
    for sample, count in uses.items():
        numbers = sorted(int(index) // 15 for index in order if index % 15 == sample)
        assert numbers == list(range(count))


def test_epochs_and_seeds_have_other_orders() -> None:
    classes = np.array([0] * 10 + [1] * 4)
    orders = {tuple(draw_balanced(seed, epoch, classes)) for seed in (0, 1) for epoch in range(3)}
    assert len(orders) == 6
    used = {int(index) for epoch in range(20) for index in draw_balanced(0, epoch, classes) % 14}
    assert used == set(range(14))


def test_balanced_data_use_every_sample_once() -> None:
    order = SampleOrder(0, 12, np.repeat([0, 1, 2], 4))
    assert len(order) == 12
    assert sorted(order.draw(5)) == list(range(12))
    assert len(SampleOrder(0, 15, np.array([0] * 13 + [1, 2]))) == 15
    assert len(SampleOrder(0, 16, np.array([0] * 14 + [1, 2]))) == len(
        SampleOrder(0, 16, np.array([0] * 14 + [1, 2])).draw(0)
    )


def test_an_image_that_is_used_again_gives_another_view(image_folder: Path, store: Store) -> None:
    images = read_image_folder(image_folder)
    data = TrainingData(images, images.class_indices, None, CONFIG.augmentation, seed=4, size=32)
    data = replace(data, selected=np.array([2, 6, 7]))
    sample = _EpochDataset(data, epoch=1)[3 + 1]  # the second use of image 6
    seed = compute_view_seed(4, 1, images.keys[6], 1)
    assert isinstance(sample, dict)
    assert np.array_equal(sample["pixels"], make_view(data.view_source, 6, seed).pixels)
    # A store has no other view: the same one is used again.
    samples = _EpochDataset(replace(data, store=store), epoch=1)
    again, first = samples[3 + 1], samples[1]
    assert isinstance(again, dict)
    assert isinstance(first, dict)
    assert np.array_equal(again["pixels"], first["pixels"])


def test_a_balanced_run_is_resumed_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_class_folders(tmp_path / "data", images_per_class=7)
    for name in CLASSES[1:]:
        for number in range(2, 7):
            (data / name / f"{number}.png").unlink()
    real = trainer.TrainingRun.step
    classes: list[int] = []
    stop: int | None = None

    def record(run: trainer.TrainingRun, parts: Iterable[TrainingBatch], rate: float) -> float:
        if run.state.step == stop:
            raise KeyboardInterrupt
        all_parts = list(parts)
        for part in all_parts:
            assert part.labels is not None
            classes.extend(part.labels.classes.tolist())
        return real(run, all_parts, rate)

    monkeypatch.setattr(trainer.TrainingRun, "step", record)

    def make_request(name: str) -> TrainingRequest:
        output = tmp_path / name
        return TrainingRequest(
            data, output, CONFIG, student="tiny_vit_5m_224", img_size=32, workers=0
        )

    train_student(make_request("whole"))
    # 11 images of 3 classes: 3 of each class in each of 2 epochs.
    assert Counter(classes[:9]) == Counter(classes[9:]) == {0: 3, 1: 3, 2: 3}
    stop = 4
    monkeypatch.setattr(trainer, "SAVE_INTERVAL_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train_student(make_request("run"))
    stop = None
    train_student(make_request("run"))
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
