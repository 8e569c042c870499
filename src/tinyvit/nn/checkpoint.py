"""Loading checkpoints: the architecture is recognized from the names and shapes of the weights.

Two layouts are understood: that of the paper's code (microsoft/Cream, TinyViT), called "official",
and that of timm. Variant, image size and number of classes follow from the weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvit import labels as label_sets
from tinyvit.errors import CheckpointError, TinyViTError
from tinyvit.files import sha256
from tinyvit.labels import Label
from tinyvit.nn import weight_files
from tinyvit.nn.model import TinyViT
from tinyvit.preprocess import Preprocess, paper_preprocess, timm_preprocess
from tinyvit.serialization import parse_dataclass
from tinyvit.variants import MAX_SIZE, MIN_SIZE, VARIANTS, Variant, check_size

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt")
"""Endings of the names of checkpoint files."""

_LAYOUT_KEYS = {"timm": "patch_embed.conv1.conv.weight", "official": "patch_embed.seq.0.c.weight"}
"""A key that occurs only in this layout."""

_OFFICIAL_TO_TIMM = (
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"^norm_head\.", "head.norm."),
    (r"^head\.(?=weight|bias)", "head.fc."),
    (r"\.c\.weight$", ".conv.weight"),
)
"""Patterns in the keys of the paper's code, and what timm has instead."""

_PREPROCESS_RULES = {"timm": timm_preprocess, "official": paper_preprocess}

_BATCH_COUNTER = "num_batches_tracked"
"""Ending of the keys of BatchNorm's counters, which are integers and not needed for inference."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights with the key names of timm, and what is known about them.

    Attributes:
        name: Name for messages and the manifest.
        variant: Architecture.
        img_size: Side of the square input in pixels.
        num_classes: Number of classes.
        state_dict: Weights, float32.
        layout: Layout of the file: "timm" or "official".
        container: Key of the file that held the weights, such as "state_dict_ema"; "" at the top
            level.
        preprocess: The preprocessing that the file states, or else that of its layout.
        labels: Class labels, None if unknown.
        license: License of the weights, or "unknown".
        sha256: Hex digest of the file.
    """

    name: str
    variant: Variant
    img_size: int
    num_classes: int
    state_dict: dict[str, Tensor]
    layout: str
    container: str
    preprocess: Preprocess
    labels: tuple[Label, ...] | None
    license: str
    sha256: str

    def build(self) -> TinyViT:
        """Create the network with these weights.

        Returns:
            The network on the CPU, in eval mode.
        """
        with torch.device("meta"):
            model = TinyViT(self.variant, self.num_classes, self.img_size)
        model = model.to_empty(device="cpu")
        # The state dict does not contain the index buffers, so they come from a second network.
        for name, index in TinyViT(self.variant, 1, self.img_size).named_buffers():
            if name.startswith("bias_index"):
                model.get_buffer(name).copy_(index)
        model.load_state_dict(self.state_dict, strict=True)
        return model.eval()

    def at_size(self, img_size: int) -> Checkpoint:
        """Adapt the weights to another image size.

        The attention biases are interpolated as in the paper's code (microsoft/Cream,
        TinyViT/utils.py, load_pretrained).

        Args:
            img_size: Side of the square input in pixels.

        Returns:
            A checkpoint for that size, whose preprocessing follows the rule of the layout.

        Raises:
            RequestError: TinyViT cannot run at this size.
        """
        if img_size == self.img_size:
            return self
        check_size(img_size)
        expected = _expected_state_dict(self.variant, self.num_classes, img_size)
        state_dict = {
            key: _interpolate_biases(value, expected[key].shape)
            for key, value in self.state_dict.items()
        }
        preprocess = replace(
            _PREPROCESS_RULES[self.layout](img_size),
            mean=self.preprocess.mean,
            std=self.preprocess.std,
            interpolation=self.preprocess.interpolation,
        )
        return replace(self, img_size=img_size, state_dict=state_dict, preprocess=preprocess)


