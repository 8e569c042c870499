"""Checks that a store of teacher outputs is undamaged, and belongs to given images and teachers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tinyvit.data.class_folders import ImageFolder, read_image_folder
from tinyvit.distill.logits.paper_format import open_paper_logits
from tinyvit.distill.logits.store import Store, open_store, require_matching_images
from tinyvit.distill.logits.teacher_predictions import ImagesAndTeachers, compute_predictions
from tinyvit.distill.logits.teachers import open_teachers
from tinyvit.distill.training.device import select_device
from tinyvit.errors import RequestError

MAX_PROBABILITY_DIFFERENCE = 2e-2
"""Largest accepted difference between a stored probability and one computed here. They differ
slightly because records are float16 and machines use different kernels."""


def check_store(folder: Path, data: Path | None, teachers: tuple[str, ...]) -> Iterator[str]:
    """Check a store, or a folder of the paper's released logits.

    Args:
        folder: The folder to check.
        data: Folder of the images that the store was made from; None skips this check.
        teachers: The teachers of the store, as they are named on the command line. Their outputs
            for one batch are compared with the stored ones; empty skips this check.

    Yields:
        One sentence for each check that passed.

    Raises:
        RequestError: A check failed.
    """
    if any(folder.glob("logits_top*_epoch*")):
        yield from _check_paper_logits(folder)
        return
    store = open_store(folder)
    for epoch in range(store.epochs):
        store.verify_records(epoch, 0, store.read_epoch(epoch))
    if not store.epochs:
        raise RequestError(
            f"{folder} has no finished epoch", "run the same save-logits command again"
        )
    header = store.header
    yield (
        f"All records are intact: {store.epochs} epochs of {header.records_per_epoch} views, "
        f"top {header.top_k} of {header.num_classes} classes."
    )
    for part in sorted(folder.glob("epoch-*.part")):
        yield f"{part.stem} is not finished and not used; the same save-logits command resumes it."
    if data is None:
        return
    images = read_image_folder(data)
    require_matching_images(store, images)
    yield f"The store belongs to these {len(images)} images, and this machine makes the same views."
    if teachers:
        yield _check_teacher(store, images, teachers)


def _check_teacher(store: Store, images: ImageFolder, names: tuple[str, ...]) -> str:
    """Compare the stored outputs of the first batch with what the teachers compute here."""
    header = store.header
    teachers = open_teachers(names, header.size, select_device())
    if tuple(teacher.sha256 for teacher in teachers) != tuple(
        teacher.sha256 for teacher in header.teachers
    ):
        raise RequestError(
            "the store was made by another teacher, or by one with other weights",
            "give " + " ".join(f"--teacher {teacher.name}" for teacher in header.teachers),
        )
    span = next(header.batch_ranges())
    (outputs,) = compute_predictions(header, ImagesAndTeachers(images, teachers), 0, [span])
    stored = store.read_epoch(0)[slice(*span)]["probabilities"].astype(np.float64)
    difference = float(np.abs(stored - outputs.probabilities).max())
    if difference > MAX_PROBABILITY_DIFFERENCE:
        raise RequestError(
            f"the teacher's outputs on this machine differ from the stored ones (a probability "
            f"differs by {difference:.3f})",
            "make the store again on this machine",
        )
    return f"The teacher's probabilities on this machine differ by at most {difference:.1e}."


def _check_paper_logits(folder: Path) -> Iterator[str]:
    logits = open_paper_logits(folder)
    for epoch in sorted(logits.epoch_folders):
        count = sum(len(keys) for keys, _ in logits.read_ranks(epoch))
        yield (
            f"Epoch {epoch}: all {count} records are valid (the paper's format, "
            f"top {logits.top_k})."
        )
