"""Limits on the input and output of a network, which are checked before memory is allocated.

A file of a few hundred bytes can declare an input of any size. The limits are far above those of
networks for images, and keep the memory for one batch below 3 GiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from tinyvit.errors import ArtifactError
from tinyvit.labels import MAX_CLASSES
from tinyvit.manifest_limits import MAX_OUTPUTS
from tinyvit.manifest_parts import TensorSpec
from tinyvit.text.byte_counts import format_gib

MAX_BATCH_SIZE = 4096
"""Largest fixed number of images in a batch, as for tinyvit-export."""

MAX_IMAGE_SIDE = 4096
"""Largest fixed height or width of the input in pixels, four times that of tinyvit-export."""

MAX_BATCH_BYTES = 2**30
"""Largest input tensor of one batch, in bytes. Preparing a batch needs up to three times as much
memory."""

_MAX_STATED_SIZES = 8
"""Number of sizes of a tensor in a message."""
_ELEMENT_TYPES = (
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64"),
)
_ELEMENT_BYTES = {name: np.dtype(name).itemsize for name in _ELEMENT_TYPES}
"""Maps the name of an element type to the size of one element in bytes. numpy never interprets the
name that a manifest states, because it raises errors of many kinds for text that is no type."""


def check_tensor_sizes(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], file_name: str
) -> None:
    """Refuse inputs and outputs that would need too much memory.

    A dimension of any size is not limited here, because the caller of the network chooses its size.

    Args:
        inputs: The inputs of a network, as a manifest or an engine states them.
        outputs: The outputs of the network.
        file_name: Name of the file for messages.

    Raises:
        ArtifactError: If a size exceeds a limit of this module, if a tensor has no elements, or if
            there are more than `tinyvit.labels.MAX_CLASSES` classes or `MAX_OUTPUTS` outputs.
    """
    if len(outputs) > MAX_OUTPUTS:
        raise ArtifactError(
            f"{file_name} has {len(outputs)} outputs, more than {MAX_OUTPUTS}",
            "give a file with fewer outputs",
        )
    for spec in (*inputs, *outputs):
        if any(isinstance(size, int) and size < 1 for size in spec.shape):
            raise ArtifactError(
                f"{file_name} has a tensor of shape ({_join(spec)}), which is empty",
                "the file is damaged: export it again",
            )
    for spec in inputs:
        if len(spec.shape) == 4:
            _check_batch_size(spec, file_name)
            _check_sides(spec, file_name)
        _check_bytes(spec, file_name)
    for spec in outputs:
        if any(isinstance(size, int) and size > MAX_CLASSES for size in spec.shape[1:]):
            raise ArtifactError(
                f"{file_name} has an output of shape ({_join(spec)}), more than {MAX_CLASSES}"
                " classes",
                "give a file with fewer classes",
            )
        _check_bytes(spec, file_name)


def _check_batch_size(spec: TensorSpec, file_name: str) -> None:
    """Raise ArtifactError if the fixed batch size is too large."""
    batch_size = spec.shape[0]
    if isinstance(batch_size, int) and batch_size > MAX_BATCH_SIZE:
        raise ArtifactError(
            f"{file_name} takes batches of {batch_size} images, more than {MAX_BATCH_SIZE}",
            "give a file with a smaller batch",
        )


def _check_sides(spec: TensorSpec, file_name: str) -> None:
    """Raise ArtifactError if the height or width is too large."""
    sides = spec.shape[1:3] if spec.layout == "NHWC" else spec.shape[2:4]
    if any(isinstance(side, int) and side > MAX_IMAGE_SIDE for side in sides):
        raise ArtifactError(
            f"{file_name} takes images of {sides[0]} x {sides[1]} pixels, more than"
            f" {MAX_IMAGE_SIDE} in a row or column",
            "give a file for smaller images",
        )


def _check_bytes(spec: TensorSpec, file_name: str) -> None:
    """Raise ArtifactError if the tensor, with 1 for every dimension of any size, is too large."""
    sizes = [size for size in spec.shape if isinstance(size, int)]
    size_bytes = prod(sizes) * _count_element_bytes(spec.dtype)
    if size_bytes > MAX_BATCH_BYTES:
        raise ArtifactError(
            f"{file_name} has a tensor of shape ({_join(spec)}), {spec.dtype}, which takes"
            f" {format_gib(size_bytes)}, more than {MAX_BATCH_BYTES >> 30}",
            "give a file with a smaller batch or smaller images",
        )


def _count_element_bytes(dtype: str) -> int:
    """Return the size of one element in bytes. A manifest may name a type that does not exist."""
    return _ELEMENT_BYTES.get(dtype, 1)


def _join(spec: TensorSpec) -> str:
    """Return the sizes of a tensor as text, such as "1, 3, 224, 224"; of many, the first ones."""
    more = ", ..." if len(spec.shape) > _MAX_STATED_SIZES else ""
    return ", ".join(map(str, spec.shape[:_MAX_STATED_SIZES])) + more
