"""Records the history of a training run in TensorBoard event files and in a chart."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvit.errors import MissingDependencyError
from tinyvit.files.file_io import name_file_in_errors, write_atomically

_LOSS_COLOR, _ACCURACY_COLOR = "#b5541c", "#1c6bb5"


@dataclass(frozen=True)
class EpochSummary:
    """The results of one epoch.

    Attributes:
        loss: Mean loss of the steps of the epoch. With several processes, the loss of a step is
            that of the first process's part of the batch.
        learning_rate: Learning rate of the last step of the epoch.
        top1: Top-1 accuracy in percent on the validation images after the epoch; None without
            validation images.
        seconds: Duration of the epoch in seconds, without evaluation.
    """

    loss: float
    learning_rate: float
    top1: float | None
    seconds: float


class TensorBoardLog:
    """Writes the TensorBoard event file of one process; a resumed run adds another file."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Open a new event file.

        Args:
            folder: Folder of the event files.
            first_step: Number of the first step that will be recorded, from 1. If an interrupted
                run recorded this or later steps in an earlier file, TensorBoard hides those events.

        Raises:
            MissingDependencyError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingDependencyError.for_package("tensorboard", extra="train") from error
        self._folder = folder
        # An error in the writer's own thread is raised again by the next call of the writer. So
        # the thread need not print it too.
        self._default_hook = threading.excepthook
        threading.excepthook = self._ignore_writer_errors
        with name_file_in_errors(folder):
            self._writer: Any = SummaryWriter(str(folder), purge_step=first_step)

    def _ignore_writer_errors(self, error: threading.ExceptHookArgs) -> None:
        """Print an error of a thread, unless TensorBoard's thread could not write a file."""
        is_of_writer = type(error.thread).__module__.startswith("tensorboard.")
        if not (is_of_writer and issubclass(error.exc_type, OSError)):
            self._default_hook(error)

    def add_step(self, step: int, loss: float, rate: float) -> None:
        """Record the loss and the learning rate of a step.

        Args:
            step: Number of the step, from 1.
            loss: Loss of the step.
            rate: Learning rate of the step.
        """
        with name_file_in_errors(self._folder):
            self._writer.add_scalar("train/loss", loss, step)
            self._writer.add_scalar("train/learning_rate", rate, step)

    def add_epoch(self, step: int, summary: EpochSummary) -> None:
        """Record the accuracy after an epoch, if it was measured, and write all events to disk.

        Args:
            step: Number of the last step of the epoch.
            summary: Results of the epoch.
        """
        with name_file_in_errors(self._folder):
            if summary.top1 is not None:
                self._writer.add_scalar("val/top1", summary.top1, step)
            self._writer.flush()

    def close(self) -> None:
        """Write pending events and close the file."""
        try:
            with name_file_in_errors(self._folder):
                self._writer.close()
        finally:
            threading.excepthook = self._default_hook


def draw_history(history: Sequence[EpochSummary], path: Path) -> None:
    """Draw a chart of loss and top-1 accuracy over the epochs.

    Args:
        history: The epochs in order.
        path: The PNG file to write.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise MissingDependencyError.for_package("matplotlib", extra="train") from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, len(history) + 1)
    losses = [summary.loss for summary in history]
    axes.plot(epochs, losses, color=_LOSS_COLOR, label="loss, training")
    axes.set(xlabel="epoch", ylabel="loss, training")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    accuracies = [
        (epoch, summary.top1) for epoch, summary in zip(epochs, history) if summary.top1 is not None
    ]
    if accuracies:
        _draw_accuracies(axes.twinx(), accuracies)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    png = io.BytesIO()
    figure.savefig(png, dpi=150)
    write_atomically(path, png.getvalue())


def _draw_accuracies(axes: Any, accuracies: Sequence[tuple[int, float]]) -> None:
    """Draw a line through the points (epoch, top-1 accuracy in percent); label the best point."""
    epochs, percentages = zip(*accuracies)
    axes.plot(epochs, percentages, color=_ACCURACY_COLOR, label="top-1, validation")
    axes.set_ylabel("top-1, validation (%)")
    axes.spines[["top"]].set_visible(False)
    best_accuracy = max(percentages)
    best_epoch = epochs[percentages.index(best_accuracy)]
    axes.annotate(
        f"{best_accuracy:.1f}%",
        (best_epoch, best_accuracy),
        textcoords="offset points",
        xytext=(0, -14),
        ha="center",
        color=_ACCURACY_COLOR,
    )
