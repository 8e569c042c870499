"""Defines named presets of training settings.

The presets "transfer", "finetune-logits" and "qat" are this project's. The others have the paper's
settings, from TinyViT/config.py and TinyViT/configs in the repository microsoft/Cream.
"""

from __future__ import annotations

from dataclasses import replace

from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.errors import RequestError
from tinyvit.variants import Variant

_FINETUNE_1K = TrainingConfig(
    preset="finetune-1k",
    epochs=30,
    lr=2.5e-4,
    min_lr=1e-5,
    warmup_epochs=5,
    weight_decay=1e-8,
    layer_decay=0.8,
    frozen_batchnorm=True,
    new_class_rows="mean",
)
_FINETUNE_384 = replace(
    _FINETUNE_1K, preset="finetune-384", lr=2e-5, warmup_lr=2e-8, min_lr=2e-7, layer_decay=1.0
)
_ALL_PRESETS = (
    TrainingConfig(preset="scratch-1k", augmentation=Augmentation(mixup=0.8, cutmix=1.0)),
    TrainingConfig(
        preset="pretrain-22k",
        epochs=90,
        batch=4096,
        lr=2.5e-4,
        warmup_epochs=5,
        weight_decay=0.01,
    ),
    _FINETUNE_1K,
    _FINETUNE_384,
    replace(_FINETUNE_384, preset="finetune-512"),
    replace(_FINETUNE_1K, preset="finetune-logits", new_class_rows="random"),
    TrainingConfig(
        preset="transfer",
        epochs=40,
        batch=64,
        lr=8e-3,
        min_lr=1e-5,
        warmup_epochs=2,
        weight_decay=0.05,
        layer_decay=0.8,
        ema_decay=0.99,
        val_split=0.2,
        augmentation=Augmentation(scale=(0.3, 1.0), operations=1, erase=0.1),
    ),
    TrainingConfig(
        preset="qat",
        epochs=2,
        batch=32,
        lr=3e-4,
        warmup_lr=0.0,
        min_lr=3e-6,
        warmup_epochs=0.1,
        weight_decay=0.0,
        ema_decay=0.99,
    ),
)

PRESETS: dict[str, TrainingConfig] = {config.preset: config for config in _ALL_PRESETS}
"""The presets by name."""

MAX_WARMUP_SHARE = 0.25
"""Largest share of a run that the warm-up of its preset may take. It is at most a sixth in every
preset itself."""

LABEL_PRESETS = frozenset({"scratch-1k", "finetune-1k", "finetune-384", "finetune-512"})
"""The presets of those of the paper's runs that learn from class labels only."""

_IMAGE_SIZES = {"finetune-384": 384, "finetune-512": 512}
"""Image sizes in pixels of the presets for fine-tuning at a larger size."""

_DROP_PATH_RATES = {
    "scratch-1k": {"11m": 0.1, "21m": 0.2},
    "pretrain-22k": {"21m": 0.1},
    "finetune-1k": {"21m": 0.1},
    "finetune-384": {"21m": 0.1},
    "finetune-512": {"21m": 0.1},
    "finetune-logits": {"21m": 0.1},
}
"""The paper's drop-path rates by preset and size of the variant; all others are 0. The preset
"finetune-logits" has those of "finetune-1k"."""


def get_preset(name: str) -> TrainingConfig:
    """Return the settings of a preset.

    Args:
        name: Name of the preset.

    Raises:
        RequestError: No preset has this name.
    """
    if name not in PRESETS:
        raise RequestError(f"no preset is called {name!r}", f"use one of {', '.join(PRESETS)}")
    return PRESETS[name]


def choose_preset(has_init: bool, has_store: bool, is_qat: bool = False) -> str:
    """Choose the default preset of a run.

    The paper fine-tunes with class labels only, and only on ImageNet-1k. So none of its presets for
    fine-tuning is a default.

    Args:
        has_init: Whether the initial weights are those of a checkpoint.
        has_store: Whether the run learns from saved teacher predictions.
        is_qat: Whether this is quantization-aware training.

    Returns:
        Name of the preset.
    """
    if is_qat:
        return "qat"
    if has_init:
        return "finetune-logits" if has_store else "transfer"
    return "pretrain-22k" if has_store else "scratch-1k"


def select_image_size(preset: str, requested_size: int | None) -> int | None:
    """Return the image size of a run.

    Args:
        preset: Name of the preset.
        requested_size: Image size in pixels that the user requested; None if there was no request.

    Returns:
        `requested_size`, or else the size that the preset is for. None if both are missing, so that
        the size of the checkpoint or variant applies.
    """
    return requested_size or _IMAGE_SIZES.get(preset)


def select_drop_path_rate(config: TrainingConfig, variant: Variant) -> float:
    """Return the drop-path (stochastic-depth) rate of a run.

    Args:
        config: The training settings.
        variant: The TinyViT variant, such as tiny_vit_21m_224.

    Returns:
        `config.drop_path` if it is a number. If it is "paper", the DROP_PATH_RATE in the paper's
        configuration file of this preset and variant (microsoft/Cream, TinyViT/configs). The preset
        "finetune-logits" has the rate of "finetune-1k", and "transfer" and "qat" have the rate 0.
    """
    if config.drop_path != "paper":
        return config.drop_path
    for size, rate in _DROP_PATH_RATES.get(config.preset, {}).items():
        if f"_{size}_" in variant.name:
            return rate
    return 0.0


def scale_warmup(config: TrainingConfig) -> TrainingConfig:
    """Shorten the warm-up of a run that is much shorter than its preset.

    In such a run, the learning rate would otherwise never reach its peak, or only at its end.

    Args:
        config: Settings, with the warm-up of the preset.

    Returns:
        Settings whose warm-up takes the same share of all epochs as in the preset, if the warm-up
        of the preset would take more than a quarter of them. Otherwise `config` itself.
    """
    preset = PRESETS.get(config.preset)
    if preset is None or config.warmup_epochs <= MAX_WARMUP_SHARE * config.epochs:
        return config
    share = preset.warmup_epochs / preset.epochs
    return replace(config, warmup_epochs=round(share * config.epochs, 4))


def describe_scaled_warmup(config: TrainingConfig) -> list[str]:
    """Return the message about a warm-up that `scale_warmup` shortened, as the only item, or [].

    Args:
        config: The settings of the run.
    """
    preset = PRESETS.get(config.preset)
    if preset is None or config.warmup_epochs == preset.warmup_epochs:
        return []
    if config != scale_warmup(replace(config, warmup_epochs=preset.warmup_epochs)):
        return []  # The user has chosen this warm-up.
    return [
        f"the learning rate rises during the first {config.warmup_epochs:g} epochs,"
        f" instead of the {preset.warmup_epochs:g} of {preset.epochs} epochs of the preset, because"
        " the run is short (--set warmup_epochs=N changes that)"
    ]
