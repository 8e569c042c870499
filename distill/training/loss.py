"""Computes a student's loss: divergence from saved teacher predictions, and label cross-entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvit.distill.training.batches.data_loader import TrainingBatch
from tinyvit.distill.training.config import TrainingConfig


def compute_sparse_divergence(logits: Tensor, classes: Tensor, probabilities: Tensor) -> Tensor:
    """Compute the Kullback-Leibler divergence of a student's predictions from a teacher's.

    Only the K largest probabilities of the teacher are known. The rest of the probability is spread
    evenly over the other C - K classes (section 3.1 of the TinyViT paper). To save memory, no
    probabilities of the teacher are expanded to all C classes. The divergence is the cross-entropy
    minus the teacher's entropy. The entropy does not change the gradient, but with it, the smallest
    possible loss is 0.

    Args:
        logits: Logits of the student, float (B, C).
        classes: The teacher's K most probable classes, int64 (B, K), distinct in each row.
        probabilities: The teacher's probabilities of these classes, float (B, K).

    Returns:
        The mean divergence in nats, a scalar of at least 0 (except for rounding).
    """
    other_count = logits.shape[1] - classes.shape[1]
    p_top = probabilities.float()
    p_top = p_top / p_top.sum(1, keepdim=True).clamp_min(1.0)  # in float16, the sum may exceed 1
    # The teacher's probability of each of the other classes, (B,).
    if other_count:
        p_other = (1 - p_top.sum(1)).clamp_min(0.0) / other_count
    else:
        p_other = torch.zeros_like(p_top[:, 0])
    top_terms = torch.xlogy(p_top, p_top).sum(1)
    negative_entropy = top_terms + other_count * torch.xlogy(p_other, p_other)

    student_logs = F.log_softmax(logits.float(), 1)
    top_student_logs = student_logs.gather(1, classes)
    sum_of_other_logs = student_logs.sum(1) - top_student_logs.sum(1)
    negative_cross_entropy = (p_top * top_student_logs).sum(1) + p_other * sum_of_other_logs
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

    If the batch has teacher predictions, the loss is the divergence from them. If it also has
    class labels, `config.label_weight` times the cross-entropy with them is added. If it has only
    class labels, the loss is the cross-entropy.

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
