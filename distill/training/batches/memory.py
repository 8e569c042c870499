"""Measures how much memory the activations of an image need, and how much memory is free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tinyvit.distill.training.device import ComputeDevice
from tinyvit.distill.training.network.drop_path import DropPath
from tinyvit.errors import RequestError
from tinyvit.nn.layers import MBConv
from tinyvit.nn.model import Block
from tinyvit.processes.free_memory import measure_free_memory
from tinyvit.text.plurals import format_count

_PROBE_IMAGES = 2
"""Number of images in the forward pass that is measured."""
_BYTES_PER_PARAMETER = 12
"""Memory of a parameter that a step allocates: its gradient and AdamW's two moments, in float32."""
_USED_FRACTION = 0.6
"""Fraction of the free memory that saved activations may use. The rest is for intermediate results,
the next batches and other programs."""


@dataclass
class _SavedBytes:
    """The memory that a forward pass saves for the backward pass.

    Attributes:
        outside: Bytes that are saved outside of blocks.
        by_block: Bytes that each block saves.
        block_inputs: Bytes of the inputs of all blocks.
    """

    outside: int = 0
    by_block: list[int] = field(default_factory=list)
    block_inputs: int = 0

    def count_peak(self, is_frozen: bool, checkpoints_activations: bool) -> int:
        """Return about the largest number of bytes in use at one time."""
        if is_frozen:
            # Without a backward pass, no block keeps its activations for longer than it runs.
            return max(self.outside, *self.by_block, 0)
        if not checkpoints_activations or not self.by_block:
            return self.outside + sum(self.by_block)
        # The block whose activations are computed again also needs as much for their gradients.
        return self.outside + self.block_inputs + 2 * max(self.by_block)


def count_images_in_memory(
    model: nn.Module,
    drop_path: DropPath,
    size: int,
    device: ComputeDevice,
    checkpoints_activations: bool,
) -> int:
    """Count the images whose activations fit into the free memory.

    A forward pass of two images is measured. It changes neither the network nor its statistics, but
    leaves BatchNorm layers in eval mode. If parameters are frozen, they are assumed to be all of
    the backbone (`freezing.freeze_weights`).

    Args:
        model: The network in training mode, without activation checkpointing, on the device.
        drop_path: The object that chooses skipped branches of the network.
        size: Image size in pixels.
        device: The device.
        checkpoints_activations: Whether training will keep only the inputs of blocks.

    Returns:
        The number of images, at least 1.
    """
    images = device.move_images(torch.zeros(_PROBE_IMAGES, 3, size, size))
    drop_path.draw(_PROBE_IMAGES, seed=0)
    drop_path.select(0, _PROBE_IMAGES, device.name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    # A frozen layer saves nothing for the backward pass, but its activations need memory too.
    for parameter in frozen:
        parameter.requires_grad_(True)
    saved = _measure_saved_bytes(model, images, device)
    for parameter in frozen:
        parameter.requires_grad_(False)
    peak_bytes = saved.count_peak(bool(frozen), checkpoints_activations)
    parameter_count = sum(parameter.numel() for parameter in trained)
    free_bytes = measure_free_bytes(device.name) - _BYTES_PER_PARAMETER * parameter_count
    bytes_per_image = peak_bytes / _PROBE_IMAGES
    return max(1, int(_USED_FRACTION * free_bytes / bytes_per_image))


def _measure_saved_bytes(model: nn.Module, images: Tensor, device: ComputeDevice) -> _SavedBytes:
    """Run a forward pass, and count the bytes of the tensors that it saves, each storage once."""
    saved = _SavedBytes()
    known = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    is_in_block = False

    def begin_block(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal is_in_block
        is_in_block = True
        saved.by_block.append(0)
        saved.block_inputs += inputs[0].numel() * inputs[0].element_size()

    def end_block(*_: object) -> None:
        nonlocal is_in_block
        is_in_block = False

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            if is_in_block:
                saved.by_block[-1] += storage.nbytes()
            else:
                saved.outside += storage.nbytes()
        return tensor

    hooks = []
    for module in model.modules():
        if isinstance(module, (MBConv, Block)):
            hooks.append(module.register_forward_pre_hook(begin_block))
            hooks.append(module.register_forward_hook(end_block))
    try:
        with torch.autograd.graph.saved_tensors_hooks(count, _keep), device.autocast():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return saved


def _keep(tensor: Tensor) -> Tensor:
    return tensor


@contextmanager
def explain_out_of_memory(device: str, part_size: int, part_count: int) -> Iterator[None]:
    """Explain an error of torch that means that a part of a batch does not fit into memory.

    Args:
        device: torch's name of the device.
        part_size: Number of images in the part.
        part_count: Number of parts of the batch.

    Raises:
        RequestError: The memory is too small.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch.OutOfMemoryError is a RuntimeError. For a CPU, torch has no class of its own.
        is_out = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not is_out and "DefaultCPUAllocator" not in str(error):
            raise
        options = "--checkpoint-activations or a smaller --img-size"
        if part_size > 1:
            options = f"--accumulation {2 * part_count}, {options}"
        raise RequestError(
            f"{format_count(part_size, 'image')} at once did not fit into the memory of {device}",
            f"use {options}, and --overwrite to start the run again",
        ) from error


def measure_free_bytes(device: str) -> int:
    """Return the free memory of a device in bytes, as far as this process may use it.

    On a CPU, the processes of this machine that train together share the free memory
    (`tinyvit.processes.free_memory`).

    Args:
        device: torch's name of the device.
    """
    if device.startswith("cuda"):
        free_bytes, _ = torch.cuda.mem_get_info(device)
        return int(free_bytes)
    return measure_free_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
