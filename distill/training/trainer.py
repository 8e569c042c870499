"""The training loop. It trains a student, and writes checkpoints and a history.

The order of images, the views (augmented versions of images) and stochastic depth depend only on
the seed and the number of the step. So an interrupted run that is resumed gives the same result as
an uninterrupted run. With one process, the checkpoints are equal byte for byte.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tinyvit.distill.training import run_folder
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.data_loader import (
    TrainingBatch,
    TrainingData,
    load_batches,
    shuffle_indices,
)
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.distill.training.distributed import ProcessGroup
from tinyvit.distill.training.drop_path import add_drop_path
from tinyvit.distill.training.evaluate import evaluate_model
from tinyvit.distill.training.history import EpochSummary, TensorBoardLog, draw_history
from tinyvit.distill.training.loss import compute_training_loss
from tinyvit.distill.training.optimizer import (
    compute_learning_rate,
    make_optimizer,
    make_weight_average,
    set_learning_rate,
)
from tinyvit.distill.training.presets import select_drop_path_rate
from tinyvit.distill.training.run_folder import Stateful, TrainingState
from tinyvit.distill.training.student import Student, save_checkpoint
from tinyvit.errors import RequestError
from tinyvit.files import sha256
from tinyvit.labels import Label
from tinyvit.progress import Progress
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.validation_data import ValidationSet

SAVE_INTERVAL_S = 600.0
"""Shortest time in seconds between two saved states within an epoch."""
_SEED_STRIDE = 1_000_003
"""Multiplied by the step, so that steps and processes have different random seeds."""


@dataclass(frozen=True)
class TrainingTask:
    """The inputs and outputs of a training run.

    Attributes:
        folder: The folder of the run.
        student: The network to train.
        data: The training images with their classes or teacher outputs.
        validation: Images that determine the best epoch; None selects the last epoch.
        labels: Labels of the saved checkpoints.
        kept_rows: Rows of the classifier that saved checkpoints keep; None keeps all.
        config: The training settings.
        workers: Number of processes that load images.
        make_state_dict: A function from the trained network to the state dict to save.
        recipe: Quantization scales that the network was trained with, saved beside the best
            checkpoint; None without quantization-aware training.
    """

    folder: Path
    student: Student
    data: TrainingData
    validation: ValidationSet | None
    labels: tuple[Label, ...]
    kept_rows: Sequence[int] | None
    config: TrainingConfig
    workers: int
    make_state_dict: Callable[[nn.Module], dict[str, Tensor]] = nn.Module.state_dict
    recipe: Recipe | None = None


class TrainingRun:
    """A training run, as one of its processes executes it.

    Attributes:
        task: The inputs and outputs.
        device: The device of this process.
        processes: The position of this process among all.
        model: The network that is trained.
        average: The moving average of its weights; None if the settings turn it off.
        state: The progress of the run.
        steps_per_epoch: Number of steps per epoch.
    """

    def __init__(
        self,
        task: TrainingTask,
        device: ComputeDevice,
        processes: ProcessGroup,
        progress: Progress,
    ) -> None:
        """Prepare a run.

        Args:
            task: The inputs and outputs.
            device: The device of this process.
            processes: The position of this process among all.
            progress: Receives a message for each epoch and the number of finished steps.

        Raises:
            RequestError: The batch cannot be divided among the processes, or is larger than the
                number of samples.
        """
        config = task.config
        if config.batch % processes.count:
            raise RequestError(
                f"--batch {config.batch} cannot be divided among {processes.count} processes",
                f"give a multiple of {processes.count}",
            )
        self.steps_per_epoch = len(task.data) // config.batch
        if self.steps_per_epoch == 0:
            raise RequestError(
                f"{len(task.data)} images do not fill a batch of {config.batch}",
                f"give --batch {len(task.data)} or less",
            )
        self.task, self.device, self.processes = task, device, processes
        self._config, self._progress = config, progress
        self.model = device.move_module(task.student.model).train()
        add_drop_path(self.model, select_drop_path_rate(config, task.student.model.variant))
        self.average = (
            make_weight_average(self.model, config.ema_decay) if config.ema_decay else None
        )
        self._optimizer = make_optimizer(self.model, config)
        self._network: nn.Module = processes.wrap(self.model)
        scale, shift = task.student.preprocess.scale_and_shift()
        self._scale = torch.from_numpy(scale).to(device.name)
        self._shift = torch.from_numpy(shift).to(device.name)
        self.state = TrainingState()

    @property
    def result_model(self) -> nn.Module:
        """The network to evaluate and save: the average of the weights, if there is one."""
        return self.average.module if self.average else self.model

    @property
    def _parts(self) -> dict[str, Stateful]:
        """The objects that the next step depends on, by name."""
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": self._optimizer}
        return {**parts, "average": self.average} if self.average else parts

    def run(self, resume: bool) -> TrainingState:
        """Train until the last epoch.

        Args:
            resume: Whether to continue from the saved state in the folder.

        Returns:
            The progress of the run, with the results of all epochs.
        """
        if resume:
            self.state = run_folder.load_state(self.task.folder, self._parts, self.device.name)
            total_steps = self.steps_per_epoch * self._config.epochs
            self._progress.message(f"resuming at step {self.state.step} of {total_steps}")
        log = None
        if self.processes.is_first:
            log_folder = self.task.folder / run_folder.TENSORBOARD_FOLDER
            log = TensorBoardLog(log_folder, self.state.step + 1)
        try:
            for epoch in range(len(self.state.history), self._config.epochs):
                self._train_epoch(epoch, log)
        finally:
            if log:
                log.close()
        return self.state

    def _train_epoch(self, epoch: int, log: TensorBoardLog | None) -> None:
        state, begin_s = self.state, time.perf_counter()
        saved_s = begin_s
        self._set_training_mode()
        for batch in self._load_batches(epoch):
            rate = self._learning_rate(state.step)
            loss = self.step(batch, rate)
            state.step += 1
            state.loss_sum += loss
            if log:
                log.add_step(state.step, loss, rate)
            steps_done = state.step - epoch * self.steps_per_epoch
            description = f"epoch {epoch + 1} of {self._config.epochs}, steps"
            self._progress.advance(description, steps_done, self.steps_per_epoch)
            now_s = time.perf_counter()
            if self.processes.is_first and now_s - saved_s > SAVE_INTERVAL_S:
                saved_s = now_s
                elapsed = replace(state, seconds=state.seconds + now_s - begin_s)
                run_folder.save_state(self.task.folder, elapsed, self._parts)
        self._finish_epoch(epoch, state.seconds + time.perf_counter() - begin_s, log)

    def _load_batches(self, epoch: int) -> Iterator[TrainingBatch]:
        """Load this process's part of the remaining batches of an epoch."""
        config, processes = self._config, self.processes
        steps_done = self.state.step - epoch * self.steps_per_epoch
        order = shuffle_indices(config.seed, epoch, len(self.task.data))
        # Each step is divided among the processes: (steps, processes, images of one process).
        by_step = order[: self.steps_per_epoch * config.batch].reshape(
            self.steps_per_epoch, processes.count, -1
        )
        own_order = by_step[steps_done:, processes.rank].reshape(-1)
        own_batch = config.batch // processes.count
        return load_batches(self.task.data, epoch, own_order, own_batch, self.task.workers)

    def _learning_rate(self, step: int) -> float:
        return compute_learning_rate(self._config, step, self.steps_per_epoch, self._config.batch)

    def step(self, batch: TrainingBatch, rate: float) -> float:
        """Make one optimizer step.

        Args:
            batch: This process's part of the batch.
            rate: The learning rate.

        Returns:
            The loss.

        Raises:
            RequestError: The loss is NaN or infinite.
        """
        torch.manual_seed(self._config.seed + _SEED_STRIDE * self.state.step + self.processes.rank)
        set_learning_rate(self._optimizer, rate)
        with self.device.autocast():
            logits = self._network(self._normalize(batch.pixels))
        loss = compute_training_loss(logits, batch, self._config)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._config.max_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._config.max_grad_norm)
        self._optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise RequestError(
                f"the loss is {value} at step {self.state.step}",
                "give a lower --lr and another -o",
            )
        return value

    def _normalize(self, pixels: Tensor) -> Tensor:
        """Convert uint8 (B, S, S, 3) to normalized float32 (B, 3, S, S) on the device."""
        values = pixels.to(self.device.name, non_blocking=True) * self._scale - self._shift
        return values.permute(0, 3, 1, 2)

    def _set_training_mode(self) -> None:
        self.model.train()
        if self._config.frozen_batchnorm:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def _finish_epoch(self, epoch: int, seconds: float, log: TensorBoardLog | None) -> None:
        """Evaluate, save the checkpoints and the state, and report the results."""
        state, task = self.state, self.task
        loss = state.loss_sum / self.steps_per_epoch
        state.loss_sum = state.seconds = 0.0
        if not self.processes.is_first:
            self.processes.wait()
            return
        top1: float | None = None
        if task.validation:
            top1 = evaluate_model(
                self.result_model, task.validation, self.device, task.kept_rows
            ).top1
        rate = self._learning_rate(state.step - 1)
        state.history.append(EpochSummary(loss, rate, top1, seconds))
        is_best = top1 is None or top1 > state.best_top1
        if top1 is not None and is_best:
            state.best_top1 = top1
        self._save_checkpoints(is_best)
        run_folder.save_state(task.folder, state, self._parts)
        draw_history(state.history, task.folder / run_folder.CURVES_FILE)
        accuracy = "" if top1 is None else f", top-1 {top1:.2f}% (best {state.best_top1:.2f}%)"
        self._progress.message(
            f"epoch {epoch + 1} of {self._config.epochs}: loss {loss:.4f}{accuracy}, "
            f"{seconds:.0f} s"
        )
        if log:
            log.add_epoch(state.step, state.history[-1])
        self.processes.wait()

    def _save_checkpoints(self, is_best: bool) -> None:
        task = self.task
        weights = task.make_state_dict(self.result_model)
        names = [run_folder.LAST_CHECKPOINT]
        if is_best:
            names.append(run_folder.BEST_CHECKPOINT)
        for name in names:
            save_checkpoint(
                task.folder / name,
                weights,
                task.labels,
                task.student.preprocess,
                task.student.license,
                task.kept_rows,
            )
        if task.recipe and is_best:
            digest = sha256(task.folder / run_folder.BEST_CHECKPOINT)
            recipe = replace(task.recipe, checkpoint_sha256=digest)
            recipe.save(task.folder / run_folder.RECIPE_FILE)
