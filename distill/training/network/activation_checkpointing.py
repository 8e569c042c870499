"""Trades time for memory: the activations of each block are computed again in the backward pass.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016. Gradients and the
statistics of BatchNorm are the same as without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tinyvit.nn.layers import MBConv
from tinyvit.nn.model import Block


def add_activation_checkpointing(model: nn.Module) -> None:
    """Make a network keep only the inputs of its blocks until the backward pass.

    A copy of the network must be made before: the blocks of a later copy would run the blocks of
    this network.

    Args:
        model: The network, which is changed in place.
    """
    for module in model.modules():
        if isinstance(module, (MBConv, Block)):
            module.forward = _make_forward(module)  # type: ignore[method-assign]


def _make_forward(block: nn.Module) -> Callable[..., Tensor]:
    """Return a forward method that computes the block's activations again for the gradient."""
    forward = block.forward
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]

    def make_contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _keep_statistics(norms)

    def compute(*inputs: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(*inputs)  # type: ignore[no-any-return]
        # A block draws no random numbers: those of stochastic depth are drawn before the step.
        output: Tensor = checkpoint(
            forward,
            *inputs,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=make_contexts,
        )
        return output

    return compute


@contextmanager
def _keep_statistics(norms: list[nn.BatchNorm2d]) -> Iterator[None]:
    """Keep the running statistics of BatchNorm layers while their outputs are computed again.

    With a momentum of 0, an update leaves the statistics as they are. torch does not allow turning
    the updates off here, because the second computation must save the same tensors as the first.
    """
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    saved_counts = [None if count is None else count.clone() for count in counts]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for count, saved_count in zip(counts, saved_counts):
            if count is not None and saved_count is not None:
                count.copy_(saved_count)
