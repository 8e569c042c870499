"""Filling a store: pictures and teachers in, `Store` out. Called again with the same, it goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.distill.augmentation.pictures import TrainingImages, read_training_images
from tinyvit.distill.augmentation.views import (
    Augmentation,
    make_view,
    probe_views,
    versions,
    view_seed,
)
from tinyvit.distill.logits.store import (
    HEADER,
    Store,
    StoreHeader,
    StoreWriter,
    batches,
    read_header,
    require_matching_images,
)
from tinyvit.distill.logits.teachers import Teacher, average_probabilities, open_teachers
from tinyvit.distill.training.device import select_device
from tinyvit.errors import RequestError

BATCH = 16
THREADS = 2
"""That make the views of the next batch while the teacher answers this one."""

Progress = Callable[[int, int, int], None]
"""(epoch, records done of it, records of it)."""


@dataclass(frozen=True)
class LogitsRequest:
    """What is asked of save-logits. teachers: see `teachers`. size: of the views, the teacher's own where None. ray: a cluster's
    address, "" for one of this machine's own, None for none. The others as in `StoreHeader`; top_k is the paper's for 1000 classes."""

    data: Path
    teachers: tuple[str, ...]
    epochs: int
    output: Path
    top_k: int = 10
    size: int | None = None
    views: int = 1
    seed: int = 0
    batch: int = BATCH
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: str = "auto"
    ray: str | None = None


@dataclass(frozen=True)
class TeacherOutputs:
    """Of the records from `start`: seeds (B,), classes (B, K), probabilities (B, K), largest first."""

    start: int
    seeds: npt.NDArray[np.uint32]
    classes: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]


def save_logits(asked: LogitsRequest, progress: Progress | None = None) -> Store:
    """Make the store, or what is missing of it. Raises RequestError where there is one of something else, or nothing can be stored."""
    if asked.epochs < 1:
        raise RequestError(f"--epochs {asked.epochs} is not possible", "give a whole number from 1")
    pictures, teachers = opened(asked)
    store = _begun(asked, _header(asked, pictures, teachers), pictures)
    for epoch in range(asked.epochs):
        if store.path(epoch).is_file():
            continue
        with StoreWriter(store, epoch) as writer:
            todo = [span for span in batches(store.header) if not writer.done[slice(*span)].all()]
            done = store.header.samples - sum(end - start for start, end in todo)
            for answer in _answers(asked, store.header, pictures, teachers, epoch, todo):
                writer.write(answer.start, answer.seeds, answer.classes, answer.probabilities)
                done += len(answer.seeds)
                if progress is not None:
                    progress(epoch, done, store.header.samples)
    return Store(store.folder, store.header)


def opened(asked: LogitsRequest) -> tuple[TrainingImages, tuple[Teacher, ...]]:
    """What answers are made from."""
    device = select_device(asked.precision)  # type: ignore[arg-type]
    return read_training_images(asked.data), open_teachers(asked.teachers, asked.size, device)


def _header(
    asked: LogitsRequest, pictures: TrainingImages, teachers: tuple[Teacher, ...]
) -> StoreHeader:
    size = asked.size or teachers[0].preprocess.size
    return StoreHeader(
        teachers=tuple(teacher.taught for teacher in teachers),
        classes=teachers[0].classes,
        top_k=asked.top_k,
        size=size,
        batch=asked.batch,
        seed=asked.seed,
        views=asked.views,
        augmentation=asked.augmentation,
        pictures=len(pictures),
        data=pictures.sha256,
        probe=probe_views(pictures.open, pictures.keys, asked.seed, size, asked.augmentation),
        versions=versions(),
        labels=teachers[0].labels,
    )


def _begun(asked: LogitsRequest, header: StoreHeader, pictures: TrainingImages) -> Store:
    """The store as it is there, made where it is not. Raises RequestError for one of something else."""
    path = asked.output / HEADER
    if not path.exists():
        if asked.output.is_dir() and any(asked.output.iterdir()):
            raise RequestError(
                f"{asked.output} holds other files", "give -o the name of a new folder"
            )
        header.save(path)
    store = Store(asked.output, read_header(path))
    there = replace(store.header, versions=header.versions)
    if there != header:
        differing = [
            each.name
            for each in fields(StoreHeader)
            if getattr(there, each.name) != getattr(header, each.name)
        ]
        if differing == ["probe"]:
            require_matching_images(store, pictures)
        raise RequestError(
            f"{asked.output} was made of something else ({', '.join(differing)} differ)",
            "give -o a new folder, or ask for the same again",
        )
    return store


def _answers(
    asked: LogitsRequest,
    header: StoreHeader,
    pictures: TrainingImages,
    teachers: tuple[Teacher, ...],
    epoch: int,
    todo: list[tuple[int, int]],
) -> Iterator[TeacherOutputs]:
    if asked.ray is None:
        yield from answers(header, pictures, teachers, epoch, todo)
        return
    from tinyvit.distill.logits import cluster

    yield from cluster.answers(asked, header, epoch, todo)


def answers(
    header: StoreHeader,
    pictures: TrainingImages,
    teachers: tuple[Teacher, ...],
    epoch: int,
    spans: list[tuple[int, int]],
) -> Iterator[TeacherOutputs]:
    """What the teachers say to the records of each (start, end)."""
    with ThreadPoolExecutor(THREADS) if len(spans) > 1 else nullcontext() as pool:
        waiting = (
            [pool.submit(_views, header, pictures, epoch, span) for span in spans[:1]]
            if pool
            else []
        )
        for i, span in enumerate(spans):
            seeds, pixels = (
                waiting.pop(0).result() if pool else _views(header, pictures, epoch, span)
            )
            if pool and i + 1 < len(spans):
                waiting.append(pool.submit(_views, header, pictures, epoch, spans[i + 1]))
            yield largest(span[0], seeds, average_probabilities(teachers, pixels), header.top_k)


def largest(
    start: int, seeds: npt.NDArray[np.uint32], probabilities: npt.NDArray[np.float64], top_k: int
) -> TeacherOutputs:
    """The K largest of each row of (B, classes), largest first, the first of equals first. Raises RequestError for NaN."""
    if not np.isfinite(probabilities).all():
        raise RequestError(
            "the teacher answers NaN or infinity",
            "check its weights; --precision float32 where it overflows in 16 bits",
        )
    classes = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return TeacherOutputs(start, seeds, classes, np.take_along_axis(probabilities, classes, axis=1))


def _views(
    header: StoreHeader, pictures: TrainingImages, epoch: int, span: tuple[int, int]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """Seeds (B,) and pixels (B, S, S, 3) of the records of a span."""
    places = [divmod(record, header.views) for record in range(*span)]
    seeds = [view_seed(header.seed, epoch, pictures.keys[index], nth) for index, nth in places]
    made = [
        make_view(
            pictures.open, len(pictures), index, seed, header.size, header.augmentation
        ).pixels
        for (index, _), seed in zip(places, seeds)
    ]
    return np.array(seeds, np.uint32), np.stack(made)
