"""Chooses between several state dicts of a TinyViT in one checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.state_dicts.search import StateDict
from tinyvit.nn.checkpoints.tensor_files.tensor_values import load_tensors

_CURRENT_WEIGHTS = "current_model_state"
"""Key under which Lightning's WeightAveraging saves the weights that are not averaged."""


def choose_state_dict(candidates: list[StateDict], path: Path) -> tuple[StateDict, tuple[str, ...]]:
    """Choose between several state dicts of a TinyViT.

    Averaged weights are preferred, because they are usually more accurate (as in timm's loader).

    Args:
        candidates: The state dicts, at least one.
        path: The file, for error messages.

    Returns:
        The chosen state dict; and a tuple with one text about the candidates that are not used
        because they are not averaged, or () if there are none.

    Raises:
        CheckpointError: Several candidates are equally good, but their weights differ.
    """
    averaged = [candidate for candidate in candidates if candidate.is_averaged]
    # ema_pytorch saves two networks under one key such as "ema", and only `ema_model` is averaged,
    # not `online_model`. So in a container with an averaged prefix, no other prefix is averaged.
    containers = {candidate.container for candidate in averaged if candidate.has_averaged_prefix}
    averaged = [
        candidate
        for candidate in averaged
        if candidate.has_averaged_prefix or candidate.container not in containers
    ]
    # Lightning saves averaged weights under the usual key "state_dict", and the others under
    # `_CURRENT_WEIGHTS`. So if none is known to be averaged, those that are not current are used.
    not_current = [
        candidate for candidate in candidates if _CURRENT_WEIGHTS not in candidate.container
    ]
    preferred = averaged or not_current or candidates
    chosen = preferred[0]
    for candidate in preferred[1:]:
        if not _are_equal(chosen, candidate, path):
            names = ", ".join(state_dict.name for state_dict in preferred)
            raise CheckpointError(
                f"{path} contains several TinyViTs with different weights ({names})",
                "save the state dict of one of them alone: torch.save(state_dict, path)",
            )
    left_out = [candidate.name for candidate in candidates if candidate not in preferred]
    if not left_out:
        return chosen, ()
    return chosen, (f"the weights in {', '.join(left_out)}; those in {chosen.name} are averaged",)


def _are_equal(first: StateDict, second: StateDict, path: Path) -> bool:
    """Return whether the networks of two state dicts have the same names, shapes and values."""
    tensors, second_tensors = first.list_network_tensors(), second.list_network_tensors()
    if tensors.keys() != second_tensors.keys():
        return False
    if any(tensor.shape != second_tensors[name].shape for name, tensor in tensors.items()):
        return False
    # Two tensors that are the same part of a storage are equal, so their values need not be read.
    unknown = [
        name
        for name, tensor in tensors.items()
        if tensor.storage_slice is None
        or tensor.storage_slice != second_tensors[name].storage_slice
    ]
    values = load_tensors({name: tensors[name] for name in unknown}, path)
    second_values = load_tensors({name: second_tensors[name] for name in unknown}, path)
    return all(torch.equal(values[name], second_values[name]) for name in unknown)
