"""Reads, validates and writes files in the format of the paper's released logits.

Each epoch is a folder "logits_top{K}_epoch{E}". It contains two files from each process that
computed logits; R is the number (rank) of the process. "rank{R}-keys.txt" has a key on each line:
the path of an image relative to the data set. "rank{R}-values.bin" has one little-endian record for
each key: the seed of the view (int32), K class indices (int16) and their probabilities (float16),
with the most probable class first. Source: microsoft/Cream, TinyViT/data/augmentation/manager.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinyvit.distill.logits.header import StoreHeader
from tinyvit.distill.logits.record_files import RecordFile
from tinyvit.distill.logits.record_keys import find_released_keys, make_record_keys
from tinyvit.distill.logits.records import Records
from tinyvit.distill.logits.seeds import check_ordered_seeds
from tinyvit.distill.logits.store import Store
from tinyvit.errors import RequestError
from tinyvit.files.file_io import publish_files
from tinyvit.files.regular_files import check_regular_file, read_bounded
from tinyvit.files.staging import staging_folder
from tinyvit.progress import NullProgress, Progress
from tinyvit.text.plurals import format_count

MAX_KEY_FILE_BYTES = 2**30
"""Largest size of a file of keys, because the whole file is read into memory. The paper's files
together have half of it."""
MAX_FILE_RECORDS = 2**24
"""Largest number of records in a file. ImageNet-22k has 14 million images."""
MAX_CLASSES = 2**15
"""Number of classes that the signed 16-bit class indices allow."""
_EPOCH_FOLDER = re.compile(r"logits_top(?P<top_k>\d+)_epoch(?P<epoch>\d+)")
_MAX_PROBABILITY_SUM = 1.01
"""Largest accepted sum of a record's probabilities; rounding to float16 may make it exceed 1."""
_FOLDER_REMEDY = "use a folder that the paper's save_logits.py wrote"


class RankRecords(NamedTuple):
    """The records that one process (rank) wrote for an epoch.

    Attributes:
        keys: The key of each record.
        records: The records, as many as keys, of the dtype that `make_paper_record_dtype` returns.
    """

    keys: list[str]
    records: RecordFile


@dataclass(frozen=True)
class PaperLogits:
    """A folder of logits in the paper's format.

    Attributes:
        top_k: Number K of classes in a record.
        epoch_folders: The folder of each epoch, by the number of the epoch.
    """

    top_k: int
    epoch_folders: dict[int, Path]

    def count_ranks(self, epoch: int) -> int:
        """Return the number of files with records of an epoch, a key of `epoch_folders`."""
        return len(list(self.epoch_folders[epoch].glob("rank*-values.bin")))

    def read_ranks(self, epoch: int) -> Iterator[RankRecords]:
        """Open and validate the records of an epoch, one rank after another.

        Args:
            epoch: Number of the epoch, a key of `epoch_folders`.

        Yields:
            The records of each rank.

        Raises:
            RequestError: A file is missing or truncated, or a record is not valid.
        """
        value_paths = sorted(self.epoch_folders[epoch].glob("rank*-values.bin"))
        if not value_paths:
            raise RequestError(
                f"{self.epoch_folders[epoch]} contains no file rank*-values.bin", _FOLDER_REMEDY
            )
        for path in value_paths:
            yield self._read_rank(path)

    def _read_rank(self, values_path: Path) -> RankRecords:
        """Validate a file rank*-values.bin, and read the file rank*-keys.txt beside it."""
        dtype = make_paper_record_dtype(self.top_k)
        keys_path = values_path.with_name(values_path.name.replace("-values.bin", "-keys.txt"))
        text = _read_key_lines(keys_path)
        # The lines are counted first, because a list of them takes many times as much memory.
        key_count = text.count(b"\n") + (not text.endswith(b"\n") and text != b"")
        size_bytes = check_regular_file(values_path).st_size
        if key_count > MAX_FILE_RECORDS:
            raise RequestError(
                f"{keys_path} names {key_count} records, more than {MAX_FILE_RECORDS}",
                _FOLDER_REMEDY,
            )
        if size_bytes != key_count * dtype.itemsize:
            raise RequestError(
                f"{values_path} has {size_bytes} bytes, but {keys_path.name} names "
                f"{format_count(key_count, 'record')} of {dtype.itemsize} bytes, so the file is "
                "truncated, or the name of its folder has a wrong top-k",
                "download the file again",
            )
        # Only line feeds separate keys: the name of a file may contain other separators of lines.
        keys = [
            line.strip() for line in text.decode("utf-8", "surrogateescape").split("\n")[:key_count]
        ]
        records = RecordFile(values_path, dtype, len(keys))
        _validate_records(records, values_path)
        return RankRecords(keys, records)


