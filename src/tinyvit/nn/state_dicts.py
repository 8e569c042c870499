"""State dicts: recognition of their layout and architecture, and checks of their content.

The layout is the naming of the keys: "timm" (as in timm) or "official" (as in the paper's code,
microsoft/Cream). The architecture (variant, image size and number of classes) is recognized by the
shapes of the weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvit.errors import CheckpointError
from tinyvit.image_sizes import is_supported_size
from tinyvit.nn.model import TinyViT
from tinyvit.plurals import format_count
from tinyvit.variants import VARIANTS, Variant

_LAYOUT_KEYS = {"timm": "patch_embed.conv1.conv.weight", "official": "patch_embed.seq.0.c.weight"}
"""For each layout, a key that occurs in no other layout."""

_OFFICIAL_TO_TIMM = (
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"^norm_head\.", "head.norm."),
    (r"^head\.(?=weight|bias)", "head.fc."),
    (r"\.c\.weight$", ".conv.weight"),
)
"""Regular expressions for parts of the paper's keys, and the corresponding parts of timm's keys."""

_BATCH_COUNTER = "num_batches_tracked"
"""Ending of a key whose value is the number of batches that a BatchNorm has seen in training. It is
an integer, and inference does not use it."""


@dataclass(frozen=True)
class Architecture:
    """The properties that determine the keys and shapes of a state dict.

    Attributes:
        variant: Variant of the family.
        img_size: Side of the square input in pixels.
        num_classes: Number of classes.
    """

    variant: Variant
    img_size: int
    num_classes: int


def recognize_layout(names: Collection[str], path: Path) -> str:
    """Recognize the layout of a state dict by its keys.

    Args:
        names: Names of the tensors, as they are in the file.
        path: The file, for error messages.

    Returns:
        "timm" or "official".

    Raises:
        CheckpointError: The layout is not known.
    """
    for layout, key in _LAYOUT_KEYS.items():
        if key in names:
            return layout
    raise make_foreign_error(names, path)


def make_foreign_error(names: Iterable[str], path: Path) -> CheckpointError:
    """Return the error for a state dict that is not that of a TinyViT.

    Args:
        names: Names of the tensors.
        path: The file.
    """
    return CheckpointError(
        f"{path} is not a TinyViT (first keys: {_shorten(names)})",
        "give a checkpoint with the keys of the paper's code or of timm",
    )


def convert_keys(tensors: dict[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Convert the keys of a state dict to those of timm.

    Args:
        tensors: Tensors by name, as they are in the file.
        layout: Layout of the state dict, "timm" or "official".

    Returns:
        The same tensors, without the indices of attention biases, which the model computes.
    """
    return {
        _convert_key(key) if layout == "official" else key: value
        for key, value in tensors.items()
        if not key.endswith("attention_bias_idxs")
    }


def recognize_architecture(state_dict: dict[str, Tensor], path: Path) -> Architecture:
    """Recognize the architecture by the shapes of the weights.

    Args:
        state_dict: Weights with the key names of timm.
        path: The file, for error messages.

    Returns:
        The architecture. Variants that differ only in the image size have the same channels. Of
        these, the one that was released for this image size is chosen, or else the first.

    Raises:
        CheckpointError: No TinyViT has weights of these shapes, the classifier is missing, or the
            images do not have three channels.
    """
    _check_channels(state_dict, path)
    try:
        dims = (
            state_dict["patch_embed.conv2.conv.weight"].shape[0],
            *(state_dict[f"stages.{i}.downsample.conv3.conv.weight"].shape[0] for i in (1, 2, 3)),
        )
        num_heads, bias_count = state_dict["stages.2.blocks.0.attn.attention_biases"].shape
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path} lacks parts of a TinyViT (no {error})",
            "the file is incomplete: save the whole model's state dict",
        ) from error
    if "head.fc.weight" not in state_dict or state_dict["head.fc.weight"].ndim != 2:
        raise CheckpointError(
            f"{path} has no classifier (no head)",
            "export a checkpoint that was trained with its classifier",
        )
    if state_dict["head.fc.weight"].shape[0] == 0:
        raise CheckpointError(
            f"the classifier in {path} has 0 classes (head.fc.weight has the shape"
            f" {tuple(state_dict['head.fc.weight'].shape)})",
            "export a checkpoint that was trained with its classifier",
        )
    variants = _find_variants(dims, path)
    img_size = _find_img_size(bias_count)
    if num_heads != variants[0].num_heads[2] or img_size is None:
        raise CheckpointError(
            f"{path} has attention biases of shape {(num_heads, bias_count)}, which no TinyViT has",
            "give a checkpoint of a TinyViT",
        )
    released = [variant for variant in variants if variant.img_size == img_size]
    return Architecture(
        variant=released[0] if released else variants[0],
        img_size=img_size,
        num_classes=state_dict["head.fc.weight"].shape[0],
    )


def complete_state_dict(
    state_dict: dict[str, Tensor], architecture: Architecture, path: Path
) -> dict[str, Tensor]:
    """Check all keys, shapes and values of a state dict, and convert it to float32.

    Args:
        state_dict: Weights with the key names of timm. The counters of BatchNorm may be missing,
            because some tools do not save them.
        architecture: The architecture that the weights must fit.
        path: The file, for error messages.

    Returns:
        The state dict with all keys, including the counters.

    Raises:
        CheckpointError: Keys are missing or unexpected, a shape is wrong, or a weight is not
            finite.
    """
    expected = _make_expected_state_dict(architecture)
    default_counters = {key: torch.tensor(0) for key in expected if key.endswith(_BATCH_COUNTER)}
    state_dict = {**default_counters, **state_dict}
    _check_keys(state_dict, expected, architecture.variant, path)
    _check_shapes(state_dict, expected, architecture, path)
    not_finite = [key for key in expected if not torch.isfinite(state_dict[key].float()).all()]
    if not_finite:
        raise CheckpointError(
            f"{path} contains NaN or infinite weights ({_shorten(not_finite)})",
            "give an earlier checkpoint: training diverged",
        )
    # The counters stay integers.
    return {
        key: value if key.endswith(_BATCH_COUNTER) else value.float()
        for key, value in state_dict.items()
    }


