"""A training run: pictures, a student, and a store or labels in; `best.safetensors`, `last.safetensors` and a history out.

The order of pictures, views and dropped branches depends on seed and step alone, so that a run that was stopped and goes on ends as one
that was not; on one process to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tinyvit.distill.training import run_folder as state
from tinyvit.distill.training.config import TrainingConfig, drop_path_of
from tinyvit.distill.training.curves import EpochSummary, TensorBoardLog, draw
from tinyvit.distill.training.data_loader import TrainingBatch, TrainingData, batches, order_of
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.distill.training.distributed import Processes
from tinyvit.distill.training.drop_path import add_drop_path
from tinyvit.distill.training.evaluate import evaluate_model
from tinyvit.distill.training.loss import label_loss, sparse_divergence
from tinyvit.distill.training.optimizer import learning_rate, make_average, make_optimizer, set_rate
from tinyvit.distill.training.run_folder import TrainingProgress
from tinyvit.distill.training.student import Student, save_checkpoint
from tinyvit.errors import RequestError
from tinyvit.files import sha256
from tinyvit.labels import Label
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.validation_data import ValidationSet

KEEP_EVERY_S = 600.0
"""Between two states within an epoch."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class TrainingTask:
    """rows: of the student's classifier, those that the finished model keeps, all where None; labels: theirs. validation: None where
    nothing says which epoch is best: the last is, then. state: of the network that is kept, the weights of a checkpoint. recipe: that
    the network rounds by, saved beside the best checkpoint as its own."""

    folder: Path
    student: Student
    source: TrainingData
    validation: ValidationSet | None
    labels: tuple[Label, ...]
    rows: Sequence[int] | None
    settings: TrainingConfig
    workers: int
    state: Callable[[nn.Module], dict[str, Tensor]] = nn.Module.state_dict
    recipe: Recipe | None = None


