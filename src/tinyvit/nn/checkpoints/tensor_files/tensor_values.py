"""Reads the values of stored tensors, and finds remedies for those that cannot be used."""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor

from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import StoredTensor
from tinyvit.nn.checkpoints.tensor_files.torch_files import make_damaged_error

MAX_ELEMENTS = 2**28
"""Largest number of values of a network, 1 GiB in float32. The largest variant has 34 million with
the 21,841 classes of ImageNet-22k."""


def load_tensors(tensors: dict[str, StoredTensor], path: Path) -> dict[str, Tensor]:
    """Read the values of tensors.

    Args:
        tensors: The tensors by name.
        path: The file, for error messages.

    Returns:
        The values by name.

    Raises:
        CheckpointError: The file is damaged, a tensor has no values that can be used, or there are
            more than `MAX_ELEMENTS` values.
    """
    check_problems(tensors, path)
    element_count = sum(math.prod(tensor.shape) for tensor in tensors.values())
    if element_count > MAX_ELEMENTS:
        raise CheckpointError(
            f"the network in {path} has {element_count:,} weights, more than {MAX_ELEMENTS:,}",
            "give the checkpoint of a TinyViT with fewer classes",
        )
    try:
        # In the order of the storages, each of which is then read only once.
        ordered = sorted(tensors.items(), key=lambda entry: entry[1].storage_key)
        values = {name: tensor.load() for name, tensor in ordered}
        return {name: values[name] for name in tensors}
    except (ValueError, RuntimeError, MemoryError) as error:
        raise make_damaged_error(path, str(error)) from error


def check_problems(tensors: dict[str, StoredTensor], path: Path) -> None:
    """Raise CheckpointError for the first tensor whose values cannot be used.

    `StoredTensor.problem` states why, as the end of a sentence such as "is quantized"; it is "" for
    a tensor that can be used.

    Args:
        tensors: The tensors by name.
        path: The file, for error messages.
    """
    for name, tensor in tensors.items():
        if tensor.problem:
            raise CheckpointError(
                f"{name} in {path} {tensor.problem}", _find_remedy(tensor.problem)
            )


def _find_remedy(problem: str) -> str:
    """Return the remedy for a tensor that cannot be used because of this problem."""
    if "shard" in problem:
        return (
            "save the whole weights, for example with get_model_state_dict of"
            " torch.distributed.checkpoint and full_state_dict=True"
        )
    if "quantized" in problem:
        return "give the checkpoint from before the quantization"
    return "save the weights as dense float tensors"
