"""The released family, as data: five variants of TinyViT and the checkpoints published for them.

Dimensions: Table 1 of the paper (Wu et al., ECCV 2022) and microsoft/Cream, TinyViT/configs. Accuracies, in percent
on ImageNet-1k's validation images: the model zoo of microsoft/Cream, TinyViT/README.md. Names, hub ids and license:
timm/models/tiny_vit.py and the model cards under huggingface.co/timm.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from tinyvit.errors import RequestError
from tinyvit.preprocess import Preprocess, paper_preprocess, timm_preprocess

HEAD_DIM = 32
MLP_RATIO = 4
IMAGENET_1K = 1000
IMAGENET_22K = 21841
MIN_SIZE, MAX_SIZE = 32, 1024


@dataclass(frozen=True)
class Variant:
    """One architecture of the family.

    params and macs are for 1000 classes at `img_size`; macs counts one multiply-accumulate of convolutions, linear
    layers and attention products as 1. paper_gmacs is the paper's own figure, in units of 10**9.
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
        """File stem of an export: "tinyvit_5m", "tinyvit_21m_384"."""
        return self.name.replace("tiny_vit", "tinyvit").removesuffix("_224")

    @property
    def window_sizes(self) -> tuple[int, int, int, int]:
        """Side of the attention windows, tokens, by stage (the first stage has none and ignores its entry)."""
        return windows(self.img_size)


@dataclass(frozen=True)
class Released:
    """One published checkpoint. top1 and top5 are None where none was published (the 21,841-class ones)."""

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
        """timm's evaluation, which the hub's files are published with."""
        return timm_preprocess(self.variant.img_size)

    @property
    def paper_preprocess(self) -> Preprocess:
        """The evaluation behind the published accuracies."""
        return paper_preprocess(self.variant.img_size)


def check_size(img_size: int) -> None:
    """Raise RequestError, naming the nearest that work, for an image size that is no multiple of 32, or out of bounds."""
    if img_size % 32 or not MIN_SIZE <= img_size <= MAX_SIZE:
        below = min(max(img_size // 32 * 32, MIN_SIZE), MAX_SIZE)
        near = sorted({below, min(below + 32, MAX_SIZE)})
        raise RequestError(
            f"TinyViT cannot run at {img_size} pixels",
            f"use a multiple of 32, such as {' or '.join(map(str, near))}",
        )


def windows(img_size: int) -> tuple[int, int, int, int]:
    """Window sides for an input side in pixels: N/32, N/32, N/16, N/32 (the paper's configs); N a multiple of 32."""
    n = img_size // 32
    return n, n, 2 * n, n


_DIMS_5M = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10)
_DIMS_11M = (64, 128, 256, 448), (2, 2, 6, 2), (2, 4, 8, 14)
_DIMS_21M = (96, 192, 384, 576), (2, 2, 6, 2), (3, 6, 12, 18)

VARIANTS: dict[str, Variant] = {
    v.name: v
    for v in (
        Variant("tiny_vit_5m_224", *_DIMS_5M, 224, 5_392_764, 1_255_174_720, 1.3),
        Variant("tiny_vit_11m_224", *_DIMS_11M, 224, 10_996_972, 2_016_046_144, 2.0),
        Variant("tiny_vit_21m_224", *_DIMS_21M, 224, 21_198_568, 4_250_329_536, 4.3),
        Variant("tiny_vit_21m_384", *_DIMS_21M, 384, 21_230_488, 13_697_865_216, 13.8),
        Variant("tiny_vit_21m_512", *_DIMS_21M, 512, 21_268_120, 26_883_623_424, 27.0),
    )
}

RELEASED: dict[str, Released] = {
    f"{variant}.{tag}": Released(f"{variant}.{tag}", VARIANTS[variant], classes, top1, top5)
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

DEFAULT_MODEL = "tiny_vit_5m_224.dist_in22k_ft_in1k"
DEMO_MODEL = "demo"
RELEASED_NAMES = (*RELEASED, *(variant.short_name for variant in VARIANTS.values()), DEMO_MODEL)
"""Of all that can be asked for by name, but for other spellings that `find_released` takes."""


def find_released(name: str) -> Released:
    """The released checkpoint called `name`: in full, or short for a variant's default one (22k, then 1k).

    Accepts "tiny_vit_5m_224.in1k", "tiny_vit_5m_224", "tinyvit_5m". Raises RequestError with the nearest names.
    """
    for variant in VARIANTS.values():
        if name in (variant.name, variant.short_name, f"{variant.short_name}_{variant.img_size}"):
            return RELEASED[f"{variant.name}.dist_in22k_ft_in1k"]
    if name.removeprefix("timm/") in RELEASED:
        return RELEASED[name.removeprefix("timm/")]
    raise RequestError(
        f"no released model is called {name!r}",
        f"nearest: {nearest_name(name, RELEASED_NAMES)}; see tinyvit-export --list",
    )


def nearest_name(name: str, names: Iterable[str]) -> str:
    """The names closest to `name` in spelling, for an error message."""
    names = list(names)
    return ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3])
