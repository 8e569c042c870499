"""Reads and writes stores. A store is a folder of saved teacher predictions.

A store contains `store.json` and one file of records for each epoch. There is one record for each
view (augmented version of an image), at the position image_index * views_per_image + view_number,
so the file needs no index. An unfinished epoch is a file with the suffix ".part", in which missing
records are zeros. If writing is interrupted, the records that were written are kept, and the next
writer adds the missing ones.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from tinyvit.data.class_folders import ImageFolder
from tinyvit.distill.augmentation.probe import get_library_versions, hash_probe_views
from tinyvit.distill.augmentation.views import ViewSource
from tinyvit.distill.logits.header import HEADER_NAME, StoreHeader, read_header
from tinyvit.distill.logits.record_files import RecordFile, divide_into_blocks, write_at
from tinyvit.distill.logits.records import (
    Records,
    TeacherPredictions,
    find_intact_records,
    pack_records,
)
from tinyvit.errors import RequestError
from tinyvit.files.file_io import name_file_in_errors
from tinyvit.files.regular_files import check_regular_file
from tinyvit.text.plurals import format_count


@dataclass(frozen=True)
class TeacherRecord:
    """The stored teacher predictions for one view.

    Attributes:
        seed: Seed of the view.
        classes: Indices of the K classes, the most probable class first, int64 (K,).
        probabilities: Probabilities of these classes, float32 (K,).
    """

    seed: int
    classes: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Store:
    """An open store.

    Attributes:
        folder: The folder of the store.
        header: The description of the contents, from `store.json`.
    """

    folder: Path
    header: StoreHeader

    @cached_property
    def epochs(self) -> int:
        """Return the number of finished epochs before the first unfinished or missing one."""
        count = 0
        while self.epoch_path(count).is_file():
            count += 1
        return count

    def epoch_path(self, epoch: int) -> Path:
        """Return the path that the file of an epoch has when it is finished.

        Args:
            epoch: Epoch, from 0.
        """
        return self.folder / f"epoch-{epoch:04d}.bin"

    def read_epoch(self, epoch: int) -> RecordFile:
        """Open the records of a finished epoch, which are read when they are indexed.

        Args:
            epoch: Epoch, from 0.

        Returns:
            All records of the epoch, not yet verified.

        Raises:
            RequestError: The epoch does not exist, or its file is truncated.
        """
        path, header = self.epoch_path(epoch), self.header
        if epoch >= self.epochs:
            raise RequestError(
                f"{self.folder} has {format_count(self.epochs, 'finished epoch')}, but "
                f"{epoch + 1} are needed",
                f"run save-logits again with --epochs {epoch + 1} or more",
            )
        size_bytes = check_regular_file(path).st_size
        expected_bytes = header.records_per_epoch * header.dtype.itemsize
        if size_bytes != expected_bytes:
            raise RequestError(
                f"{path} has {size_bytes} bytes instead of {expected_bytes}, so it is truncated or "
                "belongs to another store",
                "delete this file and run the same save-logits command again",
            )
        return RecordFile(path, header.dtype, header.records_per_epoch)

    def read_record(self, epoch: int, records: RecordFile, position: int) -> TeacherRecord:
        """Read one record and verify it.

        Args:
            epoch: Epoch that the records belong to, for the error message.
            records: The records of the epoch, from `read_epoch`.
            position: Position of the record in the epoch.

        Raises:
            RequestError: The record is damaged, or the file has become shorter.
        """
        one_record = records.read_range(position, position + 1)
        self.verify_records(epoch, position, one_record)
        record = one_record[0]
        return TeacherRecord(
            seed=int(record["seed"]),
            classes=record["classes"].astype(np.int64),
            probabilities=record["probabilities"].astype(np.float32),
        )

    def verify_records(self, epoch: int, start: int, records: Records | RecordFile) -> None:
        """Verify the checksums and value ranges of consecutive records.

        Args:
            epoch: Epoch that the records belong to, for the error message.
            start: Position of `records[0]` in the epoch.
            records: Records, (B,).

        Raises:
            RequestError: A record is damaged.
        """
        for block in divide_into_blocks(len(records), self.header.dtype.itemsize):
            block_start = start + block.start
            is_valid = self._find_valid_records(records[block], block_start)
            if not is_valid.all():
                first_damaged = block_start + int(np.flatnonzero(~is_valid)[0])
                raise RequestError(
                    f"record {first_damaged} of {self.epoch_path(epoch)} is damaged",
                    "delete the file and run the same save-logits command again",
                )

    def _find_valid_records(self, records: Records, start: int) -> npt.NDArray[np.bool_]:
        """Find the records that have a correct checksum, and possible classes and probabilities."""
        probabilities = records["probabilities"]
        return np.asarray(
            find_intact_records(records, start)
            & (records["classes"] < self.header.num_classes).all(1)
            & np.isfinite(probabilities).all(1)
            & (probabilities >= 0).all(1)
        )


def open_store(folder: str | Path) -> Store:
    """Open a store.

    Args:
        folder: The folder of the store.

    Raises:
        RequestError: The folder is not a store, or it is in the format of the paper's released
            logits.
    """
    folder = Path(folder)
    if any(folder.glob("logits_top*_epoch*")):
        raise RequestError(
            f"{folder} is in the format of the paper's released logits, and not a store",
            "make a store of it with tinyvit-distill convert-logits --format store",
        )
    return Store(folder, read_header(folder / HEADER_NAME))


def require_matching_images(header: StoreHeader, folder: Path, images: ImageFolder) -> None:
    """Check that augmenting these images on this machine gives the views that the teacher saw.

    Args:
        header: The header of the store, which states its images.
        folder: The folder of the store, for error messages.
        images: The images to make views of.

    Raises:
        RequestError: The store was made from other images, or the augmentation gives other pixels
            on this machine than on the machine that made the store.
    """
    if header.image_count != len(images) or header.images_sha256 != images.sha256:
        raise RequestError(
            f"{folder} was made from other images "
            f"({format_count(header.image_count, 'image')}) than those in {images.folder} "
            f"({format_count(len(images), 'image')})",
            "use the same --data as for save-logits, or make a store from these images",
        )
    source = ViewSource(images.open, len(images), header.size, header.augmentation)
    if header.probe_sha256 != hash_probe_views(source, images.keys, header.seed):
        raise RequestError(
            f"the augmentation gives other pixels here than where {folder} was made "
            f"({_describe_version_differences(header.versions)})",
            "install the library versions of the store, or make the store again on this machine",
        )


def _describe_version_differences(store_versions: dict[str, str]) -> str:
    """Describe, for an error message, which versions differ between a store and this machine."""
    versions_here = get_library_versions()
    differences = [
        f"{name} {version}, here {versions_here.get(name, 'missing')}"
        for name, version in store_versions.items()
        if versions_here.get(name) != version
    ]
    return "; ".join(differences) or "the library versions are equal"


class StoreWriter:
    """Writes the records of one epoch, in batches in any order.

    Attributes:
        is_written: Whether the file already contains each record of the epoch, bool
            (records_per_epoch,).
    """

    def __init__(self, store: Store, epoch: int) -> None:
        """Open the unfinished file of the epoch, or create it.

        Args:
            store: The store.
            epoch: Epoch, from 0.

        Raises:
            OSError: The file cannot be created, or cannot become as large as the epoch.
        """
        self._header = store.header
        self._final_path = store.epoch_path(epoch)
        self._part_path = self._final_path.with_suffix(".part")
        self._part_path.touch()
        self._file = self._part_path.open("r+b")
        with name_file_in_errors(self._part_path):
            # `truncate` also extends a shorter file; the new bytes are zeros.
            self._file.truncate(self._header.records_per_epoch * self._header.dtype.itemsize)
        records = RecordFile(self._part_path, self._header.dtype, self._header.records_per_epoch)
        self.is_written = np.concatenate(
            [find_intact_records(block, start) for start, block in records.read_blocks()]
        )

    def write(self, predictions: TeacherPredictions) -> None:
        """Write the records of consecutive views to the file.

        Args:
            predictions: The teacher's predictions for these views.

        Raises:
            RequestError: A probability is NaN or infinite.
            OSError: The file cannot be written, for example on a full disk.
        """
        records = pack_records(predictions, self._header.top_k)
        start, end = predictions.start, predictions.start + len(records)
        with name_file_in_errors(self._part_path):
            write_at(self._file.fileno(), records.tobytes(), start * records.itemsize)
        self.is_written[start:end] = True

    def close(self) -> None:
        """Write the file to the disk; give it its final name if no record is missing."""
        try:
            with name_file_in_errors(self._part_path):
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
        if self.is_written.all():
            os.replace(self._part_path, self._final_path)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
