"""The members of the hard set: checkpoints that are made from one checkpoint.

Equal arguments give equal checkpoints on one machine.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from tinyvit.distill.training.network.student import save_checkpoint
from tinyvit.errors import RequestError
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.progress import Progress
from tinyvit.studies.hard_checkpoints.finetuning import (
    MODERATE_OUTLIERS,
    Difficulty,
    FinetuningConfig,
    OutlierConfig,
    finetune,
)
from tinyvit.studies.hard_checkpoints.rescaling import (
    add_offsets,
    rescale_keys,
    rescale_norms,
    rescale_values,
)

Rescaling: TypeAlias = "Callable[[TinyViT, torch.Generator], None]"
"""A function that changes a network in place and keeps what it computes."""

ORIGINAL = "original"
"""Name of the member that is the checkpoint itself."""
MODERATE = "moderate-channels"
"""Name of the member whose outlier channels are many and moderately large."""
RESCALINGS: dict[str, tuple[Rescaling, ...]] = {
    "values": (rescale_values,),
    "keys": (rescale_keys,),
    "norms": (rescale_norms,),
    "offsets": (add_offsets,),
    "rescaled": (rescale_values, rescale_keys, rescale_norms, add_offsets),
}
"""Members that compute what the checkpoint computes: name -> the functions that change it."""
FINETUNINGS: dict[str, Difficulty] = {
    "outlier-channels": "channels",
    MODERATE: "channels",
    "heavy-weights": "weights",
    "massive-tokens": "tokens",
}
"""Members that are fine-tuned: name -> what the penalty rewards."""
COMBINED = "combined"
"""Name of the member that has outlier channels by fine-tuning, and all rescalings."""
MEMBER_NAMES = (ORIGINAL, *RESCALINGS, *FINETUNINGS, COMBINED)


@dataclass(frozen=True)
class MemberMaker:
    """Makes members from one checkpoint.

    Attributes:
        checkpoint: The checkpoint, at the image size of the members.
        images: Normalized images for fine-tuning, float32 (N, 3, S, S).
        steps: Number of optimization steps of each fine-tuning.
        seed: Seed of all random numbers.
        progress: Receives the number of finished steps.
    """

    checkpoint: Checkpoint
    images: Tensor
    steps: int
    seed: int
    progress: Progress

    def make(self, name: str) -> TinyViT:
        """Make the network of a member.

        Args:
            name: One of `MEMBER_NAMES`.

        Returns:
            The network, which is not folded.
        """
        network = self.checkpoint.build()
        if name in FINETUNINGS or name == COMBINED:
            difficulty = FINETUNINGS.get(name, "channels")
            outliers = MODERATE_OUTLIERS if name == MODERATE else OutlierConfig()
            config = FinetuningConfig(
                difficulty, steps=self.steps, seed=self.seed, outliers=outliers
            )
            network = finetune(network, self.images, config, self.progress)
        network = copy.deepcopy(network).requires_grad_(False)
        rescalings = RESCALINGS.get("rescaled" if name == COMBINED else name, ())
        for index, rescale in enumerate(rescalings):
            rescale(network, torch.Generator().manual_seed(self.seed + index))
        return network

    def save(self, name: str, path: Path) -> None:
        """Make a member, and write it as a safetensors checkpoint.

        Args:
            name: One of `MEMBER_NAMES`.
            path: The file to write or replace.

        Raises:
            RequestError: The labels of the checkpoint are not known.
        """
        labels = self.checkpoint.labels
        if labels is None:
            raise RequestError(
                f"{self.checkpoint.name} does not name its classes",
                "give a checkpoint with labels; the images are matched to them",
            )
        state_dict = self.make(name).state_dict()
        save_checkpoint(
            path, state_dict, labels, self.checkpoint.preprocess, self.checkpoint.license
        )