def make_paper_record_dtype(top_k: int) -> np.dtype[np.void]:
    """Return the numpy dtype of one record in the paper's format.

    Args:
        top_k: Number K of classes in a record.
    """
    return np.dtype(
        [("seed", "<i4"), ("classes", "<i2", (top_k,)), ("probabilities", "<f2", (top_k,))]
    )


def open_paper_logits(folder: str | Path) -> PaperLogits:
    """Open a folder of logits in the paper's format.

    Args:
        folder: The folder that contains the epoch folders.

    Raises:
        RequestError: There are no epoch folders, or they differ in top-k.
    """
    epoch_folders: dict[int, Path] = {}
    top_k_values: set[int] = set()
    for path in sorted(Path(folder).glob("logits_top*_epoch*")):
        match = _EPOCH_FOLDER.fullmatch(path.name)
        if match:
            top_k_values.add(int(match["top_k"]))
            epoch_folders[int(match["epoch"])] = path
    if not epoch_folders:
        raise RequestError(
            f"{folder} contains no folder named logits_top{{K}}_epoch{{E}}", _FOLDER_REMEDY
        )
    top_k = min(top_k_values)
    if len(top_k_values) > 1 or not 1 <= top_k <= MAX_CLASSES:
        raise RequestError(
            f"{folder} contains epochs with top-k {', '.join(map(str, sorted(top_k_values)))}",
            f"{_FOLDER_REMEDY}, with one top-k from 1 to {MAX_CLASSES}",
        )
    return PaperLogits(top_k, epoch_folders)


def write_paper_logits(
    store: Store, keys: tuple[str, ...], folder: Path, progress: Progress = NullProgress()
) -> list[Path]:
    """Write every finished epoch of a store in the paper's format.

    Args:
        store: The store.
        keys: Keys of the store's images, in order. If an image with the key KEY has several views,
            their records get the keys "KEY", "KEY#1", "KEY#2", ...
        folder: The folder in which the folders of the epochs are written.
        progress: Receives the number of records that have been written.

    Returns:
        The folder of each epoch.

    Raises:
        RequestError: The store has too many classes for the paper's format, or is damaged.
    """
    header = store.header
    if header.num_classes > MAX_CLASSES:
        raise RequestError(
            f"the store has {header.num_classes} classes, and the paper's format allows at most "
            f"{MAX_CLASSES}",
            "use the store without converting it",
        )
    record_keys = make_record_keys(keys, header.views_per_image)
    keys_text = "".join(f"{key}\n" for key in record_keys)
    paper_dtype = make_paper_record_dtype(header.top_k)
    epoch_folders = []
    for epoch in range(store.epochs):
        records = store.read_epoch(epoch)
        epoch_folder = folder / f"logits_top{header.top_k}_epoch{epoch}"
        with staging_folder(epoch_folder / "rank0-values.bin") as staged:
            keys_path, values_path = staged / "rank0-keys.txt", staged / "rank0-values.bin"
            keys_path.write_bytes(keys_text.encode("utf-8", "surrogateescape"))
            with values_path.open("wb") as values_file:
                for start, block in records.read_blocks():
                    store.verify_records(epoch, start, block)
                    values_file.write(_copy_fields(block, paper_dtype).tobytes())
                    done = epoch * header.records_per_epoch + start + len(block)
                    progress.advance(
                        "converting records", done, store.epochs * header.records_per_epoch
                    )
            publish_files([keys_path, values_path], epoch_folder)
        epoch_folders.append(epoch_folder)
    return epoch_folders


