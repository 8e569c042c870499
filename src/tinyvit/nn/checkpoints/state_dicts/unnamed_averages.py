"""Averaged parameters that a checkpoint contains as a list without names.

The package torch_ema (`ExponentialMovingAverage`) and diffusers (`EMAModel`) save the average of a
model's parameters as the list `shadow_params`, in the order of `model.parameters()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tinyvit.nn.checkpoints.state_dicts.search import (
    AVERAGED_NAME,
    MIN_TENSORS,
    StateDict,
    walk_records,
)
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import StoredTensor, make_stored_tensor
from tinyvit.nn.checkpoints.tensor_files.torch_files import FileContent, refuse_damaged_records
from tinyvit.text.plurals import format_count

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "attention_bias_idxs", ".ab")
"""Endings of the names of tensors in a state dict that are no parameters."""

_MAX_PARAMETERS = 10_000
"""Longer lists are not parameters of a TinyViT."""


def use_unnamed_averages(
    content: FileContent, state_dict: StateDict, path: Path
) -> tuple[StateDict, tuple[str, ...]]:
    """Replace the parameters of a state dict by their averages, if the file has a list of these.

    Args:
        content: The content of the file.
        state_dict: The state dict with the network.
        path: The file, for error messages.

    Returns:
        The state dict, with averaged parameters if there is one list whose tensors have the shapes
        of all parameters in their order; and a note about such a list. A state dict that is
        averaged already is returned unchanged.

    Raises:
        CheckpointError: The file is damaged.
    """
    if state_dict.is_averaged:
        return state_dict, ()
    with refuse_damaged_records(path):
        lists = list(_list_averages(content))
    if not lists:
        return state_dict, ()
    names = [name for name in state_dict.tensors if not name.endswith(_BUFFERS)]
    shapes = [state_dict.tensors[name].shape for name in names]
    fitting = [
        (container, averages)
        for container, averages in lists
        if [tensor.shape for tensor in averages] == shapes
    ]
    if len(fitting) != 1:
        container, averages = lists[0]
        text = f"{format_count(len(averages), 'tensor')} without names in {container}"
        return state_dict, (
            f"not used: {text}, which may be averaged parameters, but cannot be assigned to the"
            f" parameters in {state_dict.name}",
        )
    container, averages = fitting[0]
    tensors = {**state_dict.tensors, **dict(zip(names, averages))}
    note = (
        f"the parameters are the averages in {container}, which have no names; they are assumed to"
        f" be in the order of those in {state_dict.name}, which has the buffers"
    )
    return replace(state_dict, tensors=tensors), (note,)


def _list_averages(content: FileContent) -> Iterator[tuple[str, list[StoredTensor]]]:
    """Iterate over the lists of tensors whose keys tell that they are averages."""
    for container, value in walk_records(content.root):
        is_list = isinstance(value, (list, tuple)) and MIN_TENSORS <= len(value) <= _MAX_PARAMETERS
        is_averaged = "shadow" in container or AVERAGED_NAME.search(container.lower())
        if not is_list or not is_averaged or "optim" in container:
            continue
        tensors = [make_stored_tensor(entry, content.read_storage) for entry in value]
        if None not in tensors:
            yield container, [tensor for tensor in tensors if tensor is not None]
