"""Reads, validates and writes files in the format of the paper's released logits.

Each epoch is a folder "logits_top{K}_epoch{E}". It contains two files from each process (rank R)
that computed logits: "rank{R}-keys.txt", with one image key on each line, and "rank{R}-values.bin",
with one record for each key: int32 seed, K int16 class indices and K float16 probabilities, largest
first, little-endian. The keys here are image paths relative to the data set. Source:
microsoft/Cream, TinyViT/data/augmentation/manager.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyvit.distill.logits.header import StoreHeader
from tinyvit.distill.logits.records import Records
from tinyvit.distill.logits.store import Store
from tinyvit.errors import RequestError
from tinyvit.files import publish_files, staging_folder

MAX_KEY_FILE_BYTES = 2**31
MAX_CLASSES = 2**15
"""Number of classes that the signed 16-bit class indices allow."""
_EPOCH_FOLDER = re.compile(r"logits_top(\d+)_epoch(\d+)")
_EXPECTED_FOLDER = "give a folder that the paper's save_logits.py wrote"


@dataclass(frozen=True)
class PaperLogits:
    """A folder of logits in the paper's format.

    Attributes:
        top_k: Number K of classes in a record.
        epoch_folders: The folder of each epoch, by its number.
    """

    top_k: int
    epoch_folders: dict[int, Path]

    def read_ranks(self, epoch: int) -> Iterator[tuple[list[str], Records]]:
        """Read and validate the records of an epoch.

        Args:
            epoch: Number of the epoch, a key of `epoch_folders`.

        Yields:
            The keys and the records of each rank.

        Raises:
            RequestError: A file is missing or truncated, or a record is not valid.
        """
        value_paths = sorted(self.epoch_folders[epoch].glob("rank*-values.bin"))
        if not value_paths:
            raise RequestError(
                f"{self.epoch_folders[epoch]} contains no file rank*-values.bin", _EXPECTED_FOLDER
            )
        for path in value_paths:
            yield self._read_rank(path)

    def _read_rank(self, path: Path) -> tuple[list[str], Records]:
        dtype = make_paper_record_dtype(self.top_k)
        keys_path = path.with_name(path.name.replace("-values.bin", "-keys.txt"))
        keys, size_bytes = _read_keys(keys_path), path.stat().st_size
        if size_bytes != len(keys) * dtype.itemsize:
            raise RequestError(
                f"{path} has {size_bytes} bytes, but {keys_path.name} names {len(keys)} records of "
                f"{dtype.itemsize} bytes",
                "the file is truncated, or its folder name has a wrong top-k: download it again",
            )
        if not keys:  # np.memmap fails on an empty file
            return keys, np.zeros(0, dtype)
        records = np.memmap(path, dtype, mode="r", shape=(len(keys),))
        _validate(records, path)
        return keys, records


def make_paper_record_dtype(top_k: int) -> np.dtype[np.void]:
    """Return the numpy dtype of one record.

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
    matches = {
        path: match
        for path in sorted(Path(folder).glob("logits_top*_epoch*"))
        if (match := _EPOCH_FOLDER.fullmatch(path.name))
    }
    top_ks = sorted({int(match[1]) for match in matches.values()})
    if not top_ks:
        raise RequestError(
            f"{folder} contains no folder named logits_top{{K}}_epoch{{E}}", _EXPECTED_FOLDER
        )
    if len(top_ks) > 1 or not 1 <= top_ks[0] <= MAX_CLASSES:
        raise RequestError(
            f"{folder} contains epochs with top-k {', '.join(map(str, top_ks))}",
            f"{_EXPECTED_FOLDER}, with one top-k from 1 to {MAX_CLASSES}",
        )
    return PaperLogits(top_ks[0], {int(match[2]): path for path, match in matches.items()})


