"""From a checkpoint file to the network it holds: layout, variant, image size and classes are read off keys and shapes."""

from __future__ import annotations

import math
import re
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
from tinyvit.nn import weight_files as weights
from tinyvit.nn.model import TinyViT
from tinyvit.preprocess import Preprocess, paper_preprocess, timm_preprocess
from tinyvit.variants import MAX_SIZE, MIN_SIZE, VARIANTS, Variant, check_size

_OFFICIAL_NAMES = (
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"^norm_head\.", "head.norm."),
    (r"^head\.(?=weight|bias)", "head.fc."),
    (r"\.c\.weight$", ".conv.weight"),
)
CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt")
"""Of files that hold one."""
_LAYOUT_MARKS = {"timm": "patch_embed.conv1.conv.weight", "official": "patch_embed.seq.0.c.weight"}


@dataclass(frozen=True)
class Checkpoint:
    """Weights under timm's names, float32, and what is known of them.

    layout is "timm" or "official"; container says where in the file the weights were ("" at top level, or "state_dict_ema"
    and so on); labels is None where nobody said.
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
        """The network with these weights, in eval mode."""
        with torch.device("meta"):
            model = TinyViT(self.variant, self.num_classes, self.img_size)
        model = model.to_empty(device="cpu")
        for name, index in TinyViT(self.variant, 1, self.img_size).named_buffers():
            if name.startswith("bias_index"):
                model.get_buffer(name).copy_(index)
        model.load_state_dict(self.state_dict, strict=True)
        return model.eval()

    def at_size(self, img_size: int) -> Checkpoint:
        """For another image size: attention biases interpolated as the paper's release does (TinyViT/utils.py, load_pretrained).

        Raises RequestError as `check_size`.
        """
        if img_size == self.img_size:
            return self
        check_size(img_size)
        with torch.device("meta"):
            wanted = TinyViT(self.variant, self.num_classes, img_size).state_dict()
        state = {
            key: _interpolated(value, wanted[key].shape) for key, value in self.state_dict.items()
        }
        rule = timm_preprocess if self.layout == "timm" else paper_preprocess
        preprocess = replace(
            rule(img_size),
            mean=self.preprocess.mean,
            std=self.preprocess.std,
            interpolation=self.preprocess.interpolation,
        )
        return replace(self, img_size=img_size, state_dict=state, preprocess=preprocess)


def load_checkpoint(path: Path, name: str | None = None) -> Checkpoint:
    """Read a checkpoint of either layout. `name` is for messages and the manifest; the file's stem by default.

    Raises CheckpointError where the file cannot be read or is not a TinyViT.
    """
    read = weights.read(path)
    layout = next((layout for layout, mark in _LAYOUT_MARKS.items() if mark in read.tensors), None)
    if layout is None:
        raise CheckpointError(
            f"{path} is not a TinyViT (first keys: {_first(read.tensors)})",
            "give a checkpoint in the paper's or timm's layout",
        )
    state = {
        _timm_name(key) if layout == "official" else key: value
        for key, value in read.tensors.items()
    }
    state = {key: value for key, value in state.items() if not key.endswith("attention_bias_idxs")}
    variant, img_size, num_classes = _recognize(state, path)
    state = _complete(state, TinyViT, variant, img_size, num_classes, path)
    preprocess, labels, license = _metadata(read.metadata, layout, img_size, num_classes, path)
    return Checkpoint(
        name or path.stem, variant, img_size, num_classes, state, layout, read.container, preprocess, labels, license, sha256(path)
    )  # fmt: skip


def _timm_name(key: str) -> str:
    for pattern, replacement in _OFFICIAL_NAMES:
        key = re.sub(pattern, replacement, key)
    merged = re.match(r"^layers\.(\d+)\.downsample\.(.*)$", key)
    if (
        merged
    ):  # the paper's code merges patches at the end of a stage, timm's at the start of the next
        return f"stages.{int(merged[1]) + 1}.downsample.{merged[2]}"
    return re.sub(r"^layers\.", "stages.", key)


def _recognize(state: dict[str, Tensor], path: Path) -> tuple[Variant, int, int]:
    """Variant, image size in pixels and number of classes, from shapes alone."""
    try:
        dims = (
            state["patch_embed.conv2.conv.weight"].shape[0],
            *(state[f"stages.{i}.downsample.conv3.conv.weight"].shape[0] for i in (1, 2, 3)),
        )
        heads, entries = state["stages.2.blocks.0.attn.attention_biases"].shape
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path} lacks parts of a TinyViT (no {error})",
            "the file is incomplete: save the whole model's state dict",
        ) from error
    if "head.fc.weight" not in state or state["head.fc.weight"].ndim != 2:
        raise CheckpointError(
            f"{path} has no classifier (no head)",
            "export a checkpoint that was trained with its classifier",
        )
    family = [v for v in VARIANTS.values() if v.embed_dims == dims]
    if not family:
        nearest = min(
            VARIANTS.values(), key=lambda v: sum(abs(a - b) for a, b in zip(v.embed_dims, dims))
        )
        raise CheckpointError(
            f"{path} has widths {dims}, which no released TinyViT has",
            f"the nearest is {nearest.name} with {nearest.embed_dims}",
        )
    img_size = 16 * math.isqrt(entries)
    if (
        math.isqrt(entries) ** 2 != entries
        or heads != family[0].num_heads[2]
        or img_size % 32
        or not MIN_SIZE <= img_size <= MAX_SIZE
    ):
        raise CheckpointError(
            f"{path} has attention biases of shape {(heads, entries)}, which no TinyViT has",
            "give a checkpoint of a TinyViT",
        )
    variant = next((v for v in family if v.img_size == img_size), family[0])
    return variant, img_size, state["head.fc.weight"].shape[0]


def _complete(
    state: dict[str, Tensor],
    network: type[TinyViT],
    variant: Variant,
    img_size: int,
    num_classes: int,
    path: Path,
) -> dict[str, Tensor]:
    """The state dict as float32, after every key, shape and value was checked against the network's."""
    with torch.device("meta"):
        wanted = network(variant, num_classes, img_size).state_dict()
    state = {
        **{key: torch.tensor(0) for key in wanted if key.endswith("num_batches_tracked")},
        **state,
    }
    missing, unexpected = wanted.keys() - state.keys(), state.keys() - wanted.keys()
    if missing or unexpected:
        said = "; ".join(
            f"{what} {len(keys)}: {_first(sorted(keys))}"
            for what, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        )
        raise CheckpointError(
            f"{path} has the widths of {variant.name}, but not its keys ({said})",
            "save the model's whole state dict, unchanged",
        )
    odd = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if state[key].shape != wanted[key].shape
    ]
    if odd:
        raise CheckpointError(
            f"{path} is nearest to {variant.name} at {img_size}, but {_first(odd)}",
            "give a checkpoint of one released variant",
        )
    broken = [key for key in wanted if not bool(torch.isfinite(state[key].float()).all())]
    if broken:
        raise CheckpointError(
            f"{path} holds NaN or infinite weights ({_first(broken)})",
            "give an earlier checkpoint: training diverged",
        )
    return {
        key: value if key.endswith("num_batches_tracked") else value.float()
        for key, value in state.items()
    }


