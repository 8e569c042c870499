"""Reading of the values of stored tensors, and explanations of those that cannot be used."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from tinyvit.errors import CheckpointError
from tinyvit.nn.stored_tensors import StoredTensor
from tinyvit.nn.torch_files import make_damaged_error


def load_tensors(tensors: dict[str, StoredTensor], path: Path) -> dict[str, Tensor]:
    """Read the values of tensors.

    Args:
        tensors: The tensors by name.
        path: The file, for error messages.

    Returns:
        The values by name.

    Raises:
        CheckpointError: The file is damaged, or a tensor has no values that can be used.
    """
    check_problems(tensors, path)
    try:
        return {name: tensor.load() for name, tensor in tensors.items()}
    except (ValueError, RuntimeError) as error:
        raise make_damaged_error(path) from error


def check_problems(tensors: dict[str, StoredTensor], path: Path) -> None:
    """Raise CheckpointError for the first tensor whose values cannot be used.

    Args:
        tensors: The tensors by name.
        path: The file, for error messages.
    """
    for name, tensor in tensors.items():
        if tensor.problem:
            raise CheckpointError(f"{name} in {path} {tensor.problem}", _explain_problem(tensor))


def _explain_problem(tensor: StoredTensor) -> str:
    """Return the remedy for a tensor that cannot be used."""
    if "shard" in tensor.problem:
        return (
            "save the whole weights, for example with get_model_state_dict of"
            " torch.distributed.checkpoint and full_state_dict=True"
        )
    if "quantized" in tensor.problem:
        return "give the checkpoint from before the quantization"
    return "save the weights as dense float tensors"
