"""The loss of a student: divergence from saved teacher outputs, and cross-entropy with labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.data_loader import TrainingBatch


def compute_sparse_divergence(logits: Tensor, classes: Tensor, probabilities: Tensor) -> Tensor:
    """Compute the Kullback-Leibler divergence from a teacher of which the top K classes are known.

    The remaining probability is spread evenly over the other C - K classes (section 3.1 of the
    paper). To save memory, the only tensor of shape (B, C) is the log-softmax of the student. The
    gradient equals that of the cross-entropy with the same targets; subtracting the entropy of the
    teacher makes the minimum 0.

    Args:
        logits: Logits of the student, float (B, C).
        classes: The teacher's top classes, int64 (B, K), distinct in each row.
        probabilities: Probabilities of these classes, (B, K).

    Returns:
        The mean divergence in nats, a scalar of at least 0.
    """
    num_classes, top_k = logits.shape[1], classes.shape[1]
    log_probabilities = F.log_softmax(logits.float(), 1)
    known = probabilities.float()
    known = known / known.sum(1, keepdim=True).clamp_min(
        1.0
    )  # float16 rounding may make the sum exceed 1
    other_classes = num_classes - top_k
    if other_classes:
        rest = (1 - known.sum(1)).clamp_min(0.0) / other_classes
    else:
        rest = torch.zeros_like(known[:, 0])
    known_logs = log_probabilities.gather(1, classes)
    entropy = torch.xlogy(known, known).sum(1) + other_classes * torch.xlogy(rest, rest)
    other_logs = log_probabilities.sum(1) - known_logs.sum(1)
    cross_entropy = (known * known_logs).sum(1) + rest * other_logs
    return (entropy - cross_entropy).mean()


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
    other = F.cross_entropy(logits, partner_classes, reduction="none", label_smoothing=smoothing)
    return (own_fractions * own + (1 - own_fractions) * other).mean()


def compute_training_loss(logits: Tensor, batch: TrainingBatch, config: TrainingConfig) -> Tensor:
    """Compute the loss of a batch.

    With teacher outputs, it is the divergence from them plus `config.label_weight` times the
    cross-entropy with the labels. Without them, it is the cross-entropy.

    Args:
        logits: Logits of the student, float (B, C).
        batch: The batch.
        config: The training settings.

    Returns:
        The loss, a scalar.
    """
    device = logits.device
    loss = torch.zeros((), device=device)
    label_weight = 1.0
    if batch.teacher_classes is not None and batch.teacher_probabilities is not None:
        teacher_probabilities = batch.teacher_probabilities.to(device)
        loss = compute_sparse_divergence(
            logits, batch.teacher_classes.to(device), teacher_probabilities
        )
        label_weight = config.label_weight
    labels = (batch.classes, batch.partner_classes, batch.own_fractions)
    if label_weight and all(label is not None for label in labels):
        classes, partner_classes, own_fractions = (
            label.to(device) for label in labels if label is not None
        )
        loss = loss + label_weight * compute_mixed_cross_entropy(
            logits, classes, partner_classes, own_fractions, config.label_smoothing
        )
    return loss