def read_records(
    logits: PaperLogits,
    epoch: int,
    header: StoreHeader,
    keys: tuple[str, ...],
    progress: Progress = NullProgress(),
) -> Records:
    """Read an epoch, and convert its records to records of a store, whose checksums are 0.

    Args:
        logits: Logits in the paper's format.
        epoch: Number of the epoch, a key of `logits.epoch_folders`.
        header: Header of the store that the records are for.
        keys: Keys of the store's images, in order.
        progress: Receives the number of files of the epoch that have been read.

    Returns:
        Records of the dtype and in the order of the store, (records_per_epoch,).

    Raises:
        RequestError: A record is missing or not valid.
    """
    record_keys = make_record_keys(keys, header.views_per_image)
    if header.augmentation.rule == "paper":
        first_keys = {key for rank in logits.read_ranks(epoch) for key in rank.keys[:1]}
        record_keys = find_released_keys(first_keys, keys)
    position_by_key = {key: position for position, key in enumerate(record_keys)}
    store_records = np.zeros(header.records_per_epoch, header.dtype)
    is_found = np.zeros(header.records_per_epoch, bool)
    no_position = -1  # for a key of an image that is not in the store
    for rank, (keys_of_rank, records) in enumerate(logits.read_ranks(epoch), start=1):
        positions = np.array(
            [position_by_key.get(key, no_position) for key in keys_of_rank], np.int64
        )
        for start, block in records.read_blocks():
            block_positions = positions[start : start + len(block)]
            is_known = block_positions != no_position
            known_positions = block_positions[is_known]
            store_records[known_positions] = _copy_fields(block[is_known], header.dtype)
            is_found[known_positions] = True
        progress.advance(f"reading epoch {epoch}, files", rank, logits.count_ranks(epoch))
    if not is_found.all():
        first_missing = int(np.flatnonzero(~is_found)[0])
        raise RequestError(
            f"{logits.epoch_folders[epoch]} has no record with the key "
            f"{record_keys[first_missing]}",
            "use --data with the folder of images that the logits were computed from",
        )
    check_ordered_seeds(header, epoch, keys, store_records["seed"].tolist())
    return store_records


def _copy_fields(records: Records, dtype: np.dtype[np.void]) -> Records:
    """Copy records to the dtype of the other format; in a store's records, checksums are 0."""
    copy = np.zeros(len(records), dtype)
    for name in ("seed", "classes", "probabilities"):
        copy[name] = records[name]
    return copy


def _read_key_lines(path: Path) -> bytes:
    """Read a file with one key on each line."""
    try:
        return read_bounded(path, MAX_KEY_FILE_BYTES)
    except ValueError as error:
        raise RequestError(
            f"{path} cannot be used: {error}", "use a file with one image key on each line"
        ) from error
    except OSError as error:
        raise RequestError(
            f"{path} cannot be read ({error.strerror})",
            "download it again, because every file rank*-values.bin needs its rank*-keys.txt",
        ) from error


def _validate_records(records: RecordFile, path: Path) -> None:
    """Raise an error for a record that the paper's code cannot have written.

    Probabilities must be finite, at least 0, sorted from the largest to the smallest, and not have
    a sum above `_MAX_PROBABILITY_SUM`. The classes of a record must differ. Seeds and class indices
    must be at least 0.
    """
    for start, block in records.read_blocks():
        is_invalid = _find_invalid_records(block)
        if is_invalid.any():
            raise RequestError(
                f"record {start + int(np.flatnonzero(is_invalid)[0])} of {path} is not a valid"
                " prediction",
                "download the file again",
            )


def _find_invalid_records(records: Records) -> npt.NDArray[np.bool_]:
    """Find the records that the paper's code cannot have written, as `_validate_records` says."""
    probabilities = records["probabilities"].astype(np.float32)
    sorted_classes = np.sort(records["classes"], axis=1)
    return np.asarray(
        ~np.isfinite(probabilities).all(1)
        | (probabilities < 0).any(1)
        | (probabilities.sum(1) > _MAX_PROBABILITY_SUM)
        | (np.diff(probabilities, axis=1) > 0).any(1)
        | (records["seed"] < 0)
        | (sorted_classes[:, 0] < 0)
        | (np.diff(sorted_classes, axis=1) == 0).any(1)
    )