def load_checkpoint(path: Path, name: str | None = None) -> Checkpoint:
    """Read a checkpoint file of either layout.

    Args:
        path: A safetensors file or a file of `torch.save`, which may be untrusted.
        name: Name for messages and the manifest; by default the stem of the file name.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: The file cannot be read or does not contain a TinyViT.
    """
    weights = weight_files.read(path)
    layout = _recognize_layout(weights.tensors, path)
    state_dict = _convert_keys(weights.tensors, layout)
    variant, img_size, num_classes = _recognize_architecture(state_dict, path)
    state_dict = _complete_state_dict(state_dict, variant, img_size, num_classes, path)
    license_name = weights.metadata.get("license")
    return Checkpoint(
        name=name or path.stem,
        variant=variant,
        img_size=img_size,
        num_classes=num_classes,
        state_dict=state_dict,
        layout=layout,
        container=weights.container,
        preprocess=_find_preprocess(weights.metadata, layout, img_size, path),
        labels=_find_labels(weights.metadata, num_classes),
        license=license_name if isinstance(license_name, str) else "unknown",
        sha256=sha256(path),
    )


def _recognize_layout(tensors: dict[str, Tensor], path: Path) -> str:
    for layout, key in _LAYOUT_KEYS.items():
        if key in tensors:
            return layout
    raise CheckpointError(
        f"{path} is not a TinyViT (first keys: {_shorten(tensors)})",
        "give a checkpoint in the paper's or timm's layout",
    )