class TrainingRun:
    """One process of a run. `model` trains; `kept` is evaluated and saved, its running average where there is one. report: for a line an
    epoch; meter: for one after every step."""

    def __init__(
        self,
        task: TrainingTask,
        device: ComputeDevice,
        processes: Processes,
        report: Report,
        meter: Report | None = None,
    ) -> None:
        settings = task.settings
        if settings.batch % processes.count:
            raise RequestError(
                f"a batch of {settings.batch} does not divide among {processes.count} processes",
                "give another --batch",
            )
        self.steps = len(task.source) // settings.batch
        if self.steps == 0:
            raise RequestError(
                f"{len(task.source)} pictures do not fill a batch of {settings.batch}",
                f"--batch {len(task.source)} or less",
            )
        self.task, self.settings, self.device, self.processes, self.report = (
            task,
            settings,
            device,
            processes,
            report,
        )
        self.meter = meter
        self.model = device.place(task.student.model).train()
        add_drop_path(self.model, drop_path_of(settings, task.student.model.variant))
        self.averaged = make_average(self.model, settings.average) if settings.average else None
        self.optimizer = make_optimizer(self.model, settings)
        self.network: nn.Module = processes.wrap(self.model)
        scale, shift = task.student.preprocess.scale_and_shift()
        self.scale, self.shift = (
            torch.from_numpy(values).to(device.name) for values in (scale, shift)
        )
        self.progress = TrainingProgress()

    @property
    def parts(self) -> dict[str, Any]:
        """What a state is made of."""
        parts = {"model": self.model, "optimizer": self.optimizer}
        return {**parts, "average": self.averaged} if self.averaged else parts

    @property
    def kept(self) -> nn.Module:
        """The network that is evaluated and saved."""
        return self.averaged.module if self.averaged else self.model

    def run(self, resume: bool) -> TrainingProgress:
        """All epochs, or those that are left."""
        if resume:
            self.progress = state.load_state(self.task.folder, self.parts, self.device.name)
            self.report(
                f"going on at step {self.progress.step} of {self.steps * self.settings.epochs}"
            )
        board = (
            TensorBoardLog(self.task.folder / state.BOARD, self.progress.step + 1)
            if self.processes.first
            else None
        )
        try:
            for epoch in range(len(self.progress.history), self.settings.epochs):
                self._epoch(epoch, board)
        finally:
            if board:
                board.close()
        return self.progress

    def _epoch(self, epoch: int, board: TensorBoardLog | None) -> None:
        progress, begun = self.progress, time.perf_counter()
        done, kept_at = progress.step - epoch * self.steps, begun
        order = order_of(self.settings.seed, epoch, len(self.task.source))[
            : self.steps * self.settings.batch
        ]
        mine = order.reshape(self.steps, self.processes.count, -1)[
            done:, self.processes.rank
        ].reshape(-1)
        self._training()
        for batch in batches(
            self.task.source,
            epoch,
            mine,
            self.settings.batch // self.processes.count,
            self.task.workers,
        ):
            rate = learning_rate(self.settings, progress.step, self.steps, self.settings.batch)
            loss = self.step(batch, rate)
            progress.step, progress.loss = progress.step + 1, progress.loss + loss
            if board:
                board.step(progress.step, loss, rate)
            if self.meter:
                self.meter(
                    f"epoch {epoch + 1}: step {progress.step - epoch * self.steps} of {self.steps}, loss {loss:.4f} "
                )
            if self.processes.first and time.perf_counter() - kept_at > KEEP_EVERY_S:
                kept_at = time.perf_counter()
                seconds = progress.seconds
                progress.seconds += kept_at - begun
                state.save_state(self.task.folder, progress, self.parts)
                progress.seconds = seconds
        self._finish(epoch, progress.seconds + time.perf_counter() - begun, board)

    def step(self, batch: TrainingBatch, rate: float) -> float:
        """One update; returns the loss. Raises RequestError where it is no number."""
        torch.manual_seed(self.settings.seed + 1_000_003 * self.progress.step + self.processes.rank)
        set_rate(self.optimizer, rate)
        with self.device.autocast():
            logits = self.network(self.images(batch.pixels))
        loss = self.loss(logits, batch)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.settings.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        if self.averaged:
            self.averaged.update_parameters(self.model)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise RequestError(
                f"the loss is {value} at step {self.progress.step}",
                "give a lower --lr and a new -o",
            )
        return value

    def images(self, pixels: Tensor) -> Tensor:
        """uint8 (B, S, S, 3) -> float32 (B, 3, S, S), normalized, on the device."""
        values = pixels.to(self.device.name, non_blocking=True) * self.scale - self.shift
        return values.permute(0, 3, 1, 2)

    def loss(self, logits: Tensor, batch: TrainingBatch) -> Tensor:
        """The teacher's divergence, and the labels' cross-entropy: alone without a store, weighted beside one."""
        found = torch.zeros((), device=logits.device)
        if batch.known is not None and batch.probabilities is not None:
            found = sparse_divergence(
                logits, batch.known.to(logits.device), batch.probabilities.to(logits.device)
            )
        weight = self.settings.label_weight if batch.known is not None else 1.0
        if (
            weight
            and batch.classes is not None
            and batch.partners is not None
            and batch.shares is not None
        ):
            rows, partners, shares = (
                each.to(logits.device) for each in (batch.classes, batch.partners, batch.shares)
            )
            found = found + weight * label_loss(
                logits, rows, partners, shares, self.settings.label_smoothing
            )
        return found

    def _training(self) -> None:
        self.model.train()
        if self.settings.frozen_norm:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def _finish(self, epoch: int, seconds: float, board: TensorBoardLog | None) -> None:
        """Evaluate, keep what is best, and write the state."""
        progress, task = self.progress, self.task
        loss = progress.loss / self.steps
        rate = learning_rate(self.settings, progress.step - 1, self.steps, self.settings.batch)
        progress.loss = progress.seconds = 0.0
        if not self.processes.first:
            self.processes.wait()
            return
        found = (
            evaluate_model(self.kept, task.validation, self.device, task.rows)
            if task.validation
            else None
        )
        progress.history.append(EpochSummary(loss, rate, found.top1 if found else None, seconds))
        files = [state.LAST]
        if found is None or found.top1 > progress.best:
            progress.best = found.top1 if found else progress.best
            files.append(state.BEST)
        weights = task.state(self.kept)
        for name in files:
            save_checkpoint(
                task.folder / name,
                weights,
                task.labels,
                task.student.preprocess,
                task.student.license,
                task.rows,
            )
        if task.recipe and state.BEST in files:
            replace(task.recipe, checkpoint_sha256=sha256(task.folder / state.BEST)).save(
                task.folder / state.RECIPE
            )
        state.save_state(task.folder, progress, self.parts)
        draw(progress.history, task.folder / state.CURVES)
        said = f", top-1 {found.top1:.2f}% (best {progress.best:.2f}%)" if found else ""
        self.report(
            f"epoch {epoch + 1} of {self.settings.epochs}: loss {loss:.4f}{said}, {seconds:.0f} s"
        )
        if board:
            board.epoch(progress.step, progress.history[-1])
        self.processes.wait()
