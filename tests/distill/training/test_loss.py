"""The loss from K stored probabilities agrees with the loss over all classes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvit.distill.training.loss import compute_mixed_cross_entropy, compute_sparse_divergence

B, C = 6, 40


def teacher_outputs(k: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return a teacher's probabilities (B, C), and the classes and values of the k largest."""
    torch.manual_seed(seed)
    whole = torch.softmax(3 * torch.randn(B, C, dtype=torch.float64), 1)
    values, classes = whole.topk(k, 1)
    return whole, classes, values


def dense_divergence(logits: Tensor, classes: Tensor, values: Tensor) -> Tensor:
    """The paper's rule over all classes: the rest of the probability is spread evenly."""
    others = (1 - values.sum(1, keepdim=True)) / max(C - classes.shape[1], 1)
    target = others.expand(-1, C).scatter(1, classes, values)
    return F.kl_div(F.log_softmax(logits, 1), target, reduction="batchmean")


@pytest.mark.parametrize("k", [1, 3, 10, C - 1, C])
def test_value_and_gradient_are_those_of_the_dense_loss(k: int) -> None:
    _, classes, values = teacher_outputs(k)
    ours = torch.randn(B, C, requires_grad=True)
    theirs = ours.detach().double().requires_grad_()
    computed, expected = (
        compute_sparse_divergence(ours, classes, values),
        dense_divergence(theirs, classes, values),
    )
    computed.backward()
    expected.backward()
    assert computed.item() == pytest.approx(expected.item(), rel=1e-5)
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-7)


def test_the_divergence_approaches_that_of_all_classes_as_k_grows() -> None:
    whole, _, _ = teacher_outputs(C)
    logits = torch.randn(B, C)
    expected = F.kl_div(F.log_softmax(logits.double(), 1), whole, reduction="batchmean").item()
    errors = [
        abs(compute_sparse_divergence(logits, *teacher_outputs(k)[1:]).item() - expected)
        for k in (1, 5, 10, 20, 30, C)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5 < errors[0]


def test_a_student_that_equals_its_teacher_has_no_loss() -> None:
    whole, classes, values = teacher_outputs(C)
    assert compute_sparse_divergence(whole.log().float(), classes, values).item() == pytest.approx(
        0, abs=1e-5
    )
    half = values.half()  # as a store keeps them
    assert compute_sparse_divergence(whole.log().float(), classes, half).item() == pytest.approx(
        0, abs=1e-3
    )


def test_float16_probabilities_that_sum_above_one_are_accepted() -> None:
    computed = compute_sparse_divergence(
        torch.zeros(1, 4), torch.tensor([[2, 0]]), torch.tensor([[0.75, 0.2505]]).half()
    )
    assert torch.isfinite(computed)
    assert computed >= 0


def test_labels_of_mixed_images_are_mixed() -> None:
    logits, own, other = torch.randn(B, C), torch.arange(B), torch.arange(B) + 3
    own_fractions = torch.linspace(0, 1, B)
    targets = torch.zeros(B, C)
    for i in range(B):
        targets[i, own[i]] += own_fractions[i]
        targets[i, other[i]] += 1 - own_fractions[i]
    expected = F.cross_entropy(logits, targets, label_smoothing=0.1)
    torch.testing.assert_close(
        compute_mixed_cross_entropy(logits, own, other, own_fractions, 0.1), expected
    )
