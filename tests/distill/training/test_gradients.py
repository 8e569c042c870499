"""A batch in parts, or with recomputed activations, has the gradient of the whole batch."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tinyvit.data.class_folders import ImageFolder
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.training.batches.data_loader import BatchLabels, TrainingBatch, TrainingData
from tinyvit.distill.training.batches.mixing import GROUP_SIZE, draw_mixing, mix_images
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.distill.training.distributed import ProcessGroup
from tinyvit.distill.training.network.freezing import set_training_mode
from tinyvit.distill.training.network.student import make_student
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.task import TrainingTask
from tinyvit.distill.training.trainer import TrainingRun
from tinyvit.progress import NullProgress

MIXING = Augmentation(mixup=0.8, cutmix=1.0)
CONFIG = replace(
    PRESETS["scratch-1k"],
    batch=8,
    accumulation=1,
    drop_path=0.3,
    frozen_batchnorm=True,
    max_grad_norm=0.0,
    augmentation=MIXING,
)


ALONE = ProcessGroup()


def make_run(
    config: TrainingConfig, processes: ProcessGroup = ALONE, size: int = 32
) -> TrainingRun:
    student = make_student("tiny_vit_5m_224", None, None, 10, size, seed=1)
    images = ImageFolder(Path(), tuple(map(str, range(64))), labels=None, class_indices=None)
    data = TrainingData(images, None, None, config.augmentation, seed=0, size=size)
    task = TrainingTask(Path(), student, data, None, student.labels, None, config, workers=0)
    run = TrainingRun(task, ComputeDevice("cpu", uses_bfloat16=False), processes, NullProgress())
    set_training_mode(run.model, config)
    return run


def make_batch(count: int, size: int = 32) -> TrainingBatch:
    random = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (count, size, size, 3), generator=random).to(torch.uint8)
    classes = torch.arange(count) % 10
    return TrainingBatch(pixels, BatchLabels(classes, classes, torch.ones(count)))


def divide(batch: TrainingBatch, sizes: list[int]) -> list[TrainingBatch]:
    assert batch.labels is not None
    labels = batch.labels
    parts = []
    for pixels, classes, partners, fractions in zip(
        batch.pixels.split(sizes),
        labels.classes.split(sizes),
        labels.partner_classes.split(sizes),
        labels.own_fractions.split(sizes),
    ):
        parts.append(TrainingBatch(pixels, BatchLabels(classes, partners, fractions)))
    return parts


def compute_gradients(
    config: TrainingConfig, parts: list[TrainingBatch], processes: ProcessGroup = ALONE
) -> tuple[float, dict[str, Tensor]]:
    run = make_run(config, processes)
    loss = run._gradients.add_gradients(parts, step=5)
    gradients = {
        name: parameter.grad
        for name, parameter in run.model.named_parameters()
        if parameter.grad is not None
    }
    assert len(gradients) == len(list(run.model.parameters()))
    return loss, gradients


def require_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """The sum of parts is rounded differently: allow 1e-5 of the largest gradient of a layer."""
    for name, gradient in expected.items():
        limit = 1e-5 * float(gradient.abs().max()) + 1e-8
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=limit)


@pytest.mark.parametrize("sizes", [[4, 4], [2, 2, 2, 2], [4, 2, 2], [6, 2]])
def test_parts_have_the_gradient_of_the_whole_batch(sizes: list[int]) -> None:
    """Mixing and stochastic depth are the same too. BatchNorm is frozen."""
    batch = make_batch(8)
    loss, gradients = compute_gradients(CONFIG, [batch])
    parts_loss, parts_gradients = compute_gradients(CONFIG, divide(batch, sizes))
    assert parts_loss == pytest.approx(loss, rel=1e-5)
    require_equal(parts_gradients, gradients)


def test_single_images_are_parts_if_nothing_is_mixed() -> None:
    config = replace(CONFIG, augmentation=Augmentation(), batch=5)
    batch = make_batch(5)
    _, gradients = compute_gradients(config, [batch])
    _, parts_gradients = compute_gradients(config, divide(batch, [1, 2, 1, 1]))
    require_equal(parts_gradients, gradients)


def test_processes_have_the_mean_gradient_of_the_whole_batch() -> None:
    """Each of two processes computes its half; DistributedDataParallel takes the mean."""
    batch = make_batch(8)
    _, gradients = compute_gradients(CONFIG, [batch])
    halves = []
    for rank, half in enumerate(divide(batch, [4, 4])):

        class Rank(ProcessGroup):
            def wrap(self, model: nn.Module) -> nn.Module:
                return model

        processes = Rank(rank=rank, count=2)
        halves.append(compute_gradients(CONFIG, divide(half, [2, 2]), processes)[1])
    require_equal({name: (halves[0][name] + halves[1][name]) / 2 for name in gradients}, gradients)


@pytest.mark.parametrize("frozen", [False, True])
def test_recomputed_activations_change_nothing(frozen: bool) -> None:
    """Gradients, statistics of BatchNorm and the loss are equal to the bit."""
    config = replace(CONFIG, frozen_batchnorm=frozen)
    batch = make_batch(8)
    plain = make_run(config)
    checkpointed = make_run(replace(config, checkpoint_activations=True, ema_decay=0.9))
    losses = [run._gradients.add_gradients([batch], step=2) for run in (plain, checkpointed)]
    assert losses[0] == losses[1]
    for ours, other in zip(plain.model.parameters(), checkpointed.model.parameters()):
        assert ours.grad is not None
        assert other.grad is not None
        assert torch.equal(ours.grad, other.grad)
    buffers = dict(checkpointed.model.named_buffers())
    for name, buffer in plain.model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    assert buffers["stages.0.blocks.0.conv1.bn.num_batches_tracked"].item() == (not frozen)


def test_the_average_of_a_checkpointed_network_runs_its_own_weights() -> None:
    run = make_run(replace(CONFIG, checkpoint_activations=True, ema_decay=0.9))
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    average = run.result_model.eval()
    with torch.no_grad():
        before = average(images)
        for parameter in run.model.parameters():
            parameter.zero_()
        assert torch.equal(average(images), before)


def test_recomputing_keeps_fewer_activations() -> None:
    """At 224 pixels, the saved tensors are counted. An image needs less than half of the memory."""
    saved = []
    for checkpoints in (False, True):
        run = make_run(replace(CONFIG, checkpoint_activations=checkpoints), size=224)
        total = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            run._drop_path.draw(2, seed=0)
            run._drop_path.select(0, 2, "cpu")
            run.model(torch.zeros(2, 3, 224, 224))
        saved.append(total)
    assert saved[1] < 0.4 * saved[0]


@pytest.mark.parametrize("size", [32, 64])
def test_a_group_of_images_has_one_draw(size: int) -> None:
    """timm's mode "batch" draws once for the 128 images of each of the paper's processes."""
    count = 2 * GROUP_SIZE
    assert GROUP_SIZE == 128
    images = torch.arange(count).float()[:, None, None, None].expand(-1, 3, size, size)
    classes = torch.arange(count)
    labels = BatchLabels(classes, classes, torch.ones(count))
    methods = set()
    for step in range(20):
        mixed, mixed_labels = mix_images(images, labels, MIXING, (0, step), start=0)
        assert torch.equal(mixed_labels.partner_classes, classes ^ 1)
        for group in range(2):
            rows = slice(group * GROUP_SIZE, (group + 1) * GROUP_SIZE)
            draw = draw_mixing(MIXING, (0, step, group), size)
            methods.add(draw.box is None)
            fractions = mixed_labels.own_fractions[rows]
            assert fractions.unique().tolist() == pytest.approx([draw.own_fraction])
            own, partner = classes[rows].float(), (classes[rows] ^ 1).float()
            expected = own * draw.own_fraction + partner * (1 - draw.own_fraction)
            torch.testing.assert_close(mixed[rows].mean((1, 2, 3)), expected)
    assert methods == {False, True}


def test_the_box_of_cutmix_has_the_papers_whole_pixels() -> None:
    """timm's rand_bbox: sides of int(size * sqrt(1 - fraction)), halved by //, and cut off."""
    for seed in range(200):
        draw = draw_mixing(Augmentation(cutmix=1.0), (seed,), 33)
        assert draw.box is not None
        top, bottom, left, right = draw.box
        assert 0 <= top <= bottom <= 33
        assert 0 <= left <= right <= 33
        assert (bottom - top) % 2 == 0 or top == 0 or bottom == 33
        assert draw.own_fraction == pytest.approx(1 - (bottom - top) * (right - left) / 33**2)


def test_an_image_without_a_partner_stays_as_it_is() -> None:
    images = torch.rand(3, 3, 8, 8)
    classes = torch.arange(3)
    labels = BatchLabels(classes, classes, torch.ones(3))
    mixed, mixed_labels = mix_images(images, labels, Augmentation(mixup=0.8), (0, 0), start=0)
    torch.testing.assert_close(mixed[2], images[2])
    assert mixed_labels.partner_classes.tolist() == [1, 0, 2]


def test_views_without_a_store_are_mixed_in_the_batch_only() -> None:
    images = ImageFolder(Path(), ("a",), labels=None, class_indices=None)
    data = TrainingData(images, None, None, MIXING, seed=0, size=32)
    assert data.batch_mixing == MIXING
    assert (data.view_source.augmentation.mixup, data.view_source.augmentation.cutmix) == (0, 0)
    assert replace(data, augmentation=Augmentation()).batch_mixing is None
    assert copy.copy(data) == data
