"""The settings of a training run: their types and limits, TOML files, and changes to them."""

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
    """Settings of a training run. Learning rates are for 512 images in a step.

    Attributes:
        preset: Name of the preset that the settings began from.
        epochs: Passes over all images.
        batch: Images in a step, over all processes.
        lr: Largest learning rate.
        warmup_lr: Learning rate of the first step.
        min_lr: Learning rate at the end.
        warmup_epochs: Epochs of the linear warm-up.
        weight_decay: AdamW's weight decay.
        layer_decay: Layer-wise decay of the learning rate, see `optimizer.layer_scale`.
        drop_path: Probability of skipping the last block's branches; "paper" takes the paper's
            rate for the preset and variant, see `presets.drop_path_rate`.
        ema_decay: Decay of the running average of the weights; 0 turns averaging off.
        label_smoothing: Label smoothing of the cross-entropy.
        label_weight: Weight of the labels' cross-entropy beside a teacher's divergence.
        max_grad_norm: Largest norm of the gradient; 0 does not clip.
        frozen_batchnorm: Whether BatchNorm keeps the statistics that it has.
        seed: Seed of everything that is random.
        precision: "auto", "float32" or "bfloat16".
        augmentation: The augmentation if there is no store, which has its own.
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
            "epochs is at least 1": self.epochs >= 1,
            "batch is at least 2": self.batch >= 2,
            "min_lr is between 0 and lr": 0 <= self.min_lr <= self.lr,
            "warmup_lr is between 0 and lr": 0 <= self.warmup_lr <= self.lr,
            "warmup_epochs is not negative": self.warmup_epochs >= 0,
            "layer_decay is above 0 and at most 1": 0 < self.layer_decay <= 1,
            'drop_path is "paper", or at least 0 and below 1': self.drop_path == "paper"
            or 0 <= self.drop_path < 1,
            "ema_decay is at least 0 and below 1": 0 <= self.ema_decay < 1,
            "label_smoothing is at least 0 and below 1": 0 <= self.label_smoothing < 1,
            "label_weight is not negative": self.label_weight >= 0,
            "max_grad_norm is not negative": self.max_grad_norm >= 0,
            "weight_decay is not negative": self.weight_decay >= 0,
        }
        violated = [limit for limit, is_met in limits.items() if not is_met]
        if violated:
            raise RequestError(
                f"the training settings are not possible: {violated[0]} is not true",
                f"change the value; the settings are {self}",
            )


def apply_overrides(config: TrainingConfig, overrides: Mapping[str, object]) -> TrainingConfig:
    """Change single settings.

    Args:
        config: The settings to begin from.
        overrides: New values, as TOML has them, by "name" or "augmentation.name".

    Raises:
        RequestError: A name or the type of a value is not known, or a value is out of range.
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
    """Parse an assignment of a TOML value, such as "lr=1e-3".

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
            raise ValueError("there is no =")
        return name.strip(), toml_files.loads(f"x = {value}")["x"]
    except ValueError as error:  # TOMLDecodeError is a ValueError
        raise RequestError(
            f"--set {text!r} is not understood ({error})",
            "give NAME=VALUE with a TOML value, such as lr=1e-3",
        ) from error


def read_config(path: Path) -> TrainingConfig:
    """Read the table [training] of a TOML file, such as a run's run.toml.

    Args:
        path: The file.

    Raises:
        RequestError: The file cannot be read or used.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError(f"it is larger than {MAX_CONFIG_BYTES >> 20} MiB")
        table = toml_files.loads(path.read_text(encoding="utf-8"))["training"]
    except OSError as error:
        raise RequestError(
            f"the settings file {path} cannot be read ({error.strerror})", "check --config"
        ) from error
    except (ValueError, KeyError) as error:
        raise RequestError(
            f"{path} is not understood ({error})", "give a TOML file with a table [training]"
        ) from error
    return _parse(table, str(path))


def _parse(data: dict[str, Any], source: str) -> TrainingConfig:
    """Parse settings; lists stand for tuples, and whole numbers for floats."""
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
            "give values of the types that a run's run.toml shows",
        ) from error
