"""Measures the time and memory that a teacher costs in a student's training step.

    python -m tinyvit.studies.teacher_overhead --data DIR --logits STORE --teacher TEACHER

Compares three kinds of steps: learning from class labels, from a store (a folder of saved teacher
predictions), and from a teacher that predicts during the step (in the loop). The kinds alternate in
one process. Each step includes loading and augmenting its images, because these take different
times. Peak memory is measured in a separate process for each kind. Prints a table for
docs/training.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from tinyvit.bench.latency.interleave import run_interleaved
from tinyvit.bench.latency.percentiles import ratio_interval
from tinyvit.bench.machine import describe_cpu, read_peak_memory_bytes
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.data.class_folders import ImageFolder, read_image_folder
from tinyvit.distill.allocator import keep_freed_memory
from tinyvit.distill.logits.module_teachers import Teacher
from tinyvit.distill.logits.paper_format import (
    open_paper_logits,
    paper_record_dtype,
    write_paper_logits,
)
from tinyvit.distill.logits.store import Store, open_store
from tinyvit.distill.logits.teachers import open_teachers
from tinyvit.distill.training.data_loader import (
    TrainingBatch,
    TrainingData,
    load_batches,
    shuffle_indices,
)
from tinyvit.distill.training.device import select_device
from tinyvit.distill.training.distributed import ProcessGroup
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.student import make_student
from tinyvit.distill.training.trainer import TrainingRun, TrainingTask
from tinyvit.progress import NullProgress

STUDENT = "tiny_vit_5m_224"
MAX_TIMED_RECORDS = 2000
FROM_LABELS, FROM_STORE = "no teacher (labels)", "from a store"
_LEARNING_RATE = 1e-5
_EXAMPLES = """\
  python -m tinyvit.studies.teacher_overhead --data photos/ --logits store/ \\
      --teacher teacher.py:make_teacher --teacher tinyvit_21m.safetensors"""

Step = Callable[[], None]


@dataclass(frozen=True)
class StepSource:
    """The source of a training step: a store, a teacher in the loop, or only class labels."""

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
    args = parser.parse_args(argv)
    if argv is None:
        keep_freed_memory()
    if args.measure_memory_of:
        return run_guarded(lambda: _print_peak_memory(args))
    return run_guarded(lambda: _print_table(args))


def _print_table(args: argparse.Namespace) -> int:
    steps = {name: make_step() for name, make_step in _make_step_factories(args).items()}
    times = run_interleaved(steps, rounds=args.rounds, warmup=1)
    precision = "bfloat16" if select_device().uses_bfloat16 else "float32"
    print(
        f"{STUDENT} at {args.img_size} pixels, batch {args.batch}, {precision}, {args.rounds} "
        f"alternating steps; {describe_cpu()}\n"
    )
    print("| step | seconds | / no teacher | peak memory |\n|---|---|---|---|")
    for name, timing in times.items():
        interval = ""
        if name != FROM_LABELS:
            ratio = ratio_interval(timing, times[FROM_LABELS])
            interval = f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
        command = [sys.executable, "-m", "tinyvit.studies.teacher_overhead", *sys.argv[1:]]
        memory = subprocess.run(
            [*command, "--measure-memory-of", name], capture_output=True, text=True
        ).stdout.strip()
        print(f"| {name} | {timing.median_ms / 1000:.2f} | {interval} | {memory} |", flush=True)
    print(_time_record_reading(args))
    return 0


def _time_record_reading(args: argparse.Namespace) -> str:
    """Compare the time of reading random records of the store and of the paper's format."""
    store, images = open_store(args.logits), read_image_folder(args.data)
    count = min(len(images), MAX_TIMED_RECORDS)
    positions = shuffle_indices(0, 0, store.header.records_per_epoch)[:count].tolist()
    records = store.read_epoch(0)

    def read_store() -> None:
        for position in positions:
            store.read_record(0, records, position)

    with tempfile.TemporaryDirectory(prefix="tinyvit-") as folder:
        epoch_folder = write_paper_logits(store, images.keys, Path(folder))[0]
        logits = open_paper_logits(epoch_folder.parent)
        keys = [images.keys[position // store.header.views_per_image] for position in positions]
        values_path = next(logits.epoch_folders[0].glob("*-values.bin"))
        dtype = paper_record_dtype(logits.top_k)

        def read_paper_format() -> None:
            text = values_path.with_name("rank0-keys.txt").read_text(encoding="utf-8")
            offsets = {key: index * dtype.itemsize for index, key in enumerate(text.splitlines())}
            with values_path.open("rb") as file:
                for key in keys:
                    file.seek(offsets[key])
                    record = np.frombuffer(file.read(dtype.itemsize), dtype)
                    record["classes"][0].astype(np.int64)
                    record["probabilities"][0].astype(np.float32)

        readers = {"store": read_store, "paper": read_paper_format}
        times = run_interleaved(readers, rounds=7, warmup=1)
    microseconds = {name: 1e3 * timing.median_ms / count for name, timing in times.items()}
    return (
        f"\nReading and checking a record of the store takes {microseconds['store']:.0f} "
        f"microseconds; reading one in the paper's format, including the keys of an epoch, takes "
        f"{microseconds['paper']:.0f}."
    )


def _print_peak_memory(args: argparse.Namespace) -> int:
    step = _make_step_factories(args)[args.measure_memory_of]()
    for _ in range(3):
        step()
    print(f"{(read_peak_memory_bytes() or 0) / 1e9:.2f} GB")
    return 0


def _make_step_factories(args: argparse.Namespace) -> dict[str, Callable[[], Step]]:
    """Return a function that prepares each kind of step, by its name in the table."""
    images, store = read_image_folder(args.data), open_store(args.logits)

    def make_loop_factory(name: str) -> Callable[[], Step]:
        def make_step() -> Step:
            (teacher,) = open_teachers((name,), None, select_device())
            return _make_step(args, images, store, StepSource(teacher=teacher))

        return make_step

    return {
        FROM_LABELS: lambda: _make_step(args, images, store, StepSource()),
        FROM_STORE: lambda: _make_step(args, images, store, StepSource(store=store)),
        **{f"{Path(name).name} in the loop": make_loop_factory(name) for name in args.teacher},
    }


def _make_step(
    args: argparse.Namespace, images: ImageFolder, store: Store, source: StepSource
) -> Step:
    """Return a function that trains one step. Every kind uses the augmentation of `store`."""
    header, teacher = store.header, source.teacher
    config = replace(PRESETS["pretrain-22k"], batch=args.batch, augmentation=header.augmentation)
    classes = teacher.num_classes if teacher else header.num_classes
    student = make_student(STUDENT, None, None, classes, args.img_size, 0)
    uses_labels = source == StepSource()
    data = TrainingData(
        images,
        images.class_indices if uses_labels else None,
        source.store,
        config.augmentation,
        0,
        args.img_size,
    )
    folder = Path(tempfile.gettempdir())
    task = TrainingTask(folder, student, data, None, student.labels, None, config, 0)
    run = TrainingRun(task, select_device(), ProcessGroup(), NullProgress())
    batches = _load_forever(data, args.batch)

    def step() -> None:
        batch = next(batches)
        if teacher is not None:
            pixels = _resize_nearest(batch.pixels.numpy(), teacher.preprocess.size)
            probabilities = torch.from_numpy(teacher.predict_probabilities(pixels)).float()
            all_classes = torch.arange(classes).expand(len(probabilities), -1)
            batch = replace(batch, teacher_classes=all_classes, teacher_probabilities=probabilities)
        run.step(batch, _LEARNING_RATE)

    return step


def _resize_nearest(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Resize views, (B, S, S, 3), by nearest-neighbor sampling, which takes almost no time."""
    if pixels.shape[1] == size:
        return pixels
    positions = np.arange(size) * pixels.shape[1] // size
    return pixels[:, positions][:, :, positions]


def _load_forever(data: TrainingData, batch: int) -> Iterator[TrainingBatch]:
    epoch = 0
    while True:
        yield from load_batches(data, epoch, shuffle_indices(0, epoch, len(data)), batch, 0)
        epoch += 1


if __name__ == "__main__":
    raise SystemExit(main())