def resize_state_dict(
    state_dict: dict[str, Tensor], architecture: Architecture
) -> dict[str, Tensor]:
    """Adapt weights to another image size by interpolating the attention biases.

    The interpolation is that of the paper's code (microsoft/Cream, TinyViT/utils.py,
    load_pretrained).

    Args:
        state_dict: A complete state dict.
        architecture: The architecture of the result: that of the state dict, but with the new image
            size.

    Returns:
        A state dict for the new image size.
    """
    expected = _make_expected_state_dict(architecture)
    return {
        key: _interpolate_biases(value, expected[key].shape) for key, value in state_dict.items()
    }


def _check_channels(state_dict: dict[str, Tensor], path: Path) -> None:
    """Raise CheckpointError if the network was trained on images without three channels."""
    weight = state_dict.get("patch_embed.conv1.conv.weight")
    if weight is not None and weight.ndim == 4 and weight.shape[1] != 3:
        raise CheckpointError(
            f"the network in {path} takes images of {format_count(weight.shape[1], 'channel')}, and"
            " only RGB images (3 channels) are supported",
            "train with in_chans=3: convert gray images to RGB, and leave out other channels",
        )


def _convert_key(key: str) -> str:
    """Convert a key of the paper's code to timm's."""
    for pattern, replacement in _OFFICIAL_TO_TIMM:
        key = re.sub(pattern, replacement, key)
    # Downsampling is at the end of a stage in the paper's code, at the start of the next in timm.
    downsample = re.match(r"^layers\.(\d+)\.downsample\.(.*)$", key)
    if downsample:
        return f"stages.{int(downsample[1]) + 1}.downsample.{downsample[2]}"
    return re.sub(r"^layers\.", "stages.", key)


def _find_variants(dims: tuple[int, ...], path: Path) -> list[Variant]:
    """Return the variants whose four stages have these channels, or raise CheckpointError."""
    variants = [variant for variant in VARIANTS.values() if variant.embed_dims == dims]
    if not variants:
        differences = {
            variant.name: sum(abs(own - dim) for own, dim in zip(variant.embed_dims, dims))
            for variant in VARIANTS.values()
        }
        nearest = VARIANTS[min(differences, key=differences.__getitem__)]
        raise CheckpointError(
            f"the stages in {path} have {dims} channels, as in no released TinyViT",
            f"give a checkpoint of a released variant; the nearest is {nearest.name} with"
            f" {nearest.embed_dims}",
        )
    return variants


def _find_img_size(bias_count: int) -> int | None:
    """Return the image size at which a head of the third stage has this many attention biases.

    A head has window**2 biases. In the third stage, the side of a window in tokens is 1/16 of the
    side of the image in pixels (see `tinyvit.image_sizes.compute_window_sizes`).

    Returns:
        The side of the image in pixels, or None if no supported size has this many biases.
    """
    window = math.isqrt(bias_count)
    img_size = 16 * window
    return img_size if window**2 == bias_count and is_supported_size(img_size) else None


def _make_expected_state_dict(architecture: Architecture) -> dict[str, Tensor]:
    """Return a state dict with the expected keys and shapes, whose tensors have no values."""
    with torch.device("meta"):
        network = TinyViT(architecture.variant, architecture.num_classes, architecture.img_size)
    return network.state_dict()


def _check_keys(
    state_dict: dict[str, Tensor], expected: dict[str, Tensor], variant: Variant, path: Path
) -> None:
    """Raise CheckpointError if keys are missing or unexpected."""
    differences = {
        "missing": sorted(expected.keys() - state_dict.keys()),
        "unexpected": sorted(state_dict.keys() - expected.keys()),
    }
    descriptions = [
        f"{kind} {len(keys)}: {_shorten(keys)}" for kind, keys in differences.items() if keys
    ]
    if descriptions:
        raise CheckpointError(
            f"{path} has the channels of {variant.name}, but not its keys"
            f" ({'; '.join(descriptions)})",
            "save the model's whole state dict, unchanged",
        )


def _check_shapes(
    state_dict: dict[str, Tensor],
    expected: dict[str, Tensor],
    architecture: Architecture,
    path: Path,
) -> None:
    """Raise CheckpointError if a tensor has another shape than expected."""
    mismatches = [
        f"{key} {tuple(state_dict[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if state_dict[key].shape != expected[key].shape
    ]
    if mismatches:
        raise CheckpointError(
            f"{path} is most similar to {architecture.variant.name} at {architecture.img_size}"
            f" pixels, but has {_shorten(mismatches)}",
            "give a checkpoint of one released variant",
        )


def _interpolate_biases(value: Tensor, shape: torch.Size) -> Tensor:
    """Resize attention biases (heads, window**2) to a new shape; return other weights unchanged."""
    if value.shape == shape:
        return value
    window, new_window = math.isqrt(value.shape[1]), math.isqrt(shape[1])
    table = value.reshape(1, value.shape[0], window, window)
    return F.interpolate(table, (new_window, new_window), mode="bicubic").reshape(shape)


def _shorten(keys: Iterable[object], count: int = 3) -> str:
    """Join the first keys for an error message, with "..." if there are more."""
    names = list(map(str, keys))
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