def _metadata(
    data: dict[str, Any], layout: str, img_size: int, num_classes: int, path: Path
) -> tuple[Preprocess, tuple[Label, ...] | None, str]:
    """Preprocessing, labels and license: what the file says, else what its layout implies."""
    try:
        stated = data.get("preprocess")
        preprocess = (
            Preprocess.from_dict(stated)
            if isinstance(stated, dict)
            else (timm_preprocess if layout == "timm" else paper_preprocess)(img_size)
        )
    except TinyViTError as error:
        raise CheckpointError(
            f"{path} states a preprocessing that is not understood", error.remedy
        ) from error
    license = data.get("license")
    return (
        preprocess,
        _labels(data, num_classes),
        license if isinstance(license, str) else "unknown",
    )


def _labels(data: dict[str, Any], num_classes: int) -> tuple[Label, ...] | None:
    names = data.get("labels") or data.get("class_names") or data.get("classes")
    if names is None and isinstance(data.get("class_to_idx"), dict):
        names = sorted(data["class_to_idx"], key=data["class_to_idx"].__getitem__)
    if not isinstance(names, (list, tuple)) or len(names) != num_classes:
        return label_sets.imagenet_labels(num_classes)
    known = label_sets.labels_by_wnid()
    return tuple(known.get(str(name), Label(str(name))) for name in names)


def _interpolated(value: Tensor, shape: torch.Size) -> Tensor:
    if value.shape == shape:
        return value
    side, wanted = math.isqrt(value.shape[1]), math.isqrt(shape[1])
    square = value.reshape(1, value.shape[0], side, side)
    return F.interpolate(square, (wanted, wanted), mode="bicubic").reshape(shape)


def _first(keys: Any, count: int = 3) -> str:
    keys = list(keys)
    return ", ".join(map(str, keys[:count])) + (", ..." if len(keys) > count else "")
