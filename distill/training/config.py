"""Defines the settings of a training run, reads them from TOML files, and replaces some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.training.device import Precision
from tinyvit.distill.training.run.toml_files import parse_toml
from tinyvit.errors import RequestError
from tinyvit.files.file_io import read_text
from tinyvit.serialization import parse_dataclass

MAX_CONFIG_BYTES = 2**20
"""Largest size of a settings file. A larger file is refused before it is read."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run.

    Learning rates are for 512 images per step, and are scaled in proportion to `batch`.

    Attributes:
        preset: Name of the preset that the settings are based on.
        epochs: Number of epochs. An epoch uses every view of every image once, except the views of
            an incomplete last batch.
        batch: Images per step, in all processes together.
        accumulation: Number of parts into which every process divides its images of a step. The
            gradients of the parts are added, so that only one part must fit into memory. "auto"
            is the smallest number that fits.
        checkpoint_activations: Whether activations of blocks are computed again in the backward
            pass, which needs less memory and more time, see `activation_checkpointing`.
        lr: Learning rate at which the cosine begins in step 0, and which the warm-up rises to, see
            `optimizer.compute_learning_rate`.
        warmup_lr: Learning rate of the first step of the warm-up.
        min_lr: Learning rate to which the rate falls until the end of the last epoch.
        warmup_epochs: Duration of the linear warm-up in epochs; 0 starts with `lr`.
        weight_decay: AdamW's weight decay.
        layer_decay: Learning rate of a block divided by the learning rate of the next block, see
            `optimizer.compute_learning_rate_factor`. With 1, all blocks have the same rate.
        drop_path: Stochastic-depth rate of the last block. "paper" selects the rate that the
            paper uses for the preset and the variant, see `presets.select_drop_path_rate`.
        ema_decay: Decay of the exponential moving average of the weights; 0 turns it off.
        label_smoothing: Label smoothing of the cross-entropy.
        label_weight: Weight of the cross-entropy with class labels in the loss of a run that also
            learns from a store. 0 means that the student learns only from the teacher.
        max_grad_norm: Largest norm of the gradient. A longer gradient is scaled to this norm; 0
            turns scaling off.
        frozen_batchnorm: Whether BatchNorm layers stay in eval mode, so that their running
            statistics do not change.
        new_class_rows: Initial weights of the classifier for a class that the checkpoint lacks:
            "random", or "mean" for the mean of the rows that come from the checkpoint (see
            `new_class_rows.fill_new_class_rows`).
        freeze: Which weights stay as they are: "none", or "backbone" for all but the classifier's,
            see `freezing`.
        balance: Whether every epoch uses every class equally often, see
            `sample_order.draw_balanced`.
        val_split: Share of the images of each class that is held out for validation if there are
            no other validation images, see `validation_split`; 0 trains on all images.
        patience: Number of epochs without a better accuracy on the validation images after which a
            run ends; 0 trains for all epochs.
        seed: Seed of new weights, of the choice of validation images, of the order of images, of
            stochastic depth and, in a run without a store, of the views (augmented versions of the
            images).
        precision: "auto", "float32" or "bfloat16", see `device.Precision`.
        augmentation: The augmentation of a run without a store. With a store, the views must be
            those that the teacher saw, so the augmentation of the store is used instead.
    """

    preset: str
    epochs: int = 300
    batch: int = 1024
    accumulation: int | Literal["auto"] = "auto"
    checkpoint_activations: bool = False
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
    new_class_rows: Literal["random", "mean"] = "random"
    freeze: Literal["none", "backbone"] = "none"
    balance: bool = False
    val_split: float = 0.0
    patience: int = 0
    seed: int = 0
    precision: Precision = "auto"
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        limits_met = {
            "epochs must be at least 1": self.epochs >= 1,
            "batch must be at least 2": self.batch >= 2,
            'accumulation must be "auto" or at least 1': (
                self.accumulation == "auto" or self.accumulation >= 1
            ),
            "min_lr must be between 0 and lr": 0 <= self.min_lr <= self.lr,
            "warmup_lr must be between 0 and lr": 0 <= self.warmup_lr <= self.lr,
            "warmup_epochs must not be negative": self.warmup_epochs >= 0,
            "layer_decay must be above 0 and at most 1": 0 < self.layer_decay <= 1,
            'drop_path must be "paper", or at least 0 and below 1': (
                self.drop_path == "paper" or 0 <= self.drop_path < 1
            ),
            "ema_decay must be at least 0 and below 1": 0 <= self.ema_decay < 1,
            "label_smoothing must be at least 0 and below 1": 0 <= self.label_smoothing < 1,
            "label_weight must not be negative": self.label_weight >= 0,
            "max_grad_norm must not be negative": self.max_grad_norm >= 0,
            "weight_decay must not be negative": self.weight_decay >= 0,
            "val_split must be at least 0 and below 1": 0 <= self.val_split < 1,
            "patience must not be negative": self.patience >= 0,
        }
        for limit, is_met in limits_met.items():
            if not is_met:
                name = limit.partition(" ")[0]
                raise RequestError(
                    f"the training settings are not valid: {limit} (it is {getattr(self, name)})",
                    f"use another value of {name}",
                )


def apply_overrides(config: TrainingConfig, overrides: Mapping[str, object]) -> TrainingConfig:
    """Return settings with some values replaced.

    Args:
        config: The settings.
        overrides: New values as a TOML file would state them. The key of a setting is its name,
            with the prefix "augmentation." for a field of `Augmentation`.

    Raises:
        RequestError: No setting has this name, or a value has a wrong type or is out of range.
    """
    settings = asdict(config)
    known_names = [item.name for item in fields(TrainingConfig)]
    known_names += [f"augmentation.{item.name}" for item in fields(Augmentation)]
    for name, value in overrides.items():
        if name not in known_names:
            raise RequestError(
                f"no setting is called {name!r}", f"use one of {', '.join(known_names)}"
            )
        table_name, dot, setting = name.partition(".")
        if not dot:
            settings[name] = value
        elif isinstance(settings[table_name], dict):
            settings[table_name][setting] = value
        # Otherwise, an earlier override replaced the table by a value that is refused below.
    return _parse_settings(settings, "the settings")


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
        return name.strip(), parse_toml(f"value = {value}")["value"]
    except ValueError as error:  # TOMLDecodeError is a ValueError
        raise RequestError(
            f"--set {text!r} cannot be parsed ({error})",
            "use NAME=VALUE with a TOML value, such as lr=1e-3",
        ) from error


def read_config(path: Path) -> TrainingConfig:
    """Read settings from the table [training] of a TOML file, such as the run.toml of a run.

    Args:
        path: The file.

    Raises:
        RequestError: The file cannot be read, or its settings are not valid.
    """
    try:
        table = parse_toml(read_text(path, MAX_CONFIG_BYTES))["training"]
    except OSError as error:
        raise RequestError(
            f"the settings file {path} cannot be read ({error.strerror})",
            "use --config with the path of a TOML file",
        ) from error
    except (ValueError, KeyError) as error:
        raise RequestError(
            f"{path} cannot be parsed ({error})", "use a TOML file with a table [training]"
        ) from error
    return _parse_settings(table, str(path))


def _parse_settings(table: dict[str, Any], source: str) -> TrainingConfig:
    """Convert the table [training] to settings; errors state that the table is from `source`."""
    try:
        return parse_dataclass(TrainingConfig, table)
    except ValueError as error:
        raise RequestError(
            f"{source} cannot be used: {error}",
            "use values of the same types as in the run.toml of a run",
        ) from error
