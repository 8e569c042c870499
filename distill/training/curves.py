"""A run's history for people: TensorBoard's files and a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvit.errors import MissingDependencyError
from tinyvit.files import write_atomically


@dataclass(frozen=True)
class EpochSummary:
    """One epoch: mean loss of its steps, learning rate at its end, top-1 in percent, None where nothing validates, and its seconds."""

    loss: float
    rate: float
    top1: float | None
    seconds: float


class TensorBoardLog:
    """TensorBoard's event files, from `step`, the next to be done, on: what an interrupted run wrote after its last state is hidden."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingDependencyError.of("tensorboard", "train") from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=step)

    def step(self, step: int, loss: float, rate: float) -> None:
        """After one step."""
        self._writer.add_scalar("train/loss", loss, step)
        self._writer.add_scalar("train/learning_rate", rate, step)

    def epoch(self, step: int, found: EpochSummary) -> None:
        """After one epoch."""
        if found.top1 is not None:
            self._writer.add_scalar("val/top1", found.top1, step)
        self._writer.flush()

    def close(self) -> None:
        """Write what waits."""
        self._writer.close()


def draw(history: Sequence[EpochSummary], path: Path) -> None:
    """Loss and top-1 by epoch, as a PNG."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise MissingDependencyError.of("matplotlib", "train") from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, len(history) + 1)
    axes.plot(epochs, [each.loss for each in history], color="#b5541c", label="loss, training")
    axes.set(xlabel="epoch", ylabel="loss, training")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    known = [(epoch, each.top1) for epoch, each in zip(epochs, history) if each.top1 is not None]
    if known:
        right = axes.twinx()
        right.plot(*zip(*known), color="#1c6bb5", label="top-1, validation")
        right.set_ylabel("top-1, validation (%)")
        right.spines[["top"]].set_visible(False)
        best = max(known, key=lambda pair: pair[1])
        right.annotate(
            f"{best[1]:.1f}%",
            best,
            textcoords="offset points",
            xytext=(0, -14),
            ha="center",
            color="#1c6bb5",
        )
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150)
    write_atomically(path, drawn.getvalue())
