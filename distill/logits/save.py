"""Filling a store: pictures and teachers in, `Store` out. Called again with the same, it goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.distill.logits.store import HEADER, Header, Store, Writer, batches, read_header, require
from tinyvit.distill.logits.teachers import Teacher, averaged, open_teachers
from tinyvit.distill.training.device import device
from tinyvit.distill.views.augment import Augmentation, probe, seed_of, versions, view
from tinyvit.distill.views.data import Pictures, read_pictures
from tinyvit.errors import RequestError

BATCH = 16
THREADS = 2
"""That make the views of the next batch while the teacher answers this one."""

Progress = Callable[[int, int, int], None]
"""(epoch, records done of it, records of it)."""


@dataclass(frozen=True)
class Asked:
    """What is asked of save-logits. teachers: see `teachers`. size: of the views, the teacher's own where None. ray: a cluster's
    address, "" for one of this machine's own, None for none. The others as in `Header`; top_k is the paper's for 1000 classes."""

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
class Answers:
    """Of the records from `start`: seeds (B,), classes (B, K), probabilities (B, K), largest first."""

    start: int
    seeds: npt.NDArray[np.uint32]
    classes: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]


def save_logits(asked: Asked, progress: Progress | None = None) -> Store:
    """Make the store, or what is missing of it. Raises RequestError where there is one of something else, or nothing can be stored."""
    if asked.epochs < 1:
        raise RequestError(f"--epochs {asked.epochs} is not possible", "give a whole number from 1")
    pictures, teachers = opened(asked)
    store = _begun(asked, _header(asked, pictures, teachers), pictures)
    for epoch in range(asked.epochs):
        if store.path(epoch).is_file():
            continue
        with Writer(store, epoch) as writer:
            todo = [span for span in batches(store.header) if not writer.done[slice(*span)].all()]
            done = store.header.samples - sum(end - start for start, end in todo)
            for answer in _answers(asked, store.header, pictures, teachers, epoch, todo):
                writer.write(answer.start, answer.seeds, answer.classes, answer.probabilities)
                done += len(answer.seeds)
                if progress is not None:
                    progress(epoch, done, store.header.samples)
    return Store(store.folder, store.header)


def opened(asked: Asked) -> tuple[Pictures, tuple[Teacher, ...]]:
    """What answers are made from."""
    return read_pictures(asked.data), open_teachers(asked.teachers, asked.size, device(asked.precision))  # type: ignore[arg-type]


def _header(asked: Asked, pictures: Pictures, teachers: tuple[Teacher, ...]) -> Header:
    size = asked.size or teachers[0].preprocess.size
    return Header(
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
        probe=probe(pictures.open, pictures.keys, asked.seed, size, asked.augmentation),
        versions=versions(),
        labels=teachers[0].labels,
    )


def _begun(asked: Asked, header: Header, pictures: Pictures) -> Store:
    """The store as it is there, made where it is not. Raises RequestError for one of something else."""
    path = asked.output / HEADER
    if not path.exists():
        if asked.output.is_dir() and any(asked.output.iterdir()):
            raise RequestError(f"{asked.output} holds other files", "give -o the name of a new folder")
        header.save(path)
    store = Store(asked.output, read_header(path))
    there = replace(store.header, versions=header.versions)
    if there != header:
        differing = [each.name for each in fields(Header) if getattr(there, each.name) != getattr(header, each.name)]
        if differing == ["probe"]:
            require(store, pictures)
        raise RequestError(
            f"{asked.output} was made of something else ({', '.join(differing)} differ)", "give -o a new folder, or ask for the same again"
        )
    return store


def _answers(
    asked: Asked, header: Header, pictures: Pictures, teachers: tuple[Teacher, ...], epoch: int, todo: list[tuple[int, int]]
) -> Iterator[Answers]:
    if asked.ray is None:
        yield from answers(header, pictures, teachers, epoch, todo)
        return
    from tinyvit.distill.logits import cluster

    yield from cluster.answers(asked, header, epoch, todo)


def answers(
    header: Header, pictures: Pictures, teachers: tuple[Teacher, ...], epoch: int, spans: list[tuple[int, int]]
) -> Iterator[Answers]:
    """What the teachers say to the records of each (start, end)."""
    with ThreadPoolExecutor(THREADS) if len(spans) > 1 else nullcontext() as pool:
        waiting = [pool.submit(_views, header, pictures, epoch, span) for span in spans[:1]] if pool else []
        for i, span in enumerate(spans):
            seeds, pixels = waiting.pop(0).result() if pool else _views(header, pictures, epoch, span)
            if pool and i + 1 < len(spans):
                waiting.append(pool.submit(_views, header, pictures, epoch, spans[i + 1]))
            yield largest(span[0], seeds, averaged(teachers, pixels), header.top_k)


def largest(start: int, seeds: npt.NDArray[np.uint32], probabilities: npt.NDArray[np.float64], top_k: int) -> Answers:
    """The K largest of each row of (B, classes), largest first, the first of equals first. Raises RequestError for NaN."""
    if not np.isfinite(probabilities).all():
        raise RequestError("the teacher answers NaN or infinity", "check its weights; --precision float32 where it overflows in 16 bits")
    classes = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return Answers(start, seeds, classes, np.take_along_axis(probabilities, classes, axis=1))


def _views(header: Header, pictures: Pictures, epoch: int, span: tuple[int, int]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """Seeds (B,) and pixels (B, S, S, 3) of the records of a span."""
    places = [divmod(record, header.views) for record in range(*span)]
    seeds = [seed_of(header.seed, epoch, pictures.keys[index], nth) for index, nth in places]
    made = [
        view(pictures.open, len(pictures), index, seed, header.size, header.augmentation).pixels for (index, _), seed in zip(places, seeds)
    ]
    return np.array(seeds, np.uint32), np.stack(made)
