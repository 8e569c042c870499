"""Named training presets.

The presets "transfer" and "qat" are this project's. The others are the paper's (microsoft/Cream,
TinyViT/config.py and TinyViT/configs).
"""

from __future__ import annotations

from dataclasses import replace

from tinyvit.distill.augmentation.views import Augmentation
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.errors import RequestError
from tinyvit.variants import Variant

_FINETUNE_1K = TrainingConfig(
    "finetune-1k",
    epochs=30,
    lr=2.5e-4,
    min_lr=1e-5,
    warmup_epochs=5,
    weight_decay=1e-8,
    layer_decay=0.8,
    frozen_batchnorm=True,
)
_FINETUNE_384 = replace(
    _FINETUNE_1K, preset="finetune-384", lr=2e-5, warmup_lr=2e-8, min_lr=2e-7, layer_decay=1.0
)
_ALL_PRESETS = (
    TrainingConfig("scratch-1k", augmentation=Augmentation(mixup=0.8, cutmix=1.0)),
    TrainingConfig("pretrain-22k", epochs=90, lr=2.5e-4, warmup_epochs=5, weight_decay=0.01),
    _FINETUNE_1K,
    _FINETUNE_384,
    replace(_FINETUNE_384, preset="finetune-512"),
    TrainingConfig(
        "transfer",
        epochs=30,
        batch=64,
        lr=4e-3,
        min_lr=1e-5,
        warmup_epochs=2,
        weight_decay=0.05,
        layer_decay=0.8,
        ema_decay=0.99,
        augmentation=Augmentation(scale=(0.3, 1.0)),
    ),
    TrainingConfig(
        "qat",
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

_PRETRAINED_DROP_PATH = {"21m": 0.1}
_DROP_PATH_RATES = {
    "scratch-1k": {"11m": 0.1, "21m": 0.2},
    "pretrain-22k": _PRETRAINED_DROP_PATH,
    "finetune-1k": _PRETRAINED_DROP_PATH,
    "finetune-384": _PRETRAINED_DROP_PATH,
    "finetune-512": _PRETRAINED_DROP_PATH,
}


def get_preset(name: str) -> TrainingConfig:
    """Return a preset.

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

    Args:
        has_init: Whether the initial weights are those of a checkpoint.
        has_store: Whether the run learns from saved teacher outputs.
        is_qat: Whether this is quantization-aware training.

    Returns:
        Name of the preset.
    """
    if is_qat:
        return "qat"
    if has_init:
        return "finetune-1k" if has_store else "transfer"
    return "pretrain-22k" if has_store else "scratch-1k"


def select_drop_path_rate(config: TrainingConfig, variant: Variant) -> float:
    """Return the drop-path (stochastic-depth) rate of a run.

    Args:
        config: The training settings.
        variant: The architecture.

    Returns:
        `config.drop_path`, or for "paper" the DROP_PATH_RATE in the paper's configuration file of
        this preset and variant (microsoft/Cream, TinyViT/configs).
    """
    if config.drop_path != "paper":
        return config.drop_path
    rates = _DROP_PATH_RATES.get(config.preset, {})
    return next((rate for size, rate in rates.items() if f"_{size}_" in variant.name), 0.0)
