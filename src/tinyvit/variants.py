"""The released TinyViT family as data: five variants and their published checkpoints.

Sources: Table 1 of the paper (Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision
Transformers", ECCV 2022) and microsoft/Cream, TinyViT/configs, for the dimensions; the model zoo in
microsoft/Cream, TinyViT/README.md, for the accuracies in percent on the validation images of
ImageNet-1k; timm/models/tiny_vit.py and the model cards under huggingface.co/timm for the names,
hub ids and the license.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from tinyvit.errors import RequestError
from tinyvit.preprocess import Preprocess, paper_preprocess, timm_preprocess

HEAD_DIM = 32
"""Channels of one attention head, in all variants."""

MLP_RATIO = 4
"""Hidden channels of an MLP or MBConv block for each of its input channels."""

IMAGENET_1K = 1000
IMAGENET_22K = 21841
MIN_SIZE, MAX_SIZE = 32, 1024
"""Smallest and largest supported side of the input image in pixels."""


@dataclass(frozen=True)
class Variant:
    """One architecture of the family.

    Attributes:
        name: Name of the variant in timm.
        embed_dims: Channels of the four stages.
        depths: Blocks of the four stages.
        num_heads: Attention heads of the four stages; the first stage has no attention.
        img_size: Side of the square input in pixels for which the variant was released.
        params: Trained parameters with 1000 classes at `img_size`.
        macs: Multiply-accumulates for one image with 1000 classes at `img_size`, of convolutions,
            linear layers and the matrix products of attention.
        paper_gmacs: The number of multiply-accumulates that the paper states, in billions.
    """

    name: str
    embed_dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    img_size: int
    params: int
    macs: int
    paper_gmacs: float

    @property
    def short_name(self) -> str:
        """Stem of exported file names, such as "tinyvit_5m" or "tinyvit_21m_384"."""
        return self.name.replace("tiny_vit", "tinyvit").removesuffix("_224")

    @property
    def window_sizes(self) -> tuple[int, int, int, int]:
        """Sides of the attention windows of the four stages at `img_size`, in tokens."""
        return compute_window_sizes(self.img_size)


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """One published checkpoint of the family.

    Attributes:
        name: Full name, the variant and a tag, such as "tiny_vit_5m_224.in1k".
        variant: Its architecture.
        num_classes: Number of classes.
        top1: Published top-1 accuracy in percent; None for the checkpoints with 21841 classes.
        top5: Published top-5 accuracy in percent; None for the checkpoints with 21841 classes.
        license: License of the weights.
        hub_id: Repository on huggingface.co.
    """

    name: str
    variant: Variant
    num_classes: int
    top1: float | None
    top5: float | None
    license: str = "apache-2.0"
    hub_id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hub_id", f"timm/{self.name}")

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing that timm states for the file on the hub."""
        return timm_preprocess(self.variant.img_size)

    @property
    def paper_preprocess(self) -> Preprocess:
        """The preprocessing with which the published accuracies were measured."""
        return paper_preprocess(self.variant.img_size)


def check_size(img_size: int) -> None:
    """Check that TinyViT can run at an image size.

    Args:
        img_size: Side of the square input in pixels.

    Raises:
        RequestError: The size is not a multiple of 32, or not within MIN_SIZE and MAX_SIZE. The
            message names the nearest sizes that work.
    """
    if img_size % 32 or not MIN_SIZE <= img_size <= MAX_SIZE:
        below = min(max(img_size // 32 * 32, MIN_SIZE), MAX_SIZE)
        nearest = sorted({below, min(below + 32, MAX_SIZE)})
        raise RequestError(
            f"TinyViT cannot run at {img_size} pixels",
            f"use a multiple of 32, such as {' or '.join(map(str, nearest))}",
        )


def compute_window_sizes(img_size: int) -> tuple[int, int, int, int]:
    """Return the sides of the attention windows at an image size.

    The rule N/32, N/32, N/16, N/32 for an image of N pixels is that of the paper's configs.

    Args:
        img_size: Side of the square input in pixels, a multiple of 32.

    Returns:
        Sides in tokens, one for each stage. The first stage has no attention and ignores its own.
    """
    n = img_size // 32
    return n, n, 2 * n, n


_DIMS_5M = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10)
_DIMS_11M = (64, 128, 256, 448), (2, 2, 6, 2), (2, 4, 8, 14)
_DIMS_21M = (96, 192, 384, 576), (2, 2, 6, 2), (3, 6, 12, 18)

VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("tiny_vit_5m_224", *_DIMS_5M, 224, 5_392_764, 1_255_174_720, 1.3),
        Variant("tiny_vit_11m_224", *_DIMS_11M, 224, 10_996_972, 2_016_046_144, 2.0),
        Variant("tiny_vit_21m_224", *_DIMS_21M, 224, 21_198_568, 4_250_329_536, 4.3),
        Variant("tiny_vit_21m_384", *_DIMS_21M, 384, 21_230_488, 13_697_865_216, 13.8),
        Variant("tiny_vit_21m_512", *_DIMS_21M, 512, 21_268_120, 26_883_623_424, 27.0),
    )
}
"""The variants by name."""

