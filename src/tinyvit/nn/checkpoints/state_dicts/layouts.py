"""Recognition of the layout and architecture of state dicts, and conversion of keys to timm's.

The layout is the naming of the keys: "timm" (as in timm), "official" (as in the paper's code,
microsoft/Cream), or "mobile_sam" (the paper's names and a neck, as in ChaoningZhang/MobileSAM). The
architecture (variant, image size and number of classes) is recognized by the shapes of the weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tinyvit.errors import CheckpointError
from tinyvit.image_sizes import can_scale_windows, is_supported_size
from tinyvit.text.plurals import format_count
from tinyvit.variants import VARIANTS, Variant

_LAYOUT_KEYS = {
    "timm": ("patch_embed.conv1.conv.weight",),
    "mobile_sam": ("patch_embed.seq.0.c.weight", "neck.0.weight"),
    "official": ("patch_embed.seq.0.c.weight",),
}
"""For each layout, keys that together occur in no layout after it."""

MOBILE_SAM = "mobile_sam"
"""The layout of MobileSAM's image encoder."""

_OFFICIAL_TO_TIMM = (
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"^norm_head\.", "head.norm."),
    (r"^head\.(?=weight|bias)", "head.fc."),
    (r"\.c\.weight$", ".conv.weight"),
)
"""Regular expressions for parts of the paper's keys, and the corresponding parts of timm's keys."""


@dataclass(frozen=True)
class Architecture:
    """The properties that determine the keys and shapes of a state dict.

    Attributes:
        variant: Variant of TinyViT.
        img_size: Side of the square image in pixels that follows from the sizes of the attention
            windows (see `tinyvit.image_sizes.compute_window_sizes`). If feature maps are padded,
            the network may have been trained with images of another size.
        num_classes: Number of classes; 0 without a classifier.
        has_neck: Whether the network is the image encoder of a MobileSAM, which ends with a neck.
    """

    variant: Variant
    img_size: int
    num_classes: int
    has_neck: bool = False


def recognize_layout(names: Collection[str], path: Path) -> str:
    """Recognize the layout of a state dict by its keys.

    Args:
        names: Names of the tensors, as they are in the file.
        path: The file, for error messages.

    Returns:
        "timm", "official" or "mobile_sam".

    Raises:
        CheckpointError: The layout is not known.
    """
    for layout, keys in _LAYOUT_KEYS.items():
        if all(key in names for key in keys):
            return layout
    raise make_foreign_error(names, path)


def make_foreign_error(names: Iterable[str], path: Path) -> CheckpointError:
    """Return the error for a state dict that is not that of a TinyViT.

    Args:
        names: Names of the tensors.
        path: The file.
    """
    return CheckpointError(
        f"{path} is not a TinyViT (first keys: {join_first(names)})",
        "give a TinyViT with the keys of the paper's code or of timm; for other networks,"
        " docs/explanation/comparison.md names other tools",
    )


def convert_keys(tensors: dict[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Convert the keys of a state dict to those of timm.

    Args:
        tensors: Tensors by name, as they are in the file.
        layout: Layout of the state dict, as `recognize_layout` returns it.

    Returns:
        The same tensors, without the indices of attention biases, which the model computes.
    """
    return {
        key if layout == "timm" else _convert_key(key): value
        for key, value in tensors.items()
        if not key.endswith("attention_bias_idxs")
    }


def recognize_architecture(
    state_dict: dict[str, Tensor], path: Path, requires_classifier: bool = True
) -> Architecture:
    """Recognize the architecture by the shapes of the weights.

    Args:
        state_dict: Weights with the key names of timm.
        path: The file, for error messages.
        requires_classifier: Whether a state dict without a classifier is an error.

    Returns:
        The architecture. Variants that differ only in the image size have the same channels. Of
        these variants, the one that was released for this image size is chosen, or else the first.

    Raises:
        CheckpointError: Weights are missing, no TinyViT has weights of these shapes, a required
            classifier is missing or has 0 classes, or the images do not have three channels.
    """
    _check_channels(state_dict, path)
    try:
        dims = (
            state_dict["patch_embed.conv2.conv.weight"].shape[0],
            *(state_dict[f"stages.{i}.downsample.conv3.conv.weight"].shape[0] for i in (1, 2, 3)),
        )
        num_heads, bias_count = state_dict["stages.2.blocks.0.attn.attention_biases"].shape
    except KeyError as error:
        raise CheckpointError(
            f"{path} lacks parts of a TinyViT (no {error})",
            "the file is incomplete: save the whole model's state dict",
        ) from error
    except (ValueError, IndexError) as error:
        raise CheckpointError(
            f"weights in {path} have another number of dimensions than in a TinyViT",
            "save the model's state dict, unchanged",
        ) from error
    num_classes, has_neck = 0, "neck.0.weight" in state_dict
    if has_neck and requires_classifier:
        raise CheckpointError(
            f"{path} is a MobileSAM, which has a neck for segmentation instead of a classifier",
            "give a checkpoint of a TinyViT that classifies images; tinyvit-export exports the"
            " image encoder of a MobileSAM",
        )
    if requires_classifier or "head.fc.weight" in state_dict:
        num_classes = _count_classes(state_dict, path)
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
        num_classes=num_classes,
        has_neck=has_neck,
    )


def _check_channels(state_dict: dict[str, Tensor], path: Path) -> None:
    """Raise CheckpointError if the network does not take images of three channels."""
    weight = state_dict.get("patch_embed.conv1.conv.weight")
    if weight is not None and weight.ndim == 4 and weight.shape[1] != 3:
        raise CheckpointError(
            f"the network in {path} takes images of {format_count(weight.shape[1], 'channel')}, and"
            " only RGB images (3 channels) are supported",
            "train with in_chans=3: convert gray images to RGB, and leave out other channels",
        )


def _count_classes(state_dict: dict[str, Tensor], path: Path) -> int:
    """Return the number of classes, or raise CheckpointError if there is no classifier."""
    weight = state_dict.get("head.fc.weight")
    if weight is None or weight.ndim != 2:
        raise CheckpointError(
            f"{path} has no classifier: the network was saved without one (num_classes=0)",
            "give a checkpoint that was trained with its classifier, or use tinyvit-export --output"
            " embedding",
        )
    if weight.shape[0] == 0:
        raise CheckpointError(
            f"the classifier in {path} has 0 classes (head.fc.weight has the shape"
            f" {tuple(weight.shape)})",
            "export a checkpoint that was trained with its classifier",
        )
    return weight.shape[0]


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
            variant.name: sum(
                abs(variant_dim - dim) for variant_dim, dim in zip(variant.embed_dims, dims)
            )
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
    is_possible = can_scale_windows(img_size) and is_supported_size(img_size)
    return img_size if window**2 == bias_count and is_possible else None


def join_first(texts: Iterable[str], max_count: int = 3) -> str:
    """Join the first of several texts for a message, with "..." if there are more.

    Args:
        texts: The texts, such as keys or shapes.
        max_count: Largest number of texts in the result.
    """
    texts = list(texts)
    return ", ".join(texts[:max_count]) + (", ..." if len(texts) > max_count else "")
