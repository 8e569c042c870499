"""Reads and writes the output folder of a training run.

The folder contains `run.toml`, which identifies the run by its inputs and settings, `state.pt`,
from which an interrupted run continues if the same command is given again, and the results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from tinyvit.checkpoint_paths import BEST_CHECKPOINT, LAST_CHECKPOINT, RUN_FILE
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.reports.evaluation_files import EVALUATION_FILES
from tinyvit.distill.training.run.comparison import find_differences
from tinyvit.distill.training.run.history import EpochSummary
from tinyvit.distill.training.run.toml_files import format_toml
from tinyvit.errors import RequestError
from tinyvit.files.file_io import explain_os_error, write_atomically
from tinyvit.nn.checkpoints.tensor_files.resumable_state import read_state_file, write_state_file
from tinyvit.serialization import parse_dataclass

STATE_FILE = "state.pt"
RECIPE_FILE = "recipe.json"
CURVES_FILE = "curves.png"
TENSORBOARD_FOLDER = "tensorboard"
TRAINING_FILE = "training_images.txt"
VALIDATION_FILE = "validation_images.txt"
_RESULT_FILES = (
    STATE_FILE,
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    RECIPE_FILE,
    TRAINING_FILE,
    VALIDATION_FILE,
    *EVALUATION_FILES,
)
"""Files of an earlier run that a new run removes, so that nobody takes them for the new results."""

_MAX_NUMBER = 1e12
"""Largest absolute value of a loss, a rate, an accuracy or a duration in a saved state."""

_RUN_FILE_COMMENT = """\
# The request of this run. `tinyvit-distill train --config FILE` reads the table [training].

