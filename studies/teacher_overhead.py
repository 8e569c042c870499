"""Measures the time and memory that a teacher costs in a student's training step.

    python -m tinyvit.studies.teacher_overhead --data DIR --logits STORE --teacher TEACHER

The command compares three kinds of steps: learning from class labels, from a store (a folder of
saved teacher predictions), and from a teacher that predicts during the step (in the loop). The
kinds alternate in one process. The time of a step includes loading and augmenting the images,
because this time also depends on the kind of step. Peak memory is measured in a separate process
for each kind. The command prints a table for docs/lab-notes/training.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from tinyvit.bench.latency.interleave import run_interleaved
from tinyvit.bench.latency.percentiles import ratio_interval
from tinyvit.bench.machine import describe_cpu, read_peak_memory_bytes
from tinyvit.bench.report.tables import format_ratio
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.data.class_folders import ImageFolder, read_image_folder
from tinyvit.distill.logits.module_teachers import Teacher
from tinyvit.distill.logits.store import Store, open_store
from tinyvit.distill.logits.teachers import open_teachers
from tinyvit.distill.training.batches.data_loader import (
    BatchPredictions,
    TrainingBatch,
    TrainingData,
    load_batches,
)
from tinyvit.distill.training.batches.sample_order import divide_order, shuffle_indices
from tinyvit.distill.training.device import select_device
from tinyvit.processes.allocator import keep_freed_memory
from tinyvit.processes.limited_program import RunLimits, run_bounded
from tinyvit.processes.python_process import make_module_command
from tinyvit.studies.gpu.training import LEARNING_RATE, Shape, make_config, make_data, make_run
from tinyvit.studies.record_reading import time_record_reading

STUDENT = "tiny_vit_5m_224"
FROM_LABELS, FROM_STORE = "no teacher (labels)", "from a store"
"""Names of two kinds of steps in the table."""
_MEMORY_LIMITS = RunLimits(seconds=3600, output_bytes=2**20)
_MEMORY_STEPS = 3
"""Number of steps after which the peak memory is read."""
_EXAMPLES = """\
  python -m tinyvit.studies.teacher_overhead --data photos/ --logits store/ \\
      --teacher teacher.py:make_teacher --teacher tinyvit_21m.safetensors"""

Step = Callable[[], None]
"""Function that trains a student for one step."""


@dataclass(frozen=True)
class StepSource:
    """The source from which a training step learns.

    Attributes:
        store: A store; None for another source.
        teacher: A teacher in the loop; None for another source. Without a store and a teacher, the
            step learns from class labels.
    """

    store: Store | None = None
    teacher: Teacher | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.teacher_overhead",
        "Measure the time and memory that a teacher costs in a student's training step.",
        _EXAMPLES,
    )
    _add_arguments(parser)
    args = parser.parse_args(argv)
    if argv is None:  # In a test, the setting would remain for the whole process.
        keep_freed_memory()
    if args.measure_memory_of:
        return run_guarded(lambda: _print_peak_memory(args))
    return run_guarded(lambda: _print_table(args))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="training images in class folders"
    )
    parser.add_argument(
        "--logits",
        type=Path,
        required=True,
        metavar="STORE",
        help="store that save-logits wrote for these images",
    )
    parser.add_argument(
        "--teacher",
        action="append",
        required=True,
        metavar="TEACHER",
        help="teacher to run in the loop; repeat the option to time several teachers separately",
    )
    parser.add_argument(
        "--img-size",
        type=positive_int,
        default=224,
        metavar="PIXELS",
        help="image size of the student (default: 224)",
    )
    parser.add_argument(
        "--batch", type=positive_int, default=32, metavar="N", help="images per step (default: 32)"
    )
    parser.add_argument(
        "--rounds",
        type=positive_int,
        default=15,
        metavar="N",
        help="steps of each kind (default: 15)",
    )
    parser.add_argument("--measure-memory-of", metavar="NAME", help=argparse.SUPPRESS)


def _print_table(args: argparse.Namespace) -> int:
    """Time all kinds of steps, print the table, and return the exit code."""
    steps = {name: make_step() for name, make_step in _make_step_factories(args).items()}
    timings = run_interleaved(steps, rounds=args.rounds, warmup=1)
    precision = "bfloat16" if select_device().uses_bfloat16 else "float32"
    print(
        f"{STUDENT} at {args.img_size} pixels, batch {args.batch}, {precision}, {args.rounds} "
        f"alternating steps; {describe_cpu()}\n"
    )
    print("| step | seconds | / no teacher | peak memory |\n|---|---|---|---|")
    for name, timing in timings.items():
        ratio_text = ""
        if name != FROM_LABELS:
            ratio_text = format_ratio(ratio_interval(timing, timings[FROM_LABELS]), decimals=3)
        seconds, memory = timing.median_ms / 1000, _measure_peak_memory(name)
        print(f"| {name} | {seconds:.2f} | {ratio_text} | {memory} |", flush=True)
    reading = time_record_reading(open_store(args.logits), read_image_folder(args.data))
    print(
        f"\nReading and checking a record of the store takes {reading.store_us:.0f} microseconds;"
        f" reading one in the paper's format takes {reading.paper_us:.0f}, with its share of the"
        " time to read the list of image names of the epoch."
    )
    return 0


def _measure_peak_memory(name: str) -> str:
    """Repeat this command in another process that only runs one kind of step.

    Args:
        name: Name of the kind of step.

    Returns:
        The peak memory that the other process prints.
    """
    options = (*sys.argv[1:], "--measure-memory-of", name)
    command = make_module_command("tinyvit.studies.teacher_overhead", *options)
    return run_bounded(command, _MEMORY_LIMITS).stdout.decode().strip()


def _print_peak_memory(args: argparse.Namespace) -> int:
    """Run one kind of step, print the peak memory of this process, and return the exit code."""
    step = _make_step_factories(args)[args.measure_memory_of]()
    for _ in range(_MEMORY_STEPS):
        step()
    print(f"{(read_peak_memory_bytes() or 0) / 1e9:.2f} GB")
    return 0


def _make_step_factories(args: argparse.Namespace) -> dict[str, Callable[[], Step]]:
    """Return, for each kind of step by its name in the table, a function that prepares the step."""
    images, store = read_image_folder(args.data), open_store(args.logits)

    def make_step_with_teacher(name: str) -> Step:
        (teacher,) = open_teachers((name,), size=None, device=select_device())
        return _make_step(args, images, store, StepSource(teacher=teacher))

    factories: dict[str, Callable[[], Step]] = {
        FROM_LABELS: partial(_make_step, args, images, store, StepSource()),
        FROM_STORE: partial(_make_step, args, images, store, StepSource(store=store)),
    }
    for name in args.teacher:
        factories[f"{Path(name).name} in the loop"] = partial(make_step_with_teacher, name)
    return factories


def _make_step(
    args: argparse.Namespace, images: ImageFolder, store: Store, source: StepSource
) -> Step:
    """Prepare a kind of step, which always uses the augmentation of the store.

    Args:
        args: The arguments of the command.
        images: The training images.
        store: The store.
        source: The source from which the step learns.

    Returns:
        Function that trains the student for one step.
    """
    header, teacher = store.header, source.teacher
    num_classes = teacher.num_classes if teacher else header.num_classes
    shape = Shape(STUDENT, args.img_size, args.batch, num_classes)
    config = replace(make_config(args.batch), augmentation=header.augmentation)
    uses_labels = source.store is None and source.teacher is None
    class_indices = images.class_indices if uses_labels else None
    data = make_data(images, config, args.img_size, class_indices, source.store)
    run = make_run(shape, config, select_device(), data)
    batches = _load_forever(data, args.batch)

    def step() -> None:
        batch = next(batches)
        if teacher is not None:
            pixels = _resize_nearest(batch.pixels.numpy(), teacher.preprocess.height)
            probabilities = torch.from_numpy(teacher.predict_probabilities(pixels)).float()
            all_classes = torch.arange(num_classes).expand(len(probabilities), -1)
            batch = replace(batch, teacher=BatchPredictions(all_classes, probabilities))
        run.step([batch], LEARNING_RATE)

    return step


def _resize_nearest(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Resize augmented images, (B, S, S, 3), by nearest-neighbor sampling, which is fast."""
    if pixels.shape[1] == size:
        return pixels
    positions = np.arange(size) * pixels.shape[1] // size
    return pixels[:, positions][:, :, positions]


def _load_forever(data: TrainingData, batch_size: int) -> Iterator[TrainingBatch]:
    """Load the batches of one epoch after the other, without worker processes."""
    for epoch in count():
        order = shuffle_indices(seed=0, epoch=epoch, sample_count=len(data))
        yield from load_batches(data, epoch, divide_order(order, [batch_size]), workers=0)


if __name__ == "__main__":
    raise SystemExit(main())
