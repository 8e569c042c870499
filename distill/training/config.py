"""The settings of a training run: their ranges, reading them from TOML, and changing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from tinyvit.distill.augmentation.views import Augmentation
from tinyvit.distill.training import toml_files
from tinyvit.distill.training.device import Precision
from tinyvit.errors import RequestError
from tinyvit.serialization import parse_dataclass

MAX_CONFIG_BYTES = 2**20


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run.

    Learning rates are for 512 images per step, and are scaled in proportion to `batch`.

    Attributes:
        preset: Name of the preset that the settings are based on.
        epochs: Number of passes over all images.
        batch: Images per step, in all processes together.
        lr: Peak learning rate.
        warmup_lr: Learning rate of the first step.
        min_lr: Learning rate at the end.
        warmup_epochs: Duration of the linear warm-up in epochs.
        weight_decay: AdamW's weight decay.
        layer_decay: Factor of the learning rate from one block to the block before it, see
            `optimizer.learning_rate_factor`; 1 turns layer-wise decay off.
        drop_path: Stochastic-depth rate of the last block; "paper" selects the paper's rate for
            the preset and variant, see `presets.select_drop_path_rate`.
        ema_decay: Decay of the exponential moving average of the weights; 0 turns it off.
        label_smoothing: Label smoothing of the cross-entropy.
        label_weight: Weight of the cross-entropy with class labels, which is added to the
            divergence from the teacher. Without a store it has no effect.
        max_grad_norm: Norm that the gradient is clipped to; 0 turns clipping off.
        frozen_batchnorm: Whether BatchNorm layers stay in eval mode, so that their running
            statistics do not change.
        seed: Seed of new weights, the order of images, stochastic depth and, without a store,
            views.
        precision: "auto", "float32" or "bfloat16".
        augmentation: The augmentation. With a store it is not used, because the views must be
            those that the teacher saw.
    """

    preset: str
    epochs: int = 300
    batch: int = 1024
    lr: float = 5e-4
    warmup_lr: float = 5e-7
    min_lr: float = 5e-6
    warmup_epochs: float = 20
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    drop_path: float | Literal["paper"] = "paper"
    ema_decay: float = 0.0
    label_smoothing: float = 0.1
    label_weight: float = 0.0
    max_grad_norm: float = 5.0
    frozen_batchnorm: bool = False
    seed: int = 0
    precision: Precision = "auto"
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        limits = {
            "epochs must be at least 1": self.epochs >= 1,
            "batch must be at least 2": self.batch >= 2,
            "min_lr must be between 0 and lr": 0 <= self.min_lr <= self.lr,
            "warmup_lr must be between 0 and lr": 0 <= self.warmup_lr <= self.lr,
            "warmup_epochs must not be negative": self.warmup_epochs >= 0,
            "layer_decay must be above 0 and at most 1": 0 < self.layer_decay <= 1,
            'drop_path must be "paper", or at least 0 and below 1': self.drop_path == "paper"
            or 0 <= self.drop_path < 1,
            "ema_decay must be at least 0 and below 1": 0 <= self.ema_decay < 1,
            "label_smoothing must be at least 0 and below 1": 0 <= self.label_smoothing < 1,
            "label_weight must not be negative": self.label_weight >= 0,
            "max_grad_norm must not be negative": self.max_grad_norm >= 0,
            "weight_decay must not be negative": self.weight_decay >= 0,
        }
        violated = [limit for limit, is_met in limits.items() if not is_met]
        if violated:
            value = getattr(self, violated[0].partition(" ")[0])
            raise RequestError(
                f"the training settings are not valid: {violated[0]} (it is {value})",
                "give another value",
            )


def apply_overrides(config: TrainingConfig, overrides: Mapping[str, object]) -> TrainingConfig:
    """Return settings with some values replaced.

    Args:
        config: The settings.
        overrides: New values, with the types of TOML, by "name" or "augmentation.name".

    Raises:
        RequestError: A name is not known, or a value has a wrong type or is out of range.
    """
    data = asdict(config)
    for name, value in overrides.items():
        table: Any = data
        *path, last = name.split(".")
        for part in path:
            table = table.get(part) if isinstance(table, dict) else None
        if not isinstance(table, dict) or last not in table:
            known = [item.name for item in fields(TrainingConfig)]
            known += [f"augmentation.{item.name}" for item in fields(Augmentation)]
            raise RequestError(f"no setting is called {name!r}", f"use one of {', '.join(known)}")
        table[last] = value
    return _parse(data, "the settings")


def parse_assignment(text: str) -> tuple[str, object]:
    """Parse an assignment "NAME=VALUE" with a TOML value, such as "lr=1e-3".

    Args:
        text: The assignment.

    Returns:
        (name, value).

    Raises:
        RequestError: The text is not an assignment, or its value is not TOML.
    """
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError("= is missing")
        return name.strip(), toml_files.loads(f"x = {value}")["x"]
    except ValueError as error:  # TOMLDecodeError is a ValueError
        raise RequestError(
            f"--set {text!r} cannot be parsed ({error})",
            "give NAME=VALUE with a TOML value, such as lr=1e-3",
        ) from error


def read_config(path: Path) -> TrainingConfig:
    """Read settings from the table [training] of a TOML file, such as run.toml of another run.

    Args:
        path: The file.

    Raises:
        RequestError: The file cannot be read, or its settings are not valid.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError(f"it is larger than {MAX_CONFIG_BYTES >> 20} MiB")
        table = toml_files.loads(path.read_text(encoding="utf-8"))["training"]
    except OSError as error:
        raise RequestError(
            f"the settings file {path} cannot be read ({error.strerror})",
            "give --config the path of a TOML file",
        ) from error
    except (ValueError, KeyError) as error:
        raise RequestError(
            f"{path} cannot be parsed ({error})", "give a TOML file with a table [training]"
        ) from error
    return _parse(table, str(path))


def _parse(data: dict[str, Any], source: str) -> TrainingConfig:
    """Convert TOML values to settings: lists to tuples, and integers to floats as needed."""
    try:
        table = dict(data)
        if isinstance(table.get("augmentation"), dict):
            table["augmentation"] = {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in table["augmentation"].items()
            }
        return parse_dataclass(TrainingConfig, table)
    except ValueError as error:
        raise RequestError(
            f"{source} cannot be used: {error}",
            "give values of the same types as in the run.toml of a run",
        ) from error
