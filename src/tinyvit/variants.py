"""Tables of the released TinyViT models: five variants (architectures) and their checkpoints.

Sources:

- dimensions: Table 1 of the paper (Wu et al., "TinyViT: Fast Pretraining Distillation for Small
  Vision Transformers", ECCV 2022), and TinyViT/configs in microsoft/Cream;
- accuracies on the validation images of ImageNet-1k: TinyViT/README.md in microsoft/Cream;
- names, hub ids and license: timm/models/tiny_vit.py and the model cards at huggingface.co/timm.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tinyvit.errors import RequestError
from tinyvit.image_sizes import compute_window_sizes
from tinyvit.preprocess import Preprocess, paper_preprocess, timm_preprocess

HEAD_DIM = 32
"""Channels of one attention head, in all variants."""

MLP_RATIO = 4
"""Number of hidden channels of an MLP or MBConv block divided by its input channels."""

IMAGENET_1K, IMAGENET_22K = 1000, 21841
"""Numbers of classes of ImageNet-1k and ImageNet-22k."""


@dataclass(frozen=True)
class Variant:
    """One architecture of the family.

    Attributes:
        name: Name of the variant in timm.
        embed_dims: Channels of the four stages.
        depths: Blocks of the four stages.
        num_heads: Attention heads of the four stages; the first stage has no attention and does not
            use its number.
        img_size: Side of the square input in pixels for which the variant was released.
        params: Number of trained parameters with 1000 classes at `img_size`.
        macs: Number of multiply-accumulates for one image with 1000 classes at `img_size`, in
            convolutions, linear layers and the matrix products of attention.
        paper_gmacs: Number of multiply-accumulates according to the paper, in billions.
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
        """First part of exported file names, such as "tinyvit_5m" or "tinyvit_21m_384"."""
        return self.name.replace("tiny_vit", "tinyvit").removesuffix("_224")

    @property
    def window_sizes(self) -> tuple[int, int, int, int]:
        """Sides of the attention windows of the four stages at `img_size`, in tokens."""
        return compute_window_sizes(self.img_size)


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """One published checkpoint of the family.

    Attributes:
        name: Full name: the variant and a tag for the training data, such as
            "tiny_vit_5m_224.in1k" (tag "in1k": ImageNet-1k).
        variant: Architecture of the model.
        num_classes: Number of classes.
        top1: Published top-1 accuracy in percent; None for the checkpoints with 21841 classes.
        top5: Published top-5 accuracy in percent; None for the checkpoints with 21841 classes.
        license: License of the weights.
    """

    name: str
    variant: Variant
    num_classes: int
    top1: float | None
    top5: float | None
    license: str = "apache-2.0"

    @property
    def hub_id(self) -> str:
        """Name of the repository on huggingface.co."""
        return f"timm/{self.name}"

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing that timm uses for the file on the hub."""
        return timm_preprocess(self.variant.img_size)

    @property
    def paper_preprocess(self) -> Preprocess:
        """The preprocessing with which the published accuracies were measured."""
        return paper_preprocess(self.variant.img_size)

    def describe_download(self) -> str:
        """Describe what loading this checkpoint may download, for a message."""
        # The classifier has one row of weights and one bias for each class.
        row_params = self.variant.embed_dims[-1] + 1
        params = self.variant.params + (self.num_classes - IMAGENET_1K) * row_params
        return (
            f"loading {self.name} from the hub's cache, or else downloading about"
            f" {params * 4 / 1e6:.0f} MB from huggingface.co/{self.hub_id}"
        )


_TINY_VIT_5M = Variant(
    name="tiny_vit_5m_224",
    embed_dims=(64, 128, 160, 320),
    depths=(2, 2, 6, 2),
    num_heads=(2, 4, 5, 10),
    img_size=224,
    params=5_392_764,
    macs=1_255_174_720,
    paper_gmacs=1.3,
)
_TINY_VIT_11M = replace(
    _TINY_VIT_5M,
    name="tiny_vit_11m_224",
    embed_dims=(64, 128, 256, 448),
    num_heads=(2, 4, 8, 14),
    params=10_996_972,
    macs=2_016_046_144,
    paper_gmacs=2.0,
)
_TINY_VIT_21M = replace(
    _TINY_VIT_5M,
    name="tiny_vit_21m_224",
    embed_dims=(96, 192, 384, 576),
    num_heads=(3, 6, 12, 18),
    params=21_198_568,
    macs=4_250_329_536,
    paper_gmacs=4.3,
)
_TINY_VIT_21M_384 = replace(
    _TINY_VIT_21M,
    name="tiny_vit_21m_384",
    img_size=384,
    params=21_230_488,
    macs=13_697_865_216,
    paper_gmacs=13.8,
)
_TINY_VIT_21M_512 = replace(
    _TINY_VIT_21M,
    name="tiny_vit_21m_512",
    img_size=512,
    params=21_268_120,
    macs=26_883_623_424,
    paper_gmacs=27.0,
)

VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        _TINY_VIT_5M,
        _TINY_VIT_11M,
        _TINY_VIT_21M,
        _TINY_VIT_21M_384,
        _TINY_VIT_21M_512,
    )
}
"""The variants by name."""

_RELEASES: tuple[tuple[str, str, int, float | None, float | None], ...] = (
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
"""One row per checkpoint: variant, tag, number of classes, top-1 and top-5 accuracy in percent."""

RELEASED: dict[str, ReleasedCheckpoint] = {
    f"{variant_name}.{tag}": ReleasedCheckpoint(
        name=f"{variant_name}.{tag}",
        variant=VARIANTS[variant_name],
        num_classes=num_classes,
        top1=top1,
        top5=top5,
    )
    for variant_name, tag, num_classes, top1, top5 in _RELEASES
}
"""The published checkpoints by full name. In the tags, "in22k" is ImageNet-22k and "in1k" is
ImageNet-1k, "dist" means that the model was distilled, and "ft" that it was fine-tuned later."""

DEFAULT_MODEL = "tiny_vit_5m_224.dist_in22k_ft_in1k"
"""The checkpoint that is exported by default."""

DEMO_MODEL = "demo"
"""Name of the small trained model that is part of this package."""

DEMO_FILE = "assets/demo.safetensors"
"""Path of the demo model's checkpoint in this package."""

RELEASED_NAMES = (*RELEASED, *(variant.short_name for variant in VARIANTS.values()), DEMO_MODEL)
"""Names of models that commands list: full names, short names of the variants, and the demo."""


def find_released(name: str) -> ReleasedCheckpoint:
    """Find a published checkpoint by its name.

    Args:
        name: A full name such as "tiny_vit_5m_224.in1k", or "timm/" and a full name. The name of a
            variant alone, such as "tiny_vit_5m_224" or "tinyvit_5m", selects the checkpoint that
            was trained on ImageNet-22k and then on ImageNet-1k.

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
    """List the existing names that are most similar to a misspelled name, for an error message.

    Args:
        name: The misspelled name.
        names: The existing names.

    Returns:
        Up to three names, separated by commas. If none is similar, the first three.
    """
    names = list(names)
    return ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3])
