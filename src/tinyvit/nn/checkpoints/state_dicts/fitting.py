"""Fitting of state dicts to an architecture: checks of all weights, and change of the image size.

State dicts have the key names of timm here.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvit.errors import CheckpointError
from tinyvit.image_sizes import compute_window_sizes
from tinyvit.nn.checkpoints.state_dicts.layouts import Architecture, join_first
from tinyvit.nn.mobile_sam import MobileSamEncoder
from tinyvit.nn.model import TinyViT
from tinyvit.variants import Variant

_BATCH_COUNTER = "num_batches_tracked"
"""Ending of a key whose value is the number of batches that a BatchNorm has seen in training. It is
an integer, and inference does not use it."""


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
        The state dict with all keys, float32, and the counters of BatchNorm, which stay integers.

    Raises:
        CheckpointError: Keys are missing or unexpected, a shape is wrong, or a weight is not finite
            or an integer, or a variance is below 0.
    """
    expected = _make_expected_state_dict(architecture)
    default_counters = {key: torch.tensor(0) for key in expected if key.endswith(_BATCH_COUNTER)}
    state_dict = {**default_counters, **state_dict}
    _check_keys(state_dict, expected, architecture.variant, path)
    _check_shapes(state_dict, expected, architecture, path)
    _check_values(state_dict, expected, path)
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


def _make_expected_state_dict(architecture: Architecture) -> dict[str, Tensor]:
    """Return a state dict with the keys and shapes of an architecture, but without values."""
    variant, img_size = architecture.variant, architecture.img_size
    network: TinyViT
    with torch.device("meta"):
        if architecture.has_neck:
            windows = compute_window_sizes(img_size)
            network = MobileSamEncoder(variant, img_size, windows)
        else:
            network = TinyViT(variant, architecture.num_classes, img_size)
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
        f"{kind} {len(keys)}: {join_first(keys)}" for kind, keys in differences.items() if keys
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
            f" pixels, but has {join_first(mismatches)}",
            "give a checkpoint of one released variant",
        )


def _check_values(state_dict: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """Raise CheckpointError if values are not finite, or are not possible for their tensor."""
    not_finite = [key for key in expected if not torch.isfinite(state_dict[key].float()).all()]
    if not_finite:
        raise CheckpointError(
            f"{path} contains NaN or infinite weights ({join_first(not_finite)})",
            "give an earlier checkpoint: training diverged",
        )
    negative = [
        key
        for key in expected
        if key.endswith("running_var") and (state_dict[key].float() < 0).any()
    ]
    if negative:
        raise CheckpointError(
            f"{path} contains variances below 0 ({join_first(negative)})",
            "the file is damaged: download it again, or give an earlier checkpoint",
        )
    integers = [
        key
        for key in expected
        if not state_dict[key].is_floating_point() and not key.endswith(_BATCH_COUNTER)
    ]
    if integers:
        raise CheckpointError(
            f"{path} contains weights that are integers ({join_first(integers)}), as after a"
            " quantization",
            "give the float checkpoint from before the quantization",
        )


def _interpolate_biases(value: Tensor, shape: torch.Size) -> Tensor:
    """Resize attention biases (heads, window**2) to a new shape.

    A value that already has this shape is returned unchanged. All weights except attention biases
    have it, because their shapes do not depend on the image size.
    """
    if value.shape == shape:
        return value
    window, new_window = math.isqrt(value.shape[1]), math.isqrt(shape[1])
    table = value.reshape(1, value.shape[0], window, window)
    return F.interpolate(table, (new_window, new_window), mode="bicubic").reshape(shape)
