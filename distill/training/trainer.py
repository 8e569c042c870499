"""Trains a student in a loop over epochs and steps, and writes checkpoints and a history.

The order of images, the views (augmented versions of images), their mixing and stochastic depth
depend only on the seed and the number of the step. So an interrupted run that is resumed gives the
same result as an uninterrupted run. With one process, the checkpoints are equal byte for byte.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tinyvit.distill.training.batches.data_loader import TrainingBatch, load_batches
from tinyvit.distill.training.batches.division import BatchDivider, count_steps_per_epoch
from tinyvit.distill.training.batches.memory import count_images_in_memory
from tinyvit.distill.training.batches.sample_order import divide_order, make_sample_order
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.distill.training.distributed import ProcessGroup
from tinyvit.distill.training.gradients import GradientComputer
from tinyvit.distill.training.network.activation_checkpointing import add_activation_checkpointing
from tinyvit.distill.training.network.drop_path import add_drop_path
from tinyvit.distill.training.network.freezing import freeze_weights, set_training_mode
from tinyvit.distill.training.network.strided_convolutions import use_float32_for_strided_depthwise
from tinyvit.distill.training.optimizer import (
    compute_learning_rate,
    make_optimizer,
    make_weight_average,
    set_learning_rate,
)
from tinyvit.distill.training.presets import select_drop_path_rate
from tinyvit.distill.training.run import folder as run_folder
from tinyvit.distill.training.run.checkpoints import save_checkpoints
from tinyvit.distill.training.run.folder import Stateful, TrainingState
from tinyvit.distill.training.run.history import EpochSummary, TensorBoardLog, draw_history
from tinyvit.distill.training.task import TrainingTask
from tinyvit.distill.training.validation.early_stopping import is_out_of_patience
from tinyvit.distill.training.validation.evaluate import evaluate_model
from tinyvit.errors import RequestError
from tinyvit.progress import Progress
from tinyvit.text.plurals import format_count

SAVE_INTERVAL_S = 600.0
"""Shortest time in seconds between two saved states within an epoch."""


class TrainingRun:
    """A training run, as one of its processes executes it.

    Attributes:
        task: The inputs and outputs.
        device: The device of this process.
        processes: The position of this process among those that train together.
        model: The network that is trained.
        average: The exponential moving average of the network's weights; None if the settings turn
            it off.
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
            processes: The position of this process among those that train together.
            progress: Receives a message for each epoch and the number of finished steps.

        Raises:
            RequestError: The batch cannot be divided among the processes, or is larger than the
                number of samples.
        """
        config = task.config
        self._order = make_sample_order(task.data, config)
        self.steps_per_epoch = count_steps_per_epoch(
            len(self._order), config.batch, processes.count
        )
        self.task, self.device, self.processes = task, device, processes
        self.state = TrainingState()
        self._config, self._progress = config, progress
        self.model = device.move_module(task.student.model)
        use_float32_for_strided_depthwise(self.model, device)
        freeze_weights(self.model, config)
        set_training_mode(self.model, config)
        drop_path_rate = select_drop_path_rate(config, task.student.model.variant)
        self._drop_path = add_drop_path(self.model, drop_path_rate)
        self.average: AveragedModel | None = None
        if config.ema_decay:
            self.average = make_weight_average(self.model, config.ema_decay)
        self._optimizer = make_optimizer(self.model, config)
        self._divider = BatchDivider(task, processes, self._count_images_in_memory())
        if config.checkpoint_activations:
            add_activation_checkpointing(self.model)
        self._gradients = GradientComputer(task, device, processes, self.model, self._drop_path)

    @property
    def result_model(self) -> nn.Module:
        """Return the network to evaluate and save: the average of the weights, if there is one."""
        return self.average.module if self.average else self.model

    @property
    def _stateful_parts(self) -> dict[str, Stateful]:
        """Return the objects whose state the next step depends on, by name."""
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": self._optimizer}
        if self.average:
            parts["average"] = self.average
        return parts

    def run(self, resume: bool) -> TrainingState:
        """Train until the end of the last epoch.

        Args:
            resume: Whether to continue from the saved state in the folder.

        Returns:
            The progress of the run. In the first process, it has the results of all epochs.

        Raises:
            TinyViTError: The saved state is damaged, an image or a record cannot be read, or the
                loss is NaN or infinite.
        """
        total_steps = self.steps_per_epoch * self._config.epochs
        if resume:
            self.state = run_folder.load_state(
                self.task.folder,
                self._stateful_parts,
                self.device.name,
                self.steps_per_epoch,
                self._config.epochs,
            )
            self._progress.message(f"resuming after step {self.state.step} of {total_steps}")
            self._report_new_schedule()
        else:
            self.state.accumulation = self._divider.choose_accumulation(self._progress)
            self._progress.message(f"starting at step 0 of {total_steps}")
        log = None
        if self.processes.is_first:
            log_folder = self.task.folder / run_folder.TENSORBOARD_FOLDER
            log = TensorBoardLog(log_folder, first_step=self.state.step + 1)
        try:
            for epoch in range(len(self.state.history), self._config.epochs):
                if self._is_out_of_patience():
                    break
                self._train_epoch(epoch, log)
        finally:
            if log:
                log.close()
        return self.state

    def _report_new_schedule(self) -> None:
        """Report the learning rate of a run that continues with another number of epochs."""
        state = self.state
        if not state.history or state.step == self.steps_per_epoch * self._config.epochs:
            return
        last_rate = state.history[-1].learning_rate
        last_step = self.steps_per_epoch * len(state.history) - 1
        if not math.isclose(last_rate, self._compute_learning_rate(last_step)):
            self._progress.message(
                f"the run now has {format_count(self._config.epochs, 'epoch')}, so the learning "
                "rate continues on the longer schedule: it was "
                f"{last_rate:.2g} after epoch {len(state.history)}, and is "
                f"{self._compute_learning_rate(state.step):.2g} now"
            )

    def _is_out_of_patience(self) -> bool:
        """Return whether the run ends early, which is the same in all processes."""
        patience = self._config.patience
        if not patience:
            return False
        # Only the first process has the history of all epochs.
        is_out = self.processes.is_first and is_out_of_patience(self.state.history, patience)
        return bool(self.processes.find_maximum(int(is_out)))

    def _train_epoch(self, epoch: int, log: TensorBoardLog | None) -> None:
        """Train the remaining steps of an epoch, save the state regularly, and finish the epoch."""
        state = self.state
        start_s = last_save_s = time.perf_counter()
        set_training_mode(self.model, self._config)
        batches = self._load_batches(epoch)
        while state.step < (epoch + 1) * self.steps_per_epoch:
            rate = self._compute_learning_rate(state.step)
            loss = self.step(islice(batches, state.accumulation), rate)
            state.step += 1
            state.loss_sum += loss
            if log:
                log.add_step(state.step, loss, rate)
            steps_done = state.step - epoch * self.steps_per_epoch
            description = f"epoch {epoch + 1} of {self._config.epochs}, steps"
            self._progress.advance(description, steps_done, self.steps_per_epoch)
            now_s = time.perf_counter()
            if self.processes.is_first and now_s - last_save_s > SAVE_INTERVAL_S:
                last_save_s = now_s
                state_now = replace(state, seconds=state.seconds + now_s - start_s)
                run_folder.save_state(self.task.folder, state_now, self._stateful_parts)
        self._finish_epoch(epoch, state.seconds + time.perf_counter() - start_s, log)

    def _load_batches(self, epoch: int) -> Iterator[TrainingBatch]:
        """Load the parts of this process's share of the remaining batches of an epoch."""
        config, processes = self._config, self.processes
        steps_done = self.state.step - epoch * self.steps_per_epoch
        order = self._order.draw(epoch)
        order_by_step = order[: self.steps_per_epoch * config.batch].reshape(
            self.steps_per_epoch, processes.count, self._divider.image_count
        )
        own_order = order_by_step[steps_done:, processes.rank].reshape(-1)
        batches = divide_order(own_order, self._divider.divide(self.state.accumulation))
        return load_batches(self.task.data, epoch, batches, self.task.workers)

    def _compute_learning_rate(self, step: int) -> float:
        return compute_learning_rate(self._config, step, self.steps_per_epoch, self._config.batch)

    def step(self, parts: Iterable[TrainingBatch], rate: float) -> float:
        """Compute the loss of a batch and its gradient, and update the weights.

        Args:
            parts: The parts of this process's share of the batch.
            rate: The learning rate.

        Returns:
            The loss of this process's share of the batch.

        Raises:
            RequestError: The loss is NaN or infinite.
        """
        set_learning_rate(self._optimizer, rate)
        self._optimizer.zero_grad()
        loss = self._gradients.add_gradients(parts, self.state.step)
        if self._config.max_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._config.max_grad_norm)
        self._optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)
        if not np.isfinite(loss):
            raise RequestError(
                f"the loss is {loss} at step {self.state.step + 1}",
                "use a lower --lr, and -o with another folder",
            )
        return loss

    def _count_images_in_memory(self) -> int | None:
        """Return how many images fit into memory; None if the user chose the number of parts."""
        if self._config.accumulation != "auto":
            return None
        size, is_checkpointed = self.task.data.size, self._config.checkpoint_activations
        return count_images_in_memory(
            self.model, self._drop_path, size, self.device, is_checkpointed
        )

    def _finish_epoch(self, epoch: int, seconds: float, log: TensorBoardLog | None) -> None:
        """Let the first process evaluate and save the network, while the others wait."""
        state = self.state
        mean_loss = state.loss_sum / self.steps_per_epoch
        state.loss_sum = state.seconds = 0.0
        if self.processes.is_first:
            rate = self._compute_learning_rate(state.step - 1)
            summary = EpochSummary(
                loss=mean_loss, learning_rate=rate, top1=self._measure_top1(), seconds=seconds
            )
            self._save_epoch(summary)
            self._report_epoch(epoch, summary)
            if log:
                log.add_epoch(state.step, summary)
        self.processes.wait()

    def _measure_top1(self) -> float | None:
        """Return the top-1 accuracy in percent, or None without validation images."""
        task = self.task
        if not task.validation:
            return None
        scores = evaluate_model(
            self.result_model, task.validation, self.device, task.kept_outputs, self._progress
        )
        return scores.top1

    def _save_epoch(self, summary: EpochSummary) -> None:
        """Save the checkpoints, the state and the chart after an epoch."""
        state, folder = self.state, self.task.folder
        state.history.append(summary)
        is_best = summary.top1 is None or summary.top1 > state.best_top1
        if summary.top1 is not None and is_best:
            state.best_top1 = summary.top1
        save_checkpoints(self.task, self.result_model, is_best)
        run_folder.save_state(folder, state, self._stateful_parts)
        draw_history(state.history, folder / run_folder.CURVES_FILE)

    def _report_epoch(self, epoch: int, summary: EpochSummary) -> None:
        accuracy = ""
        if summary.top1 is not None:
            accuracy = f", top-1 {summary.top1:.2f}% (best {self.state.best_top1:.2f}%)"
        self._progress.message(
            f"epoch {epoch + 1} of {self._config.epochs}: loss {summary.loss:.4f}{accuracy}, "
            f"{summary.seconds:.0f} s"
        )
