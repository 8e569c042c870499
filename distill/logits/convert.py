"""Converts a store to the format of the paper's released logits, or back.

A store is a folder of saved teacher predictions (module `store`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from tinyvit.data.class_folders import ImageFolder, read_image_folder
from tinyvit.distill.logits.header import HEADER_NAME, read_header
from tinyvit.distill.logits.paper_format import (
    open_paper_logits,
    read_records,
    write_paper_logits,
)
from tinyvit.distill.logits.records import TeacherPredictions
from tinyvit.distill.logits.store import Store, StoreWriter, open_store, require_matching_images
from tinyvit.errors import RequestError
from tinyvit.files import publish_files
from tinyvit.staging import staging_folder

_RECORDS_PER_WRITE = 2**14
"""Number of records that are converted at once. It limits the memory for their int64 and float64
copies, which are four times as large as the records."""


def convert_store(source: Path, data: Path, target_format: str, output: Path) -> list[Path]:
    """Convert a store to the format of the paper's released logits, or convert it back.

    Args:
        source: A store; for the format "store", a folder that this function wrote in the format
            "paper". Its copy of `store.json` is needed, because the paper's format does not state
            the augmentation.
        data: Folder of the images that the store was made from. In the paper's format, the path of
            an image is the key of its record.
        target_format: The format to write, "paper" or "store".
        output: Folder to create.

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
    convert = _convert_to_paper_format if target_format == "paper" else _convert_to_store
    with staging_folder(output) as folder:
        staged = folder / output.name
        staged.mkdir()
        paths = convert(source, images, staged)
        publish_files([staged], output.parent)
    return [output / path.name for path in paths]


def _convert_to_paper_format(source: Path, images: ImageFolder, output: Path) -> list[Path]:
    store = open_store(source)
    require_matching_images(store.header, source, images)
    folders = write_paper_logits(store, images.keys, output)
    shutil.copyfile(source / HEADER_NAME, output / HEADER_NAME)
    return folders


def _convert_to_store(source: Path, images: ImageFolder, output: Path) -> list[Path]:
    logits = open_paper_logits(source)
    if not (source / HEADER_NAME).is_file():
        raise RequestError(
            f"{source} has no {HEADER_NAME}, which states the augmentation of the logits",
            "use a folder that convert-logits wrote, or make a store with tinyvit-distill "
            "save-logits",
        )
    header = read_header(source / HEADER_NAME)
    require_matching_images(header, source, images)
    header.save(output / HEADER_NAME)
    store = Store(output, header)
    for epoch in sorted(logits.epoch_folders):
        records = read_records(logits, epoch, header, images.keys)
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
    return [store.epoch_path(epoch) for epoch in sorted(logits.epoch_folders)]