RELEASED: dict[str, ReleasedCheckpoint] = {
    f"{variant}.{tag}": ReleasedCheckpoint(
        f"{variant}.{tag}", VARIANTS[variant], classes, top1, top5
    )
    for variant, tag, classes, top1, top5 in (
        ("tiny_vit_5m_224", "dist_in22k", IMAGENET_22K, None, None),
        ("tiny_vit_5m_224", "dist_in22k_ft_in1k", IMAGENET_1K, 80.7, 95.6),
        ("tiny_vit_5m_224", "in1k", IMAGENET_1K, 79.1, 94.8),
        ("tiny_vit_11m_224", "dist_in22k", IMAGENET_22K, None, None),
        ("tiny_vit_11m_224", "dist_in22k_ft_in1k", IMAGENET_1K, 83.2, 96.5),
        ("tiny_vit_11m_224", "in1k", IMAGENET_1K, 81.5, 95.8),
        ("tiny_vit_21m_224", "dist_in22k", IMAGENET_22K, None, None),
        ("tiny_vit_21m_224", "dist_in22k_ft_in1k", IMAGENET_1K, 84.8, 97.3),
        ("tiny_vit_21m_224", "in1k", IMAGENET_1K, 83.1, 96.5),
        ("tiny_vit_21m_384", "dist_in22k_ft_in1k", IMAGENET_1K, 86.2, 97.8),
        ("tiny_vit_21m_512", "dist_in22k_ft_in1k", IMAGENET_1K, 86.5, 97.9),
    )
}
"""The published checkpoints by full name."""

DEFAULT_MODEL = "tiny_vit_5m_224.dist_in22k_ft_in1k"
"""The checkpoint that is exported when the user names none."""

DEMO_MODEL = "demo"
"""Name of the small trained model that is part of this package."""

RELEASED_NAMES = (*RELEASED, *(variant.short_name for variant in VARIANTS.values()), DEMO_MODEL)
"""Names of models that commands list. `find_released` also accepts other spellings."""


def find_released(name: str) -> ReleasedCheckpoint:
    """Find a published checkpoint by its name.

    Args:
        name: The full name, such as "tiny_vit_5m_224.in1k", or a variant such as "tiny_vit_5m_224"
            or "tinyvit_5m" for its default checkpoint, which was trained on ImageNet-22k and then
            on ImageNet-1k.

    Returns:
        The checkpoint.

    Raises:
        RequestError: No checkpoint has this name. The message contains the nearest names.
    """
    for variant in VARIANTS.values():
        if name in (variant.name, variant.short_name, f"{variant.short_name}_{variant.img_size}"):
            return RELEASED[f"{variant.name}.dist_in22k_ft_in1k"]
    if name.removeprefix("timm/") in RELEASED:
        return RELEASED[name.removeprefix("timm/")]
    raise RequestError(
        f"no released model is called {name!r}",
        f"nearest: {suggest_names(name, RELEASED_NAMES)}; see tinyvit-export --list",
    )


def suggest_names(name: str, names: Iterable[str]) -> str:
    """List the names that are spelled most like a wrong name, for an error message.

    Args:
        name: The wrong name.
        names: The names that exist.

    Returns:
        Up to three names, separated by commas; the first ones if none is similar.
    """
    names = list(names)
    return ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3])
