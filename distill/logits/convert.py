"""Converts a store to the format of the paper's released logits, or such logits to a store.

A store is a folder of saved teacher predictions (module `store`).
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyvit.data.class_folders import ImageFolder, read_image_folder
from tinyvit.distill.augmentation.probe import get_library_versions, hash_probe_views
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.augmentation.views import ViewSource
from tinyvit.distill.logits.header import HEADER_NAME, StoreHeader, TeacherInfo, read_header
from tinyvit.distill.logits.paper_format import (
    PaperLogits,
    open_paper_logits,
    read_records,
    write_paper_logits,
)
from tinyvit.distill.logits.records import Records, TeacherPredictions
from tinyvit.distill.logits.store import Store, StoreWriter, open_store, require_matching_images
from tinyvit.errors import RequestError
from tinyvit.files.file_io import publish_files
from tinyvit.files.staging import staging_folder
from tinyvit.labels import imagenet_labels
from tinyvit.progress import NullProgress, Progress
from tinyvit.text.plurals import format_count
from tinyvit.variants import IMAGENET_22K

_RECORDS_PER_WRITE = 2**14
"""Number of records that are converted at once. It limits the memory for their int64 and float64
copies, which are four times as large as the records."""


@dataclass(frozen=True)
class ReleasedLogits:
    """Describes files that the paper's code wrote with values that the files do not contain.

    Attributes:
        num_classes: Number of classes of the teacher.
        size: Width and height of the teacher's views in pixels.
    """

    num_classes: int = IMAGENET_22K
    size: int = 224


def convert_store(
    source: Path,
    data: Path,
    target_format: str,
    output: Path,
    released: ReleasedLogits = ReleasedLogits(),
    progress: Progress = NullProgress(),
) -> list[Path]:
    """Convert a store to the format of the paper's released logits, or such logits to a store.

    Args:
        source: A store; for the format "store", a folder in the format "paper". If this function
            wrote the folder, its copy of `store.json` states the augmentation. Without that file,
            the paper's code wrote the folder, and the views follow the paper's rules.
        data: Folder of the images that the store was made from. In the paper's format, the path of
            an image is the key of its record.
        target_format: The format to write, "paper" or "store".
        output: Folder to create.
        released: What files of the paper's code do not state; not used for others.
        progress: Receives the numbers of files and records that have been read and converted.

    Returns:
        The paths that were written, one for each epoch: folders in the format "paper", files in
        the format "store".

    Raises:
        RequestError: `output` exists, or `source` cannot be converted.
        OSError: A file cannot be written. Nothing is left behind then.
    """
    if output.exists():
        raise RequestError(f"{output} exists", "use -o with the name of a new folder")
    images = read_image_folder(data)
    with staging_folder(output) as folder:
        staged = folder / output.name
        staged.mkdir()
        if target_format == "paper":
            paths = _convert_to_paper_format(source, images, staged, progress)
        else:
            logits = open_paper_logits(source)
            header = _choose_header(source, logits, images, released)
            paths = _convert_to_store(logits, images, Store(staged, header), progress)
        publish_files([staged], output.parent)
    return [output / path.name for path in paths]


def _convert_to_paper_format(
    source: Path, images: ImageFolder, output: Path, progress: Progress
) -> list[Path]:
    store = open_store(source)
    require_matching_images(store.header, source, images)
    folders = write_paper_logits(store, images.keys, output, progress)
    shutil.copyfile(source / HEADER_NAME, output / HEADER_NAME)
    return folders


def _choose_header(
    source: Path, logits: PaperLogits, images: ImageFolder, released: ReleasedLogits
) -> StoreHeader:
    """Read the header that `convert_store` wrote beside the logits, or make that of the paper's."""
    if (source / HEADER_NAME).is_file():
        header = read_header(source / HEADER_NAME)
    else:
        header = _make_released_header(logits, images, released)
    require_matching_images(header, source, images)
    return header


def _convert_to_store(
    logits: PaperLogits, images: ImageFolder, store: Store, progress: Progress
) -> list[Path]:
    header = store.header
    header.save(store.folder / HEADER_NAME)
    epochs = sorted(logits.epoch_folders)
    for number, epoch in enumerate(epochs):
        records = read_records(logits, epoch, header, images.keys, progress)
        _require_known_classes(records, header.num_classes)
        with StoreWriter(store, epoch) as writer:
            for start in range(0, len(records), _RECORDS_PER_WRITE):
                block = records[start : start + _RECORDS_PER_WRITE]
                predictions = TeacherPredictions(
                    start=start,
                    seeds=block["seed"],
                    classes=block["classes"].astype(np.int64),
                    probabilities=block["probabilities"].astype(np.float64),
                )
                writer.write(predictions)
                done = number * len(records) + start + len(block)
                progress.advance("converting records", done, len(epochs) * len(records))
    return [store.epoch_path(epoch) for epoch in epochs]


def _make_released_header(
    logits: PaperLogits, images: ImageFolder, released: ReleasedLogits
) -> StoreHeader:
    """Return the header of a store of logits that the paper's code wrote."""
    augmentation = Augmentation(rule="paper")
    digest = hashlib.sha256()
    for _, records in logits.read_ranks(min(logits.epoch_folders)):
        for _, block in records.read_blocks():
            digest.update(block.tobytes())
    source = ViewSource(images.open, len(images), released.size, augmentation)
    return StoreHeader(
        teachers=(TeacherInfo("the teacher of the released logits", digest.hexdigest()),),
        num_classes=released.num_classes,
        top_k=logits.top_k,
        size=released.size,
        batch=1,
        seed=0,
        views_per_image=1,
        augmentation=augmentation,
        image_count=len(images),
        images_sha256=images.sha256,
        probe_sha256=hash_probe_views(source, images.keys, store_seed=0),
        versions=get_library_versions(),
        labels=imagenet_labels(released.num_classes),
    )


def _require_known_classes(records: Records, num_classes: int) -> None:
    """Raise an error if a class index is too large for the number of classes."""
    largest_class = int(records["classes"].max())
    if largest_class >= num_classes:
        raise RequestError(
            f"a record has the class {largest_class}, but the teacher has "
            f"{format_count(num_classes, 'class', 'classes')}",
            "use --num-classes with the number of the teacher's classes",
        )
