"""A run's folder: what it was asked (`run.toml`), where it is (`state.pt`), and what it made. The same request goes on from the state."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from tinyvit.distill.training import toml_files as toml
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.curves import EpochSummary
from tinyvit.errors import RequestError
from tinyvit.files import publish_files, staging_folder, write_atomically

RUN, STATE = "run.toml", "state.pt"
BEST, LAST, RECIPE, CURVES, BOARD = (
    "best.safetensors",
    "last.safetensors",
    "recipe.json",
    "curves.png",
    "tensorboard",
)
REPLACED = (STATE, BEST, LAST, RECIPE)
"""What a run that begins removes: it would be taken for its own."""


@dataclass
class TrainingProgress:
    """step: steps done of all. loss: sum over those of the unfinished epoch. best: top-1 in percent of best.safetensors, -1 before.
    history: finished epochs. seconds: spent in the unfinished epoch before this process."""

    step: int = 0
    loss: float = 0.0
    best: float = -1.0
    seconds: float = 0.0
    history: list[EpochSummary] = field(default_factory=list)


def open_run_folder(
    folder: Path, about: dict[str, Any], settings: TrainingConfig, overwrite: bool
) -> None:
    """Write the request down; a state that the folder has then is one of the same, to go on from. Raises RequestError where it has
    another's."""
    text = _toml(about, settings)
    path = folder / RUN
    if path.exists() and not overwrite:
        differing = _differing(path, text)
        if differing:
            raise RequestError(
                f"{folder} holds another run ({', '.join(differing)} differ)",
                "give -o a new folder, or --overwrite to begin again",
            )
        return
    there = [name for name in REPLACED if (folder / name).exists()]
    if there and not overwrite:
        raise RequestError(
            f"{folder} holds {', '.join(there)} of no run that it tells of",
            "give -o a new folder, or --overwrite",
        )
    for name in there:
        (folder / name).unlink()
    write_atomically(path, text)


def _differing(path: Path, text: str) -> list[str]:
    try:
        there, here = toml.loads(path.read_text(encoding="utf-8")), toml.loads(text)
    except ValueError as error:
        raise RequestError(
            f"{path} is damaged ({error})", "give -o a new folder, or --overwrite to begin again"
        ) from error
    return sorted(
        f"{table}.{name}"
        for table in here
        for name in here[table].keys() | there.get(table, {}).keys()
        if here[table].get(name) != there.get(table, {}).get(name)
    )


def _toml(about: dict[str, Any], settings: TrainingConfig) -> str:
    head = "# What this run was asked. tinyvit-distill train --config FILE takes the table [training] of such a file.\n\n"
    return head + toml.dumps({"run": about, "training": asdict(settings)})


def save_state(folder: Path, progress: TrainingProgress, parts: dict[str, Any]) -> None:
    """Everything that the next step depends on, whole or not at all."""
    kept = {
        "progress": {**asdict(progress), "history": [asdict(epoch) for epoch in progress.history]},
        **{name: part.state_dict() for name, part in parts.items()},
    }
    path = folder / STATE
    with staging_folder(path) as staged:
        torch.save(kept, staged / STATE)
        publish_files([staged / STATE], folder)


def load_state(folder: Path, parts: dict[str, Any], device: str) -> TrainingProgress:
    """Put back what `save_state` kept. Raises RequestError where the file is damaged."""
    path = folder / STATE
    try:
        kept = torch.load(path, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(kept[name])
        said = kept["progress"]
        return TrainingProgress(
            **{**said, "history": [EpochSummary(**epoch) for epoch in said["history"]]}
        )
    except Exception as error:  # torch's for a damaged file have no base of their own
        raise RequestError(
            f"{path} is damaged ({type(error).__name__})", "--overwrite begins the run again"
        ) from error
