"""Adds stochastic depth: during training, residual branches are skipped for random images.

Source: Huang et al., "Deep Networks with Stochastic Depth", 2016. Forward hooks set the outputs of
the skipped branches to 0. So the modules of the network stay as they are, and the network can be
exported later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.nn.layers import MBConv
from tinyvit.nn.model import Block, TinyViT


class DropPath:
    """Chooses the images for which branches are skipped.

    The choice for an image depends only on the seed of the step and the position of the image in
    the batch. So it is the same if the batch is divided among processes or into parts, and if
    activations are computed twice.
    """

    def __init__(self, rates: Sequence[float]) -> None:
        """Prepare the choice.

        Args:
            rates: Probability of skipping each branch, in the order of the branches.
        """
        self._keep_probabilities = 1 - torch.tensor(list(rates))[:, None]
        self._factors = self._selected_factors = torch.ones(len(rates), 0)

    def draw(self, image_count: int, seed: int) -> None:
        """Draw the choices for a batch.

        Args:
            image_count: Number of images.
            seed: Seed of the choices.
        """
        generator = torch.Generator().manual_seed(seed)
        draws = torch.rand(len(self._keep_probabilities), image_count, generator=generator)
        is_kept = draws < self._keep_probabilities
        self._factors = is_kept / self._keep_probabilities

    def select(self, start: int, end: int, device: str) -> None:
        """Select the images of the next forward pass.

        Args:
            start: Position of the first image in the batch that was drawn.
            end: Position after the last image.
            device: torch's name of the device of the network.
        """
        self._selected_factors = self._factors[:, start:end].to(device)

    def get_factors(self, branch: int) -> Tensor:
        """Return the factors of a branch for the selected images, float32 (B,).

        A factor is 0 for a skipped image, and otherwise the inverse of the probability of not
        skipping it, so that the expected output of the branch is unchanged.

        Args:
            branch: Index of the branch.
        """
        return self._selected_factors[branch]


def add_drop_path(model: TinyViT, rate: float) -> DropPath:
    """Make a network skip residual branches for random images while it is in training mode.

    The probability of skipping increases linearly from 0 in the first block to `rate` in the last
    block (microsoft/Cream, TinyViT/models/tiny_vit.py).

    Args:
        model: The network, which is changed in place.
        rate: Probability of skipping a branch in the last block, at least 0 and below 1.

    Returns:
        The object that chooses the images. Before every forward pass in training mode, its methods
        `draw` and `select` must be called.
    """
    if rate == 0:
        return DropPath([])
    blocks = [module for module in model.modules() if isinstance(module, (MBConv, Block))]
    block_rates = torch.linspace(0, rate, len(blocks)).tolist()
    branches: list[tuple[nn.Module, float]] = []
    for block, block_rate in zip(blocks, block_rates):
        # The residual branch of an MBConv ends with its third convolution.
        modules = (block.conv3,) if isinstance(block, MBConv) else (block.attn, block.mlp)
        branches += [(module, block_rate) for module in modules]
    drop_path = DropPath([block_rate for _, block_rate in branches])
    for index, (module, _) in enumerate(branches):
        module.register_forward_hook(_make_hook(drop_path, index))
    return drop_path


def _make_hook(drop_path: DropPath, branch: int) -> Callable[..., Tensor]:
    """Return a forward hook that multiplies the output of a branch by each image's factor.

    The first axis of the output has one entry for each image in a convolution branch, (B, C, H, W),
    and one for each token in a transformer branch, (B * tokens, C).
    """

    def drop_branch(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        if not module.training:
            return output
        factors = drop_path.get_factors(branch).to(output.dtype)[:, None]
        return (output.reshape(len(factors), -1) * factors).reshape(output.shape)

    return drop_branch
