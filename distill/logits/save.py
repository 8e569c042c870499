"""Fills a store (a folder of saved teacher predictions), or resumes filling it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

from tinyvit.data.class_folders import ImageFolder
from tinyvit.distill.augmentation.probe import get_library_versions, hash_probe_views
from tinyvit.distill.augmentation.views import ViewSource
from tinyvit.distill.logits.header import HEADER_NAME, StoreHeader, read_header
from tinyvit.distill.logits.records import TeacherPredictions
from tinyvit.distill.logits.store import Store, StoreWriter, require_matching_images
from tinyvit.distill.logits.teacher_predictions import (
    ImagesAndTeachers,
    LogitsRequest,
    compute_predictions,
    open_images_and_teachers,
)
from tinyvit.errors import RequestError
from tinyvit.files.file_locks import FOLDER_LOCK_NAME, hold_lock
from tinyvit.files.staging import remove_abandoned_folders
from tinyvit.image_sizes import require_square
from tinyvit.progress import NullProgress, Progress


def save_logits(request: LogitsRequest, progress: Progress | None = None) -> Store:
    """Make a store, or compute the missing records of one that an equal request began.

    Args:
        request: The images, the teachers and the settings of the store.
        progress: Receives a message about the images, and the number of finished views of each
            epoch.

    Returns:
        The store, with at least `request.epochs` finished epochs.

    Raises:
        RequestError: The folder contains another store or other files, another process writes to
            it, or the request is impossible.
        ImageError: An image cannot be decoded.
        OSError: A file cannot be written, for example on a full disk. The records that were
            written before are kept, and a call with an equal request continues from them.
    """
    if request.epochs < 1:
        raise RequestError(
            f"--epochs {request.epochs} is not possible", "use a whole number from 1"
        )
    lock_file = request.output / FOLDER_LOCK_NAME
    with hold_lock(lock_file, f"the store {request.output}", "use -o with another folder"):
        return _fill_store(request, progress or NullProgress())


def _fill_store(request: LogitsRequest, progress: Progress) -> Store:
    """Make or complete a store while no other process writes to it."""
    inputs = open_images_and_teachers(request)
    store = _open_or_create(request, _make_header(request, inputs), inputs.images)
    progress.message(inputs.images.describe())
    for epoch in range(request.epochs):
        if not store.epoch_path(epoch).is_file():
            _fill_epoch(store, epoch, request, inputs, progress)
    return Store(store.folder, store.header)  # a new object, because `epochs` is cached


def _fill_epoch(
    store: Store, epoch: int, request: LogitsRequest, inputs: ImagesAndTeachers, progress: Progress
) -> None:
    """Compute and write the missing batches of an epoch."""
    header = store.header
    description = f"epoch {epoch + 1} of {request.epochs}, views"
    with StoreWriter(store, epoch) as writer:
        missing_batches = [
            batch
            for batch in header.batch_ranges()
            if not writer.is_written[batch.start : batch.stop].all()
        ]
        done_count = header.records_per_epoch - sum(len(batch) for batch in missing_batches)
        for predictions in _compute_batches(request, header, inputs, epoch, missing_batches):
            writer.write(predictions)
            done_count += len(predictions.seeds)
            progress.advance(description, done_count, header.records_per_epoch)


def _compute_batches(
    request: LogitsRequest,
    header: StoreHeader,
    inputs: ImagesAndTeachers,
    epoch: int,
    record_ranges: Sequence[range],
) -> Iterator[TeacherPredictions]:
    """Compute the predictions for batches in this process or, if requested, on a Ray cluster."""
    if request.ray_address is None:
        return compute_predictions(header, inputs, epoch, record_ranges)
    from tinyvit.distill.logits.ray_workers import compute_predictions_on_cluster

    return compute_predictions_on_cluster(request, header, epoch, record_ranges)


def _make_header(request: LogitsRequest, inputs: ImagesAndTeachers) -> StoreHeader:
    if request.augmentation.rule == "paper":
        raise RequestError(
            'a store cannot be made with the augmentation rule "paper", whose noise is not a part '
            "of the pixels that a teacher gets",
            'use the rule "project"',
        )
    images, teachers = inputs.images, inputs.teachers
    size = request.size or require_square(
        teachers[0].preprocess.size, f"the teacher {teachers[0].name}"
    )
    view_source = ViewSource(images.open, len(images), size, request.augmentation)
    return StoreHeader(
        teachers=tuple(teacher.info for teacher in teachers),
        num_classes=teachers[0].num_classes,
        top_k=request.top_k,
        size=size,
        batch=request.batch,
        seed=request.seed,
        views_per_image=request.views_per_image,
        augmentation=request.augmentation,
        image_count=len(images),
        images_sha256=images.sha256,
        probe_sha256=hash_probe_views(view_source, images.keys, request.seed),
        versions=get_library_versions(),
        labels=teachers[0].labels,
    )


def _open_or_create(request: LogitsRequest, header: StoreHeader, images: ImageFolder) -> Store:
    """Open the store in the output folder, or create it there.

    Raises:
        RequestError: The folder contains other files, or a store of another request.
    """
    path = request.output / HEADER_NAME
    if not path.exists():
        remove_abandoned_folders(request.output)  # a killed process leaves one beside its header
        if any(entry.name != FOLDER_LOCK_NAME for entry in request.output.iterdir()):
            raise RequestError(
                f"{request.output} is not empty and is not a store",
                "use -o with the name of a new folder",
            )
        header.save(path)
    store = Store(request.output, read_header(path))
    # Other library versions are accepted if they make the same views, which probe_sha256 shows.
    existing_header = replace(store.header, versions=header.versions)
    if existing_header != header:
        differences = [
            header_field.name
            for header_field in fields(StoreHeader)
            if getattr(existing_header, header_field.name) != getattr(header, header_field.name)
        ]
        if differences == ["probe_sha256"]:
            # This raises an error that names the versions.
            require_matching_images(store.header, store.folder, images)
        raise RequestError(
            f"the store in {request.output} was made from another request, with another value of "
            f"{' and of '.join(differences)}",
            "use -o with a new folder, or repeat the command that made the store",
        )
    return store