"""


class Stateful(Protocol):
    """An object with a state that can be saved, such as a module or an optimizer."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for `load_state_dict`."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Restore a state that `state_dict` returned."""
        ...


@dataclass
class TrainingState:
    """The progress of a run.

    Attributes:
        step: Number of finished steps, in all epochs together.
        loss_sum: Sum of the losses of the finished steps in the unfinished epoch.
        best_top1: Top-1 accuracy of the best checkpoint in percent; -1 before the first evaluation.
        seconds: Time that was spent on the unfinished epoch before the run was interrupted.
        accumulation: Number of parts into which every process divides its share of a batch. It is
            saved, because a resumed run may find less memory.
        history: Results of the finished epochs, in order.
    """

    step: int = 0
    loss_sum: float = 0.0
    best_top1: float = -1.0
    seconds: float = 0.0
    accumulation: int = 1
    history: list[EpochSummary] = field(default_factory=list)


def open_run_folder(
    folder: Path, description: Mapping[str, Any], config: TrainingConfig, overwrite: bool
) -> None:
    """Start a new run in a folder, or check that the run in the folder is the requested one.

    A run is the requested one if its run.toml has the same values, except that the request may have
    more epochs or another patience, which are then written to run.toml. With `overwrite`, a new run
    is always started.

    Args:
        folder: The folder of the run.
        description: The table [run] of run.toml, which identifies the run together with its
            settings.
        config: The training settings, which become the table [training] of run.toml.
        overwrite: Whether a run in the folder is replaced, even the requested one.

    Raises:
        RequestError: Without `overwrite`, the folder contains a different run, a damaged run.toml,
            or results without a run.toml.
    """
    tables = {"run": dict(description), "training": asdict(config)}
    text = _RUN_FILE_COMMENT + format_toml(tables)
    path = folder / RUN_FILE
    if path.exists() and not overwrite:
        differences = find_differences(path, text)
        if differences:
            raise RequestError(
                f"{folder} contains a different run, with another value of "
                f"{' and of '.join(differences)}",
                "use -o with a new folder, or --overwrite to replace that run",
            )
        write_atomically(path, text)
        return
    existing_files = [name for name in _RESULT_FILES if (folder / name).exists()]
    if existing_files and not overwrite:
        raise RequestError(
            f"{folder} contains {', '.join(existing_files)}, but no {RUN_FILE}, so it is unknown "
            "which run wrote them",
            "use -o with a new folder, or --overwrite to replace them",
        )
    for name in existing_files:
        (folder / name).unlink()
    write_atomically(path, text)


def save_state(folder: Path, state: TrainingState, parts: Mapping[str, Stateful]) -> None:
    """Save everything that the next step depends on.

    If saving fails, a file that was saved before stays as it is.

    Args:
        folder: The folder of the run.
        state: The progress of the run.
        parts: The network, the optimizer and the average of the weights, by name.
    """
    content = {"progress": asdict(state)}
    content.update({name: part.state_dict() for name, part in parts.items()})
    write_state_file(folder / STATE_FILE, content)


def load_state(
    folder: Path, parts: Mapping[str, Stateful], device: str, steps_per_epoch: int, epochs: int
) -> TrainingState:
    """Restore a state that `save_state` saved.

    Args:
        folder: The folder of the run.
        parts: The objects to restore, by name.
        device: torch's name of the device of the objects, for messages.
        steps_per_epoch: Number of steps per epoch of the run.
        epochs: Number of epochs of the run.

    Raises:
        RequestError: The file is damaged or cannot be read, is the state of another run, or the
            memory is too small for it.
    """
    path = folder / STATE_FILE
    try:
        content = read_state_file(path)
        progress = _parse_progress(content["progress"], steps_per_epoch, epochs)
        for name, part in parts.items():
            _restore_part(part, content[name])
        return progress
    except OSError as error:
        reason, remedy = explain_os_error(error)
        raise RequestError(f"{path} cannot be read ({reason})", remedy) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RequestError(
            f"{path} does not fit into the free memory of {device}",
            "end other programs that use this memory, and give the same command again",
        ) from error
    except Exception as error:  # torch's exceptions for damaged states have no common base class
        raise RequestError(
            f"{path} is damaged ({type(error).__name__})", "use --overwrite to start the run again"
        ) from error


def _parse_progress(data: Mapping[str, Any], steps_per_epoch: int, epochs: int) -> TrainingState:
    """Convert the progress in a file; raise ValueError if a run of this length cannot have it."""
    values = dict(data)
    summaries = values.pop("history")
    if len(summaries) > epochs:
        raise ValueError("it has too many epochs")
    history = [parse_dataclass(EpochSummary, summary) for summary in summaries]
    state = replace(parse_dataclass(TrainingState, values), history=history)
    first_step = len(history) * steps_per_epoch
    last_step = min(first_step + steps_per_epoch, epochs * steps_per_epoch)
    numbers = [state.loss_sum, state.best_top1, state.seconds]
    for summary in history:
        numbers += [summary.loss, summary.learning_rate, summary.top1 or 0, summary.seconds]
    if not first_step <= state.step <= last_step or not all(
        abs(number) <= _MAX_NUMBER for number in numbers
    ):
        raise ValueError("its numbers are not possible")
    return state


def _restore_part(part: Stateful, content: dict[str, Any]) -> None:
    """Restore an object; raise an error if the content is not that of an equal object."""
    if not isinstance(part, torch.optim.Optimizer):
        part.load_state_dict(content)
        return
    settings = _list_settings(part)
    part.load_state_dict(content)
    # Optimizers accept any content, and fail at the next step.
    if _list_settings(part) != settings:
        raise ValueError("the optimizer has other settings")
    for parameter, values in part.state.items():
        names = {name: tuple(value.shape) for name, value in values.items()}
        shape = tuple(parameter.shape)
        if names != {"step": (), "exp_avg": shape, "exp_avg_sq": shape}:
            raise ValueError("the optimizer has another state")


def _list_settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the settings of the groups of parameters, except the rate, which each step sets."""
    return [
        {name: value for name, value in group.items() if name not in ("params", "lr")}
        for group in optimizer.param_groups
    ]
