"""What a training run does, as data: named presets, a TOML file, and what a command changes of them.

The paper's presets are those of microsoft/Cream (TinyViT/config.py and TinyViT/configs); "transfer" and "qat" are this project's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from tinyvit.distill.augmentation.views import Augmentation
from tinyvit.distill.training import toml_files as toml
from tinyvit.errors import RequestError
from tinyvit.serialization import parse_dataclass
from tinyvit.variants import Variant

MAX_BYTES = 2**20


@dataclass(frozen=True)
class TrainingConfig:
    """epochs: over all pictures. batch: pictures a step, of all processes together. lr, warmup_lr, min_lr: for 512 pictures a step.
    layer_decay: see `optimizer.layer_scale`. drop_path: of the last block, "paper" for `drop_path_of`. average: decay of the running
    average of the weights, 0 for none. label_weight: of the labels' loss beside a teacher's. clip: largest norm of the gradient, 0 for
    any. frozen_norm: BatchNorm keeps the statistics that it has. augmentation: where there is no store, whose own rules otherwise."""

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
    average: float = 0.0
    label_smoothing: float = 0.1
    label_weight: float = 0.0
    clip: float = 5.0
    frozen_norm: bool = False
    seed: int = 0
    precision: str = "auto"
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        sound = (
            self.epochs >= 1
            and self.batch >= 2
            and 0 <= self.min_lr <= self.lr
            and 0 <= self.warmup_lr <= self.lr
            and self.warmup_epochs >= 0
            and 0 < self.layer_decay <= 1
            and (self.drop_path == "paper" or 0 <= self.drop_path < 1)
            and 0 <= self.average < 1
            and 0 <= self.label_smoothing < 1
            and min(self.label_weight, self.clip, self.weight_decay) >= 0
            and self.precision in ("auto", "float32", "bfloat16")
        )
        if not sound:
            raise RequestError("the settings are not possible", f"check the ranges: {self}")


_FINE = TrainingConfig(
    "finetune-1k",
    30,
    lr=2.5e-4,
    min_lr=1e-5,
    warmup_epochs=5,
    weight_decay=1e-8,
    layer_decay=0.8,
    frozen_norm=True,
)
_LARGER = replace(_FINE, lr=2e-5, warmup_lr=2e-8, min_lr=2e-7, layer_decay=1.0)

PRESETS: dict[str, TrainingConfig] = {
    each.preset: each
    for each in (
        TrainingConfig("scratch-1k", augmentation=Augmentation(mixup=0.8, cutmix=1.0)),
        TrainingConfig("pretrain-22k", epochs=90, lr=2.5e-4, warmup_epochs=5, weight_decay=0.01),
        _FINE,
        replace(_LARGER, preset="finetune-384"),
        replace(_LARGER, preset="finetune-512"),
        TrainingConfig(
            "transfer",
            epochs=30,
            batch=64,
            lr=4e-3,
            min_lr=1e-5,
            warmup_epochs=2,
            weight_decay=0.05,
            layer_decay=0.8,
            average=0.99,
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
            average=0.99,
        ),
    )
}


_DROP_PATH = {
    "scratch-1k": {"11m": 0.1, "21m": 0.2},
    **{
        name: {"21m": 0.1}
        for name in ("pretrain-22k", "finetune-1k", "finetune-384", "finetune-512")
    },
}


def drop_path_of(settings: TrainingConfig, variant: Variant) -> float:
    """DROP_PATH_RATE of the paper's configuration for this preset and variant, where the settings do not say another."""
    if settings.drop_path != "paper":
        return settings.drop_path
    return next(
        (
            rate
            for size, rate in _DROP_PATH.get(settings.preset, {}).items()
            if f"_{size}_" in variant.name
        ),
        0.0,
    )


def preset_for(initialized: bool, stored: bool, qat: bool = False) -> str:
    """What a run takes that names none: the recipe of the paper for its case."""
    if qat:
        return "qat"
    if initialized:
        return "finetune-1k" if stored else "transfer"
    return "pretrain-22k" if stored else "scratch-1k"


def preset(name: str) -> TrainingConfig:
    """Raises RequestError with the names there are."""
    if name not in PRESETS:
        raise RequestError(f"no preset is called {name!r}", f"there are {', '.join(PRESETS)}")
    return PRESETS[name]


def apply_overrides(settings: TrainingConfig, changes: Mapping[str, object]) -> TrainingConfig:
    """With "name" or "augmentation.name" set, values as in TOML. Raises RequestError for names and types that do not exist."""
    data = asdict(settings)
    for name, value in changes.items():
        table: Any = data
        *path, last = name.split(".")
        for part in path:
            table = table.get(part) if isinstance(table, dict) else None
        if not isinstance(table, dict) or last not in table:
            known = [f.name for f in fields(TrainingConfig)] + [
                f"augmentation.{f.name}" for f in fields(Augmentation)
            ]
            raise RequestError(f"no setting is called {name!r}", f"there are {', '.join(known)}")
        table[last] = value
    return _from(data, "the settings")


def parse_assignment(text: str) -> tuple[str, object]:
    """ "lr=1e-3" -> ("lr", 0.001). Raises RequestError for what is no assignment of a TOML value."""
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError("no =")
        return name.strip(), toml.loads(f"x = {value}")["x"]
    except ValueError as error:  # TOMLDecodeError is one
        raise RequestError(
            f"--set {text!r} is not understood ({error})",
            "give NAME=VALUE as in TOML, such as lr=1e-3",
        ) from error


def read_config(path: Path) -> TrainingConfig:
    """Of a file that a run wrote, or alike: the table [training]. Raises RequestError where it is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        table = toml.loads(path.read_text(encoding="utf-8"))["training"]
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror})", "check --config") from error
    except (ValueError, KeyError) as error:
        raise RequestError(
            f"{path} is not understood ({error})", "give a TOML file with a table [training]"
        ) from error
    return _from(table, str(path))


def _from(data: dict[str, Any], where: str) -> TrainingConfig:
    """TOML's lists and whole numbers are taken for tuples and floats."""
    try:
        plain = dict(data)
        if isinstance(plain.get("augmentation"), dict):
            plain["augmentation"] = {
                name: list(x) if isinstance(x, tuple) else x
                for name, x in plain["augmentation"].items()
            }
        return parse_dataclass(TrainingConfig, plain)
    except ValueError as error:
        raise RequestError(
            f"{where} cannot be used: {error}",
            "give values of the types that a run's run.toml shows",
        ) from error


def with_defaults(
    settings: TrainingConfig, epochs: int | None, batch: int | None, lr: float | None
) -> TrainingConfig:
    """What a command's own options say, where they say something."""
    given = {
        name: value
        for name, value in (("epochs", epochs), ("batch", batch), ("lr", lr))
        if value is not None
    }
    return replace(settings, **given)  # type: ignore[arg-type]
