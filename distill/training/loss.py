"""Computes a student's loss: divergence from saved teacher predictions, and label cross-entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.data_loader import TrainingBatch


def compute_sparse_divergence(logits: Tensor, classes: Tensor, probabilities: Tensor) -> Tensor:
    """Compute the Kullback-Leibler divergence from a teacher's K largest probabilities.

    The rest of the teacher's probability is spread evenly over the other C - K classes (section 3.1
    of the paper). To save memory, the only tensor of shape (B, C) is the log-softmax of the
    student. The divergence is the cross-entropy minus the teacher's entropy. The entropy does not
    change the gradient, but it makes the smallest possible loss 0.

    Args:
        logits: Logits of the student, float (B, C).
        classes: The teacher's K most probable classes, int64 (B, K), distinct in each row.
        probabilities: The teacher's probabilities of these classes, (B, K).

    Returns:
        The mean divergence in nats, a scalar of at least 0.
    """
    other_count = logits.shape[1] - classes.shape[1]
    top = probabilities.float()
    top = top / top.sum(1, keepdim=True).clamp_min(1.0)  # float16 rounding may make the sum > 1
    # The teacher's probability of each of the other classes, (B,).
    if other_count:
        other = (1 - top.sum(1)).clamp_min(0.0) / other_count
    else:
        other = torch.zeros_like(top[:, 0])
    negative_entropy = torch.xlogy(top, top).sum(1) + other_count * torch.xlogy(other, other)

    student_logs = F.log_softmax(logits.float(), 1)
    top_student_logs = student_logs.gather(1, classes)
    sum_of_other_logs = student_logs.sum(1) - top_student_logs.sum(1)
    negative_cross_entropy = (top * top_student_logs).sum(1) + other * sum_of_other_logs
    return (negative_entropy - negative_cross_entropy).mean()


def compute_mixed_cross_entropy(
    logits: Tensor,
    classes: Tensor,
    partner_classes: Tensor,
    own_fractions: Tensor,
    smoothing: float,
) -> Tensor:
    """Compute the cross-entropy with the labels of views that may be mixed from two images.

    Args:
        logits: Logits of the student, float (B, C).
        classes: Class of each view's own image, int64 (B,).
        partner_classes: Class of the image that was mixed in, int64 (B,).
        own_fractions: Fraction of each view that comes from its own image, 0 to 1, float (B,).
        smoothing: Label smoothing, 0 to 1.

    Returns:
        The mean cross-entropy in nats, a scalar.
    """
    logits = logits.float()
    own = F.cross_entropy(logits, classes, reduction="none", label_smoothing=smoothing)
    partner = F.cross_entropy(logits, partner_classes, reduction="none", label_smoothing=smoothing)
    return (own_fractions * own + (1 - own_fractions) * partner).mean()


def compute_training_loss(logits: Tensor, batch: TrainingBatch, config: TrainingConfig) -> Tensor:
    """Compute the loss of a batch.

    If the batch has teacher predictions, the loss is the divergence from them, plus
    `config.label_weight` times the cross-entropy with the class labels. Otherwise, the loss is the
    cross-entropy.

    Args:
        logits: Logits of the student, float (B, C).
        batch: The batch.
        config: The training settings.

    Returns:
        The loss, a scalar.
    """
    device = logits.device
    divergence = torch.zeros((), device=device)
    label_weight = 1.0
    if batch.teacher is not None:
        divergence = compute_sparse_divergence(
            logits, batch.teacher.classes.to(device), batch.teacher.probabilities.to(device)
        )
        label_weight = config.label_weight
    if label_weight == 0 or batch.labels is None:
        return divergence
    cross_entropy = compute_mixed_cross_entropy(
        logits,
        batch.labels.classes.to(device),
        batch.labels.partner_classes.to(device),
        batch.labels.own_fractions.to(device),
        config.label_smoothing,
    )
    return divergence + label_weight * cross_entropy
