"""What a teacher costs a student: steps from a store, without a teacher, and with the teacher in the loop, in turn in one process.

    python -m tinyvit.studies.overhead --data DIR --logits STORE --teacher T [--teacher T2] [--img-size N] [--batch B]

Views are made in the step itself, so that all that differs between the three is in their times. Peak memory is that of a process of its
own for each. Prints a table for docs/training.md."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from tinyvit.bench.latency.interleave import run_interleaved
from tinyvit.bench.latency.percentiles import ratio_interval
from tinyvit.bench.machine import describe_cpu, peak_memory_bytes
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.distill.allocator import keep_memory
from tinyvit.distill.augmentation.pictures import TrainingImages, read_training_images
from tinyvit.distill.logits.release import open_release, write_release
from tinyvit.distill.logits.store import Store, open_store
from tinyvit.distill.logits.teachers import Teacher, open_teachers
from tinyvit.distill.training.config import PRESETS
from tinyvit.distill.training.data_loader import TrainingBatch, TrainingData, batches, order_of
from tinyvit.distill.training.device import select_device
from tinyvit.distill.training.distributed import Processes
from tinyvit.distill.training.student import make_student
from tinyvit.distill.training.trainer import TrainingRun, TrainingTask

STUDENT = "tiny_vit_5m_224"
READINGS = 2000
ALONE, STORED = "no teacher (labels)", "our store"
_EXAMPLES = """\
  python -m tinyvit.studies.overhead --data photos/ --logits store/ --teacher teacher.py:lite0 --teacher tinyvit_21m.safetensors"""

Step = Callable[[], None]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    made = make_parser(
        "python -m tinyvit.studies.overhead",
        "What a teacher costs a student's step, in time and memory.",
        _EXAMPLES,
    )
    made.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="pictures in class folders"
    )
    made.add_argument(
        "--logits", type=Path, required=True, metavar="STORE", help="of those pictures"
    )
    made.add_argument(
        "--teacher",
        action="append",
        required=True,
        metavar="T",
        help="to have in the loop; one after the other",
    )
    made.add_argument(
        "--img-size", type=positive_int, default=224, help="of the student; default 224"
    )
    made.add_argument("--batch", type=positive_int, default=32, help="pictures a step; default 32")
    made.add_argument("--rounds", type=positive_int, default=15, help="steps of each; default 15")
    made.add_argument("--alone", metavar="NAME", help=argparse.SUPPRESS)
    args = made.parse_args(argv)
    if argv is None:
        keep_memory()
    return run_guarded(lambda: _memory(args) if args.alone else _table(args))


def _table(args: argparse.Namespace) -> int:
    times = run_interleaved(
        {name: make() for name, make in _variants(args).items()}, rounds=args.rounds, warmup=1
    )
    print(
        f"{STUDENT} at {args.img_size}, batch {args.batch}, {_precision()}, {args.rounds} steps in turn; {describe_cpu()}\n"
    )
    print("| step | seconds | / no teacher | peak memory |\n|---|---|---|---|")
    for name, found in times.items():
        against = ratio_interval(found, times[ALONE])
        memory = subprocess.run(
            [sys.executable, "-m", "tinyvit.studies.overhead", *sys.argv[1:], "--alone", name],
            capture_output=True,
            text=True,
        )
        interval = (
            ""
            if name == ALONE
            else f"{against.median:.3f} ({against.low:.3f} to {against.high:.3f})"
        )
        print(
            f"| {name} | {found.median_ms / 1000:.2f} | {interval} | {memory.stdout.strip()} |",
            flush=True,
        )
    print(_reading(args))
    return 0


def _reading(args: argparse.Namespace) -> str:
    """Microseconds a record, in random order: ours with its checks, and the release's, found by its key in a dictionary."""
    store, pictures = open_store(args.logits), read_training_images(args.data)
    count = min(len(pictures), READINGS)
    order = order_of(0, 0, store.header.samples)[:count]
    records = store.records(0)

    def ours() -> None:
        for place in order.tolist():
            store.answer(0, records, place)

    with tempfile.TemporaryDirectory(prefix="tinyvit-") as folder:
        release = open_release(write_release(store, pictures.keys, Path(folder))[0].parent)
        keys = [pictures.keys[place // store.header.views] for place in order.tolist()]
        path = next(release.epochs[0].glob("*-values.bin"))

        def theirs() -> None:
            names = path.with_name("rank0-keys.txt").read_text(encoding="utf-8").splitlines()
            places = {name: place for place, name in enumerate(names)}
            with path.open("rb") as file:
                for key in keys:
                    file.seek(places[key] * release.record.itemsize)
                    record = np.frombuffer(file.read(release.record.itemsize), release.record)
                    (
                        record["classes"][0].astype(np.int64),
                        record["probabilities"][0].astype(np.float32),
                    )

        times = run_interleaved({"ours": ours, "theirs": theirs}, rounds=7, warmup=1)
    said = {name: f"{1e3 * found.median_ms / count:.0f}" for name, found in times.items()}
    return f"\nreading a record: {said['ours']} microseconds, checked; of the release's layout {said['theirs']}, an epoch's keys read first"


def _memory(args: argparse.Namespace) -> int:
    step = _variants(args)[args.alone]()
    for _ in range(3):
        step()
    print(f"{(peak_memory_bytes() or 0) / 1e9:.2f} GB")
    return 0


def _precision() -> str:
    return "bfloat16" if select_device().bfloat16 else "float32"


def _variants(args: argparse.Namespace) -> dict[str, Callable[[], Step]]:
    """Name -> what makes the step of it, a call of which is one step."""
    pictures, store = read_training_images(args.data), open_store(args.logits)

    def in_the_loop(name: str) -> Callable[[], Step]:
        return lambda: _step(
            args, pictures, None, open_teachers((name,), None, select_device())[0], store
        )

    return {
        ALONE: lambda: _step(args, pictures, None, None, store),
        STORED: lambda: _step(args, pictures, store, None, store),
        **{f"{Path(name).name} in the loop": in_the_loop(name) for name in args.teacher},
    }


def _step(
    args: argparse.Namespace,
    pictures: TrainingImages,
    taught_by: Store | None,
    teacher: Teacher | None,
    rules: Store,
) -> Step:
    header = rules.header
    settings = replace(PRESETS["pretrain-22k"], batch=args.batch, augmentation=header.augmentation)
    classes = teacher.classes if teacher else header.classes
    student = make_student(STUDENT, None, None, classes, args.img_size, 0)
    rows = pictures.classes if taught_by is None and teacher is None else None
    source = TrainingData(pictures, rows, taught_by, settings.augmentation, 0, args.img_size)
    folder = Path(tempfile.gettempdir())
    run = TrainingRun(
        TrainingTask(folder, student, source, None, student.labels, None, settings, 0),
        select_device(),
        Processes(),
        lambda _: None,
    )
    fed = _forever(source, args.batch)

    def step() -> None:
        batch = next(fed)
        if teacher is not None:
            answers = torch.from_numpy(
                teacher.probabilities(_at(batch.pixels.numpy(), teacher.preprocess.size))
            )
            known = torch.arange(classes).expand(len(answers), -1)
            batch = replace(batch, known=known, probabilities=answers.float())
        run.step(batch, 1e-5)

    return step


def _at(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """The views as a teacher of another size sees them; nearest pixels, which cost nothing."""
    places = np.arange(size) * pixels.shape[1] // size
    return pixels if pixels.shape[1] == size else pixels[:, places][:, :, places]


def _forever(source: TrainingData, batch: int) -> Iterator[TrainingBatch]:
    epoch = 0
    while True:
        yield from batches(source, epoch, order_of(0, epoch, len(source)), batch, 0)
        epoch += 1


if __name__ == "__main__":
    raise SystemExit(main())
