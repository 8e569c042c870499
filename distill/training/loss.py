"""What a student learns from: the divergence from a teacher of whom only the K largest probabilities are known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sparse_divergence(logits: Tensor, classes: Tensor, probabilities: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of the student from the teacher, nats, a scalar of 0 or more.

    logits: float (B, C). classes: int64 (B, K), different ones. probabilities: (B, K). What they leave of 1 is spread evenly over the
    other C - K classes (section 3.1 of the paper); nothing of size (B, C) is made but the student's own log-softmax. The gradient is
    that of the cross-entropy with the same targets: the teacher's entropy only makes 0 the least.
    """
    count, kept = logits.shape[1], classes.shape[1]
    logs = F.log_softmax(logits.float(), 1)
    known = probabilities.float()
    known = known / known.sum(1, keepdim=True).clamp_min(1.0)  # in 16 bits their sum may pass 1
    others = count - kept
    rest = (
        (1 - known.sum(1)).clamp_min(0.0) / max(others, 1)
        if others
        else torch.zeros_like(known[:, 0])
    )
    picked = logs.gather(1, classes)
    entropy = torch.xlogy(known, known).sum(1) + others * torch.xlogy(rest, rest)
    cross = (known * picked).sum(1) + rest * (logs.sum(1) - picked.sum(1))
    return (entropy - cross).mean()


def label_loss(
    logits: Tensor, classes: Tensor, partners: Tensor, shares: Tensor, smoothing: float
) -> Tensor:
    """Mean cross-entropy with the pictures' own classes (B,) and, by what is left of `shares` (B,), those of the pictures mixed in."""
    logits = logits.float()
    own = F.cross_entropy(logits, classes, reduction="none", label_smoothing=smoothing)
    other = F.cross_entropy(logits, partners, reduction="none", label_smoothing=smoothing)
    return (shares * own + (1 - shares) * other).mean()
