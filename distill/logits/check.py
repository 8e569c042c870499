"""Checks that saved teacher predictions are undamaged, and come from certain images and teachers.

The predictions are in a store, or in the format of the logits that the paper released.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tinyvit.data.class_folders import ImageFolder, read_image_folder
from tinyvit.distill.logits.header import HEADER_NAME, StoreHeader, read_header
from tinyvit.distill.logits.paper_format import PaperLogits, open_paper_logits
from tinyvit.distill.logits.record_keys import split_record_key
from tinyvit.distill.logits.seeds import check_ordered_seeds, check_seeds
from tinyvit.distill.logits.store import Store, open_store, require_matching_images
from tinyvit.distill.logits.teacher_predictions import ImagesAndTeachers, compute_predictions
from tinyvit.distill.logits.teachers import open_teachers
from tinyvit.distill.training.device import select_device
from tinyvit.errors import RequestError
from tinyvit.progress import NullProgress, Progress
from tinyvit.text.plurals import format_count
from tinyvit.text.safe_text import quote_argument

MAX_PROBABILITY_DIFFERENCE = 2e-2
"""Largest accepted difference between a stored probability and the same probability as this machine
computes it. A small difference is normal, because records are float16 and machines use different
kernels."""


def check_store(
    folder: Path,
    data: Path | None,
    teachers: tuple[str, ...],
    progress: Progress = NullProgress(),
) -> Iterator[str]:
    """Check a store, or a folder of the paper's released logits.

    Args:
        folder: The folder to check.
        data: Folder of the images that the store was made from; None skips the checks of images and
            teachers. It must be None for the paper's released logits, which do not state them.
        teachers: Texts that select the teachers of the store, as on the command line. Their
            predictions for one batch are compared with the stored ones. An empty tuple skips this
            check.
        progress: Receives the number of records, and of epochs, that have been checked.

    Yields:
        One sentence for each check that passed.

    Raises:
        RequestError: A check failed, or is not possible for the paper's released logits.
    """
    if any(folder.glob("logits_top*_epoch*")):
        if data is not None:
            raise RequestError(
                f"{folder} is in the format of the paper's released logits, whose images and "
                "teachers cannot be checked",
                "leave out --data and --teacher",
            )
        yield from _check_paper_logits(folder, progress)
        return
    store = open_store(folder)
    _verify_records(store, progress)
    if not store.epochs:
        raise RequestError(
            f"{folder} has no finished epoch", "run the same save-logits command again"
        )
    header = store.header
    yield (
        f"All records are intact: {format_count(store.epochs, 'epoch')} of "
        f"{format_count(header.records_per_epoch, 'view')}, top {header.top_k} of "
        f"{format_count(header.num_classes, 'class', 'classes')}."
    )
    for part in sorted(folder.glob("epoch-*.part")):
        yield f"{part.stem} is not finished and not used; the same save-logits command resumes it."
    if data is None:
        return
    images = read_image_folder(data)
    require_matching_images(header, folder, images)
    for epoch in range(store.epochs):
        seeds = store.read_epoch(epoch).read_field("seed").tolist()
        check_ordered_seeds(header, epoch, images.keys, seeds)
        progress.advance("checking the views, epochs", epoch + 1, store.epochs)
    yield (
        f"The store was made from the {format_count(len(images), 'image')} in {data}, and this "
        "machine makes the same views."
    )
    if teachers:
        yield _check_teachers(store, images, teachers)


def _verify_records(store: Store, progress: Progress) -> None:
    """Verify all records of a store, one block after another."""
    epoch_records = store.header.records_per_epoch
    for epoch in range(store.epochs):
        for start, block in store.read_epoch(epoch).read_blocks():
            store.verify_records(epoch, start, block)
            done = epoch * epoch_records + start + len(block)
            progress.advance("checking records", done, store.epochs * epoch_records)


def _check_teachers(store: Store, images: ImageFolder, names: tuple[str, ...]) -> str:
    """Compare the first batch of a store with what the teachers predict on this machine.

    Returns:
        The sentence for `check_store` to yield.
    """
    header = store.header
    teachers = open_teachers(names, header.size, select_device())
    hashes_here = [teacher.sha256 for teacher in teachers]
    if hashes_here != [teacher.sha256 for teacher in header.teachers]:
        raise RequestError(
            "the store was made with other teachers, with other weights of these teachers, or with "
            "these teachers in another order",
            "use "
            + " ".join(f"--teacher {quote_argument(teacher.name)}" for teacher in header.teachers),
        )
    batch = next(header.batch_ranges())
    inputs = ImagesAndTeachers(images, teachers)
    (predictions,) = compute_predictions(header, inputs, epoch=0, record_ranges=[batch])
    records = store.read_epoch(0)[batch.start : batch.stop]
    stored_probabilities = records["probabilities"].astype(np.float64)
    difference = float(np.abs(stored_probabilities - predictions.probabilities).max())
    if difference > MAX_PROBABILITY_DIFFERENCE:
        raise RequestError(
            "the teacher's predictions on this machine differ from the stored ones (a probability "
            f"differs by {difference:.3f}; at most {MAX_PROBABILITY_DIFFERENCE} is accepted)",
            "make the store again on this machine",
        )
    return (
        "The probabilities that the teacher predicts on this machine differ from the stored ones "
        f"by at most {difference:.1e}."
    )


def _check_paper_logits(folder: Path, progress: Progress) -> Iterator[str]:
    logits = open_paper_logits(folder)
    file_count = sum(logits.count_ranks(epoch) for epoch in logits.epoch_folders)
    checked_files = 0
    if (folder / HEADER_NAME).is_file():
        _check_seeds_of_header(logits, read_header(folder / HEADER_NAME))
    for epoch in sorted(logits.epoch_folders):
        count = 0
        for rank_records in logits.read_ranks(epoch):
            count += len(rank_records.keys)
            checked_files += 1
            progress.advance("checking records, files", checked_files, file_count)
        yield (
            f"Epoch {epoch}: all records are valid ({format_count(count, 'record')} in the "
            f"paper's format, top {logits.top_k})."
        )


def _check_seeds_of_header(logits: PaperLogits, header: StoreHeader) -> None:
    """Check that the seeds are those that the header of a converted store implies."""
    for epoch in logits.epoch_folders:
        for keys, records in logits.read_ranks(epoch):
            seeds = records.read_field("seed").tolist()
            identities = ((*split_record_key(key), seed) for key, seed in zip(keys, seeds))
            check_seeds(header, epoch, identities)