def _convert_keys(tensors: dict[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Return the tensors under timm's names, without index tables, which the model computes."""
    return {
        _timm_key(key) if layout == "official" else key: value
        for key, value in tensors.items()
        if not key.endswith("attention_bias_idxs")
    }


def _timm_key(key: str) -> str:
    """Convert a key of the paper's code to timm's."""
    for pattern, replacement in _OFFICIAL_TO_TIMM:
        key = re.sub(pattern, replacement, key)
    # The paper's code has the downsampling at the end of a stage, timm at the start of the next.
    downsample = re.match(r"^layers\.(\d+)\.downsample\.(.*)$", key)
    if downsample:
        return f"stages.{int(downsample[1]) + 1}.downsample.{downsample[2]}"
    return re.sub(r"^layers\.", "stages.", key)


def _recognize_architecture(state_dict: dict[str, Tensor], path: Path) -> tuple[Variant, int, int]:
    """Return the variant, the image size in pixels and the number of classes, from shapes alone."""
    try:
        dims = (
            state_dict["patch_embed.conv2.conv.weight"].shape[0],
            *(state_dict[f"stages.{i}.downsample.conv3.conv.weight"].shape[0] for i in (1, 2, 3)),
        )
        heads, biases = state_dict["stages.2.blocks.0.attn.attention_biases"].shape
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
    family = _variants_of_dims(dims, path)
    window = math.isqrt(biases)
    img_size = 16 * window  # the windows of the third stage have one token for every 16 pixels
    is_possible = (
        window**2 == biases
        and heads == family[0].num_heads[2]
        and img_size % 32 == 0
        and MIN_SIZE <= img_size <= MAX_SIZE
    )
    if not is_possible:
        raise CheckpointError(
            f"{path} has attention biases of shape {(heads, biases)}, which no TinyViT has",
            "give a checkpoint of a TinyViT",
        )
    variant = next((v for v in family if v.img_size == img_size), family[0])
    return variant, img_size, state_dict["head.fc.weight"].shape[0]


def _variants_of_dims(dims: tuple[int, ...], path: Path) -> list[Variant]:
    """Return the variants with these channels of the four stages; there is at least one."""
    family = [variant for variant in VARIANTS.values() if variant.embed_dims == dims]
    if not family:
        differences = {
            variant.name: sum(abs(a - b) for a, b in zip(variant.embed_dims, dims))
            for variant in VARIANTS.values()
        }
        nearest = VARIANTS[min(differences, key=differences.__getitem__)]
        raise CheckpointError(
            f"{path} has widths {dims}, which no released TinyViT has",
            f"the nearest is {nearest.name} with {nearest.embed_dims}",
        )
    return family


def _expected_state_dict(variant: Variant, num_classes: int, img_size: int) -> dict[str, Tensor]:
    """Return the state dict of a network on the meta device: keys and shapes without values."""
    with torch.device("meta"):
        return TinyViT(variant, num_classes, img_size).state_dict()


def _complete_state_dict(
    state_dict: dict[str, Tensor], variant: Variant, img_size: int, num_classes: int, path: Path
) -> dict[str, Tensor]:
    """Return the weights as float32, after checking all keys, shapes and values.

    The counters of BatchNorm may be missing, because some tools do not save them.
    """
    expected = _expected_state_dict(variant, num_classes, img_size)
    counters = {key: torch.tensor(0) for key in expected if key.endswith(_BATCH_COUNTER)}
    state_dict = {**counters, **state_dict}
    _check_keys(state_dict, expected, variant, path)
    mismatches = [
        f"{key} {tuple(state_dict[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if state_dict[key].shape != expected[key].shape
    ]
    if mismatches:
        raise CheckpointError(
            f"{path} is nearest to {variant.name} at {img_size}, but has {_shorten(mismatches)}",
            "give a checkpoint of one released variant",
        )
    not_finite = [key for key in expected if not torch.isfinite(state_dict[key].float()).all()]
    if not_finite:
        raise CheckpointError(
            f"{path} holds NaN or infinite weights ({_shorten(not_finite)})",
            "give an earlier checkpoint: training diverged",
        )
    return {
        key: value if key.endswith(_BATCH_COUNTER) else value.float()
        for key, value in state_dict.items()
    }


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
            f"{path} has the widths of {variant.name}, but not its keys"
            f" ({'; '.join(descriptions)})",
            "save the model's whole state dict, unchanged",
        )


def _find_preprocess(
    metadata: dict[str, Any], layout: str, img_size: int, path: Path
) -> Preprocess:
    """Return the preprocessing that the file states, or else that of its layout."""
    data = metadata.get("preprocess")
    if not isinstance(data, dict):
        return _PREPROCESS_RULES[layout](img_size)
    try:
        return parse_dataclass(Preprocess, data, "preprocess")
    except (ValueError, TinyViTError) as error:
        raise CheckpointError(
            f"{path} states a preprocessing that is not understood ({error})",
            "correct the entry preprocess in the metadata of the file, or remove it",
        ) from error


def _find_labels(metadata: dict[str, Any], num_classes: int) -> tuple[Label, ...] | None:
    """Return the labels that the file states, or else ImageNet's, if the number fits."""
    names = metadata.get("labels") or metadata.get("class_names") or metadata.get("classes")
    if names is None and isinstance(metadata.get("class_to_idx"), dict):
        indices = metadata["class_to_idx"]
        names = sorted(indices, key=indices.__getitem__)
    if not isinstance(names, (list, tuple)) or len(names) != num_classes:
        return label_sets.imagenet_labels(num_classes)
    imagenet = label_sets.labels_by_wnid()
    return tuple(imagenet.get(str(name), Label(str(name))) for name in names)


def _interpolate_biases(value: Tensor, shape: torch.Size) -> Tensor:
    """Resize attention biases (heads, window**2) to a shape; return other weights unchanged."""
    if value.shape == shape:
        return value
    window, new_window = math.isqrt(value.shape[1]), math.isqrt(shape[1])
    table = value.reshape(1, value.shape[0], window, window)
    return F.interpolate(table, (new_window, new_window), mode="bicubic").reshape(shape)


def _shorten(keys: Iterable[object], count: int = 3) -> str:
    """List the first entries for an error message, with "..." if there are more."""
    names = list(map(str, keys))
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