def write_paper_logits(store: Store, keys: tuple[str, ...], folder: Path) -> list[Path]:
    """Write every finished epoch of a store in the paper's format.

    Args:
        store: The store.
        keys: Keys of its images. The views of an image get the keys "key", "key#1", "key#2", ...
        folder: The folder to write the epoch folders in.

    Returns:
        The folder of each epoch.

    Raises:
        RequestError: The store has too many classes for this format, or is damaged.
    """
    header = store.header
    if header.num_classes > MAX_CLASSES:
        raise RequestError(
            f"the store has {header.num_classes} classes, and the paper's format allows at most "
            f"{MAX_CLASSES}",
            "use the store without converting it",
        )
    folders = []
    for epoch in range(store.epochs):
        path = folder / f"logits_top{header.top_k}_epoch{epoch}" / "rank0-values.bin"
        with staging_folder(path) as staged:
            records = store.read_epoch(epoch)
            store.verify_records(epoch, 0, records)
            text = "".join(f"{key}\n" for key in _view_keys(keys, header.views_per_image))
            (staged / "rank0-keys.txt").write_text(text, encoding="utf-8", errors="surrogateescape")
            values = _copy_fields(records, make_paper_record_dtype(header.top_k))
            (staged / path.name).write_bytes(values.tobytes())
            publish_files([staged / "rank0-keys.txt", staged / path.name], path.parent)
        folders.append(path.parent)
    return folders


def read_records(
    logits: PaperLogits, epoch: int, header: StoreHeader, keys: tuple[str, ...]
) -> Records:
    """Read an epoch as records of a store, in its order, with empty checksums.

    Args:
        logits: Logits in the paper's format.
        epoch: Number of the epoch, a key of `logits.epoch_folders`.
        header: Header of the store.
        keys: Keys of the store's images, in order.

    Returns:
        Records, (records_per_epoch,).

    Raises:
        RequestError: A record is missing or not valid.
    """
    positions = {key: index for index, key in enumerate(_view_keys(keys, header.views_per_image))}
    result = np.zeros(header.records_per_epoch, header.dtype)
    is_found = np.zeros(header.records_per_epoch, bool)
    for rank_keys, records in logits.read_ranks(epoch):
        targets = np.array([positions.get(key, -1) for key in rank_keys], np.int64)
        is_known = targets >= 0
        result[targets[is_known]] = _copy_fields(records[is_known], header.dtype)
        is_found[targets[is_known]] = True
    if not is_found.all():
        missing = keys[int(np.flatnonzero(~is_found)[0]) // header.views_per_image]
        raise RequestError(
            f"{logits.epoch_folders[epoch]} has no record of {missing}",
            "give --data the folder of images that the logits were computed from",
        )
    return result


def _view_keys(keys: tuple[str, ...], views: int) -> Iterator[str]:
    """Yield the keys of all records, in the order of the store."""
    return (key if view == 0 else f"{key}#{view}" for key in keys for view in range(views))


def _copy_fields(records: Records, dtype: np.dtype[np.void]) -> Records:
    copy = np.zeros(len(records), dtype)
    for name in ("seed", "classes", "probabilities"):
        copy[name] = records[name]
    return copy


def _read_keys(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MAX_KEY_FILE_BYTES:
            raise RequestError(
                f"{path} is larger than {MAX_KEY_FILE_BYTES >> 30} GiB",
                "give a file with one image key on each line",
            )
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        return [line.strip() for line in text.splitlines()]
    except OSError as error:
        raise RequestError(
            f"{path} cannot be read ({error.strerror})",
            "download it again: every file rank*-values.bin needs its rank*-keys.txt",
        ) from error


def _validate(records: Records, path: Path) -> None:
    """Raise an error for invalid or unsorted probabilities, and for classes that occur twice."""
    probabilities = records["probabilities"].astype(np.float32)
    sorted_classes = np.sort(records["classes"], axis=1)
    is_invalid = (
        ~np.isfinite(probabilities).all(1)
        | (probabilities < 0).any(1)
        | (probabilities.sum(1) > 1.01)
        | (np.diff(probabilities, axis=1) > 0).any(1)
        | (records["seed"] < 0)
        | (sorted_classes[:, 0] < 0)
        | (np.diff(sorted_classes, axis=1) == 0).any(1)
    )
    if is_invalid.any():
        raise RequestError(
            f"record {int(np.flatnonzero(is_invalid)[0])} of {path} is not a valid teacher output",
            "download the file again",
        )
