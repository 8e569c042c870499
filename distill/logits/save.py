"""Fills a store (a folder of saved teacher outputs), and resumes an interrupted one."""

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
    Span,
    compute_predictions,
    open_images_and_teachers,
)
from tinyvit.errors import RequestError
from tinyvit.progress import NullProgress, Progress


def save_logits(request: LogitsRequest, progress: Progress | None = None) -> Store:
    """Make a store, or compute the missing records of an existing one.

    Args:
        request: The images, the teachers and the settings of the store.
        progress: Receives the number of finished views of each epoch.

    Returns:
        The store, with at least `request.epochs` finished epochs.

    Raises:
        RequestError: The folder contains another store or other files, or the request is
            impossible.
        ImageError: An image cannot be decoded.
    """
    if request.epochs < 1:
        raise RequestError(
            f"--epochs {request.epochs} is not possible", "give a whole number from 1"
        )
    inputs = open_images_and_teachers(request)
    store = _open_or_create(request, _make_header(request, inputs), inputs.images)
    for epoch in range(request.epochs):
        if not store.epoch_path(epoch).is_file():
            _fill_epoch(store, epoch, request, inputs, progress or NullProgress())
    return Store(store.folder, store.header)


def _fill_epoch(
    store: Store, epoch: int, request: LogitsRequest, inputs: ImagesAndTeachers, progress: Progress
) -> None:
    """Compute and write the missing batches of an epoch."""
    header = store.header
    description = f"epoch {epoch + 1} of {request.epochs}, views"
    with StoreWriter(store, epoch) as writer:
        missing = [
            span for span in header.batch_ranges() if not writer.is_written[slice(*span)].all()
        ]
        done = header.records_per_epoch - sum(end - start for start, end in missing)
        for outputs in _compute(request, header, inputs, epoch, missing):
            writer.write(outputs)
            done += len(outputs.seeds)
            progress.advance(description, done, header.records_per_epoch)


def _compute(
    request: LogitsRequest,
    header: StoreHeader,
    inputs: ImagesAndTeachers,
    epoch: int,
    spans: Sequence[Span],
) -> Iterator[TeacherPredictions]:
    if request.ray is None:
        return compute_predictions(header, inputs, epoch, spans)
    from tinyvit.distill.logits.ray_workers import compute_predictions_on_cluster

    return compute_predictions_on_cluster(request, header, epoch, spans)


def _make_header(request: LogitsRequest, inputs: ImagesAndTeachers) -> StoreHeader:
    images, teachers = inputs.images, inputs.teachers
    size = request.size or teachers[0].preprocess.size
    view_source = ViewSource(images.open, len(images), size, request.augmentation)
    return StoreHeader(
        teachers=tuple(teacher.info for teacher in teachers),
        num_classes=teachers[0].num_classes,
        top_k=request.top_k,
        size=size,
        batch=request.batch,
        seed=request.seed,
        views_per_image=request.views,
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
        if request.output.is_dir() and any(request.output.iterdir()):
            raise RequestError(
                f"{request.output} is not empty and is not a store",
                "give -o the name of a new folder",
            )
        header.save(path)
    store = Store(request.output, read_header(path))
    # Other library versions are accepted if they make the same views, which probe_sha256 shows.
    existing = replace(store.header, versions=header.versions)
    if existing != header:
        differences = [
            item.name
            for item in fields(StoreHeader)
            if getattr(existing, item.name) != getattr(header, item.name)
        ]
        if differences == ["probe_sha256"]:
            require_matching_images(store, images)  # its error names the library versions
        raise RequestError(
            f"the store in {request.output} was made from another request "
            f"({', '.join(differences)} differ)",
            "give -o a new folder, or repeat the command that made the store",
        )
    return store
