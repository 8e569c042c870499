"""Classes that the checkpoint lacks start with the mean of the other rows, as in the paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tinyvit.distill.training.network.new_class_rows import fill_new_class_rows
from tinyvit.distill.training.network.student import Student, make_student
from tinyvit.distill.training.presets import PRESETS
from tinyvit.labels import Label, imagenet_labels
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.variants import VARIANTS


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A network with random weights and the classes of ImageNet-22k, in timm's layout."""
    from tinyvit.nn.model import TinyViT

    torch.manual_seed(5)
    model = TinyViT(VARIANTS["tiny_vit_5m_224"], 21841, 64)
    torch.nn.init.normal_(model.head.fc.bias)
    path = tmp_path_factory.mktemp("pretrained") / "tiny_vit_5m_224.pth"
    torch.save(model.state_dict(), path)
    return load_checkpoint(path)


def make_imagenet_student(pretrained: Checkpoint) -> Student:
    labels = imagenet_labels(1000)
    return make_student(None, pretrained, labels, 1000, 64, seed=0)


def test_the_classifier_for_imagenet_1k_is_the_papers(pretrained: Checkpoint) -> None:
    """TinyViT/imagenet_1kto22k.txt maps class 0 to row 359, 849 to 11136, and 851 to 11167.

    It maps only class 850 to no row, which utils.py replaces by the mean of the 999 other rows.
    """
    student = make_imagenet_student(pretrained)
    assert pretrained.labels is not None
    student = fill_new_class_rows(student, pretrained.labels)
    head = student.model.head.fc
    rows = pretrained.state_dict["head.fc.weight"]
    for new_row, old_row in ((0, 359), (1, 368), (2, 460), (849, 11136), (851, 11167)):
        assert torch.equal(head.weight[new_row], rows[old_row])
    others = [row for row in range(1000) if row != 850]
    torch.testing.assert_close(head.weight[850], head.weight[others].mean(0))
    torch.testing.assert_close(head.bias[850], head.bias[others].mean())
    assert student.head_origin == (
        "the classifier starts with the checkpoint's weights for 999 of 1000 classes, and with "
        "their mean for 1 class that the checkpoint lacks"
    )


@pytest.mark.parametrize("labels", [(Label("a"), Label("b")), (Label("c"), Label("d"))])
def test_all_or_no_known_classes_change_nothing(labels: tuple[Label, ...]) -> None:
    student = make_student("tiny_vit_5m_224", None, (Label("a"), Label("b")), 2, 32, seed=0)
    before = student.model.head.fc.weight.clone()
    assert fill_new_class_rows(student, labels) == student
    assert torch.equal(student.model.head.fc.weight, before)


def test_only_the_papers_fine_tuning_uses_the_mean() -> None:
    names = [name for name, config in PRESETS.items() if config.new_class_rows == "mean"]
    assert names == ["finetune-1k", "finetune-384", "finetune-512"]
    assert replace(PRESETS["transfer"], new_class_rows="mean").new_class_rows == "mean"
