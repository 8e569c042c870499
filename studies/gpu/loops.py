"""Times training loops that decode and augment JPEG files in worker processes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.bench.machine import count_cores
from tinyvit.distill.logits.store import open_store
from tinyvit.distill.training.batches.data_loader import (
    TrainingBatch,
    TrainingData,
    load_batches,
)
from tinyvit.distill.training.batches.sample_order import divide_order, shuffle_indices
from tinyvit.distill.training.device import ComputeDevice, select_device
from tinyvit.distill.training.trainer import TrainingRun
from tinyvit.studies.gpu.record import Part, Row
from tinyvit.studies.gpu.settings import Settings
from tinyvit.studies.gpu.steps import FROM_LABELS, FROM_STORE, in_the_loop, step_with_teacher
from tinyvit.studies.gpu.storing import get_store_path, open_images
from tinyvit.studies.gpu.teachers import DeviceTeacher
from tinyvit.studies.gpu.timing import free_memory, synchronize
from tinyvit.studies.gpu.training import LEARNING_RATE, Shape, make_config, make_data, make_run

LOADING = "loading only"
"""Name of the loop that loads batches and does not train."""
_SHARED_MEMORY = Path("/dev/shm")
_BATCHES_PER_WORKER = 3
"""Batches of one worker in shared memory: DataLoader requests two in advance, and one is in use."""

TrainOn = Callable[[TrainingBatch], object]
"""A function that makes one training step with a batch, or does nothing with it."""
MakeLoop = Callable[[], tuple[TrainingData, TrainOn]]
"""A function that prepares a loop: the data to load, and the function to call with each batch."""


def measure_loops(settings: Settings, folder: Path, part: Part) -> None:
    """Time a training loop from labels, from a store, and with each teacher in the loop.

    Args:
        settings: The settings of the study.
        folder: Temporary folder with the images and stores of the part "storing".
        part: The part of the record to fill.
    """
    images = open_images(folder)
    device, size = select_device(), settings.img_size or 224
    shape = Shape(settings.loop_student, size, settings.loop_batch)
    workers = _count_workers(settings, size)
    config = make_config(shape.batch)
    labels_data = make_data(images, config, size, class_indices=images.class_indices)
    run = make_run(shape, config, device)
    for kind, make_loop in _list_loops(settings, folder, shape, run, labels_data).items():
        case = {
            "student": shape.student,
            "precision": "bfloat16" if device.uses_bfloat16 else "float32",
            "kind": kind,
            "batch": shape.batch,
            "workers": workers,
        }
        part.measure(case, partial(_time_loop, make_loop, settings, workers, device))
        free_memory(settings.device)


def _list_loops(
    settings: Settings, folder: Path, shape: Shape, run: TrainingRun, labels_data: TrainingData
) -> dict[str, MakeLoop]:
    """Return the functions that prepare the loops, by kind, in the order of measurement."""
    # Without class indices, the student learns only from a teacher.
    views_data = replace(labels_data, class_indices=None)

    def train_on(batch: TrainingBatch) -> float:
        return run.step([batch], LEARNING_RATE)

    def make_store_loop() -> tuple[TrainingData, TrainOn]:
        store = open_store(get_store_path(folder, settings.teachers[0]))
        return replace(views_data, store=store), train_on

    def make_teacher_loop(name: str) -> tuple[TrainingData, TrainOn]:
        teacher = DeviceTeacher(name, shape.num_classes, shape.top_k, run.device)
        return views_data, lambda batch: step_with_teacher(run, teacher, batch, LEARNING_RATE)

    return {
        FROM_LABELS: lambda: (labels_data, train_on),
        FROM_STORE: make_store_loop,
        **{in_the_loop(name): partial(make_teacher_loop, name) for name in settings.teachers},
        LOADING: lambda: (views_data, lambda batch: None),
    }


def _time_loop(make_loop: MakeLoop, settings: Settings, workers: int, device: ComputeDevice) -> Row:
    """Prepare a loop, and time it after the first batch of every worker.

    All workers deliver their batches at about the same time, in waves. So a loop is timed from the
    end of the first wave to the end of the last one.
    """
    data, train_on = make_loop()
    wave_size = max(1, workers)  # in batches
    step_count = settings.loop_waves * wave_size
    order = _make_order(data, step_count * settings.loop_batch)
    begin_s, steps_done = time.perf_counter(), 0
    for batch in _load(data, order, settings.loop_batch, workers, device):
        train_on(batch)
        steps_done += 1
        if steps_done == wave_size:
            synchronize(device.name)
            begin_s = time.perf_counter()
    synchronize(device.name)
    seconds = time.perf_counter() - begin_s
    image_count = (steps_done - wave_size) * settings.loop_batch
    return {"images_per_s": image_count / seconds, "images": image_count, "seconds": seconds}


def _load(
    data: TrainingData,
    order: npt.NDArray[np.int64],
    batch_size: int,
    workers: int,
    device: ComputeDevice,
) -> Iterator[TrainingBatch]:
    """Load batches with worker processes, and move the images of each to the device."""
    batches = divide_order(order, [batch_size])
    for batch in load_batches(data, epoch=0, batches=batches, workers=workers):
        yield replace(batch, pixels=batch.pixels.to(device.name, non_blocking=True))


def _make_order(data: TrainingData, count: int) -> npt.NDArray[np.int64]:
    """Return `count` indices of samples in random order, which is repeated as often as needed."""
    return np.resize(shuffle_indices(seed=0, epoch=0, sample_count=len(data)), count)


def _count_workers(settings: Settings, size: int) -> int:
    """Return the number of worker processes whose batches fit into half of the shared memory."""
    if settings.workers is not None:
        return settings.workers
    workers = max(1, count_cores() - 1)
    if _SHARED_MEMORY.is_dir():
        batch_bytes = settings.loop_batch * size * size * 3
        free_bytes = shutil.disk_usage(_SHARED_MEMORY).free
        workers = min(workers, max(1, free_bytes // 2 // (batch_bytes * _BATCHES_PER_WORKER)))
    return workers
