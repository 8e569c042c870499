"""Is a store whole, of these pictures, and of this teacher? What cannot be answered with yes is an error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tinyvit.distill.augmentation.pictures import TrainingImages, read_training_images
from tinyvit.distill.logits.release import open_release
from tinyvit.distill.logits.save import answers
from tinyvit.distill.logits.store import Store, batches, open_store, require_matching_images
from tinyvit.distill.logits.teachers import open_teachers
from tinyvit.distill.training.device import select_device
from tinyvit.errors import RequestError

TOLERANCE = 2e-2
"""Of a probability: kernels differ between machines, and 16 bits round."""


def check_store(folder: Path, data: Path | None, teachers: tuple[str, ...]) -> Iterator[str]:
    """A line for everything that holds. Raises RequestError at the first that does not."""
    if any(folder.glob("logits_top*_epoch*")):
        yield from _release(folder)
        return
    store = open_store(folder)
    for epoch in range(store.epochs):
        store.check(epoch, 0, store.records(epoch))
    if not store.epochs:
        raise RequestError(f"{folder} has no finished epoch", "run the same save-logits again")
    header = store.header
    yield f"{store.epochs} epochs of {header.samples} views, top {header.top_k} of {header.classes} classes: every record is whole"
    for part in sorted(folder.glob("epoch-*.part")):
        yield f"{part.stem} is unfinished, and is not used: the same save-logits goes on with it"
    if data is None:
        return
    pictures = read_training_images(data)
    require_matching_images(store, pictures)
    yield f"made for these {len(pictures)} pictures, whose views are the same here"
    if teachers:
        yield _taught(store, pictures, teachers)


def _taught(store: Store, pictures: TrainingImages, names: tuple[str, ...]) -> str:
    header = store.header
    found = open_teachers(names, header.size, select_device())
    if tuple(each.sha256 for each in found) != tuple(each.sha256 for each in header.teachers):
        raise RequestError(
            "these are other teachers' weights",
            f"it was taught by {', '.join(each.name for each in header.teachers)}",
        )
    span = next(batches(header))
    (now,) = answers(header, pictures, found, 0, [span])
    then = store.records(0)[slice(*span)]["probabilities"].astype(np.float64)
    worst = float(np.abs(then - now.probabilities).max())
    if worst > TOLERANCE:
        raise RequestError(
            f"the teacher answers otherwise here (a probability differs by {worst:.3f})",
            "make the store again",
        )
    return f"the teacher's probabilities differ by at most {worst:.1e} here"


def _release(folder: Path) -> Iterator[str]:
    release = open_release(folder)
    for epoch in sorted(release.epochs):
        count = sum(len(keys) for keys, _ in release.ranks(epoch))
        yield f"epoch {epoch}: {count} records of the release's layout, top {release.top_k}: every one is whole"
