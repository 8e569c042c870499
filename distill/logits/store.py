"""The store: a folder with `store.json` and one file of records an epoch; what a teacher answered for every view, and the view's seed.

A record has a fixed size and its place, picture by picture and view by view, so any one is read without a search: crc32 of the rest and
of its place (uint32), seed (uint32), K class indices (uint16) and their probabilities (float16), largest first; little-endian. An epoch
in the making is a ".part" whose missing records are zeros: whatever stops a writer, finished records stay, and the next writer adds the
others.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.distill.augmentation.pictures import TrainingImages
from tinyvit.distill.augmentation.views import Augmentation, probe_views, versions
from tinyvit.errors import RequestError
from tinyvit.files import write_atomically
from tinyvit.labels import Label
from tinyvit.serialization import parse_dataclass

FORMAT = 1
HEADER = "store.json"
MAX_HEADER_BYTES = 16 * 2**20
MAX_CLASSES = 2**16
MAX_SIZE = 4096
Records = npt.NDArray[np.void]


@dataclass(frozen=True)
class TeacherInfo:
    """One teacher: its name as it was given, and the sha256 of its weights."""

    name: str
    sha256: str


@dataclass(frozen=True)
class StoreHeader:
    """What a store holds, and what it was made of. labels: of the teacher's classes, None where nobody named them. size: side of the views
    that the teacher saw, pixels. batch: views that the teacher saw at once. pictures, data: number of pictures and hash of their names and
    sizes. probe: `augment.probe` of them. versions: `augment.versions` where it was made."""

    teachers: tuple[TeacherInfo, ...]
    classes: int
    top_k: int
    size: int
    batch: int
    seed: int
    views: int
    augmentation: Augmentation
    pictures: int
    data: str
    probe: str
    versions: dict[str, str]
    labels: tuple[Label, ...] | None = None
    format: int = field(default=FORMAT)

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.classes:
            raise RequestError(
                f"--top-k {self.top_k} is not possible with {self.classes} classes",
                f"give 1 to {self.classes}",
            )
        if self.classes > MAX_CLASSES:
            raise RequestError(
                f"the teacher has {self.classes} classes", f"{MAX_CLASSES} fit a record"
            )
        if not 1 <= self.size <= MAX_SIZE:
            raise RequestError(
                f"views of {self.size} pixels are not possible", f"give --img-size 1 to {MAX_SIZE}"
            )
        if self.labels is not None and len(self.labels) != self.classes:
            raise RequestError(
                f"{len(self.labels)} labels are not those of {self.classes} classes",
                "give the teacher a label a class",
            )
        if self.views < 1 or self.batch < 1:
            raise RequestError(
                "--views and --batch count from 1", "leave them out, or give a positive number"
            )

    def __hash__(self) -> int:  # `versions` is a dict, which has none
        return hash((self.data, self.probe))

    @property
    def record(self) -> np.dtype[np.void]:
        """The layout of one record."""
        shape = (self.top_k,)
        return np.dtype(
            [
                ("crc", "<u4"),
                ("seed", "<u4"),
                ("classes", "<u2", shape),
                ("probabilities", "<f2", shape),
            ]
        )

    @property
    def samples(self) -> int:
        """Records of an epoch."""
        return self.pictures * self.views

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_atomically(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def read_header(path: Path) -> StoreHeader:
    """What `save` wrote. Raises RequestError where it is none."""
    try:
        if path.stat().st_size > MAX_HEADER_BYTES:
            raise ValueError(f"larger than {MAX_HEADER_BYTES >> 20} MiB")
        header = parse_dataclass(StoreHeader, json.loads(path.read_text(encoding="utf-8")))
        if header.format != FORMAT:
            raise ValueError(f"of format {header.format}")
        return header
    except OSError as error:
        raise RequestError(
            f"{path.parent} is no store of logits ({error.strerror})",
            "give the folder that save-logits made",
        ) from error
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"{path} is damaged or of another version ({error})",
            "make the store again with save-logits",
        ) from error


@dataclass(frozen=True)
class Store:
    """An open store."""

    folder: Path
    header: StoreHeader

    @cached_property
    def epochs(self) -> int:
        """Finished ones, counted from 0 without a gap."""
        count = 0
        while self.path(count).is_file():
            count += 1
        return count

    def path(self, epoch: int) -> Path:
        """Of a finished epoch."""
        return self.folder / f"epoch-{epoch:04d}.bin"

    def records(self, epoch: int) -> Records:
        """All records of a finished epoch, mapped and not read. Raises RequestError for one that is not there, or truncated."""
        path, header = self.path(epoch), self.header
        if epoch >= self.epochs:
            raise RequestError(
                f"{self.folder} has {self.epochs} finished epochs, not {epoch + 1}",
                "run save-logits again with --epochs",
            )
        size, wanted = path.stat().st_size, header.samples * header.record.itemsize
        if size != wanted:
            raise RequestError(
                f"{path} has {size} bytes instead of {wanted}: truncated, or another store's",
                "delete it and run save-logits again",
            )
        return np.memmap(path, header.record, mode="r", shape=(header.samples,))

    def answer(
        self, epoch: int, records: Records, place: int
    ) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Seed, classes (K,) and probabilities (K,) of one record of `records(epoch)`, checked as `check` does."""
        record = records[place : place + 1]
        self.check(epoch, place, record)
        return (
            int(record["seed"][0]),
            record["classes"][0].astype(np.int64),
            record["probabilities"][0].astype(np.float32),
        )

    def check(self, epoch: int, start: int, records: Records) -> None:
        """Raise RequestError where a record, of those from `start`, is not what was written."""
        values = records["probabilities"]
        right = (
            sound(records, start)
            & (records["classes"] < self.header.classes).all(1)
            & np.isfinite(values).all(1)
            & (values >= 0).all(1)
        )
        bad = np.flatnonzero(~right)
        if len(bad):
            raise RequestError(
                f"record {start + bad[0]} of {self.path(epoch)} is damaged",
                "delete the file and run the same save-logits again",
            )


def open_store(folder: str | Path) -> Store:
    """Raises RequestError where it is none, with the reason."""
    folder = Path(folder)
    if not (folder / HEADER).is_file() and any(folder.glob("logits_top*_epoch*")):
        raise RequestError(
            f"{folder} has the layout of the paper's release, whose augmentation is not reproduced here: logits of another crop are no use",
            "make a store with tinyvit-distill save-logits; check-logits and convert-logits read this one",
        )
    return Store(folder, read_header(folder / HEADER))


def require_matching_images(store: Store, pictures: TrainingImages) -> None:
    """Raise RequestError where a store is not of these pictures, or where this machine's augmentation gives other pixels."""
    header = store.header
    if header.pictures != len(pictures) or header.data != pictures.sha256:
        raise RequestError(
            f"{store.folder} was made for other pictures ({header.pictures}; {pictures.folder} has {len(pictures)})",
            "give the --data that save-logits had, or make a store for this",
        )
    if header.probe != probe_views(
        pictures.open, pictures.keys, header.seed, header.size, header.augmentation
    ):
        here = versions()
        differing = [
            f"{name} {then}, here {here.get(name, 'none')}"
            for name, then in header.versions.items()
            if here.get(name) != then
        ]
        raise RequestError(
            f"augmentation gives other pixels here than where {store.folder} was made ({'; '.join(differing) or 'the versions are equal'})",
            "install those versions, or make the store again here: logits of another crop are worse than none",
        )


class StoreWriter:
    """Fills one epoch of a store, batch by batch in any order; `done` tells which records are there already."""

    def __init__(self, store: Store, epoch: int) -> None:
        self.header, self._final = store.header, store.path(epoch)
        self._part = self._final.with_suffix(".part")
        self._part.touch()
        self._file = self._part.open("r+b")
        self._file.truncate(self.header.samples * self.header.record.itemsize)
        self.done = sound(np.fromfile(self._part, self.header.record), 0)

    def write(
        self,
        start: int,
        seeds: npt.NDArray[np.uint32],
        classes: npt.NDArray[np.int64],
        probabilities: npt.NDArray[np.float64],
    ) -> None:
        """Records from `start` on: (B,), (B, K), (B, K); see `pack_records`. On disk when it returns, for all that the system tells."""
        records = pack_records(self.header, start, seeds, classes, probabilities)
        left, at = memoryview(records.tobytes()), start * records.itemsize
        while left:  # the system may take less: 2 GiB are the most, and what fits a full disk
            written = os.pwrite(self._file.fileno(), left, at)
            left, at = left[written:], at + written
        self.done[start : start + len(records)] = True

    def close(self) -> None:
        """Name the epoch finished where it is."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self.done.all():
            os.replace(self._part, self._final)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pack_records(
    header: StoreHeader,
    start: int,
    seeds: npt.NDArray[np.uint32],
    classes: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
) -> Records:
    """Records with their checksums. Raises RequestError where a probability is no number."""
    if not np.isfinite(probabilities).all():
        raise RequestError(
            "the teacher answers NaN or infinity",
            "check its weights, and its precision: some overflow in 16 bits",
        )
    records = np.zeros(len(seeds), header.record)
    records["seed"], records["classes"], records["probabilities"] = seeds, classes, probabilities
    records["crc"] = _checksums(records, start)
    return records


def sound(records: Records, start: int) -> npt.NDArray[np.bool_]:
    """Which of the records from `start` are whole."""
    return np.asarray((records["crc"] == _checksums(records, start)) & (records["crc"] != 0))


def _checksums(records: Records, start: int) -> npt.NDArray[np.uint32]:
    """crc32 of every record's place and payload; never 0, which a record that was not written has."""
    payload = records.view(np.uint8).reshape(len(records), -1)[:, 4:]
    places = (zlib.crc32((start + i).to_bytes(8, "little")) for i in range(len(records)))
    return np.fromiter(
        (zlib.crc32(row.tobytes(), place) or 1 for row, place in zip(payload, places)),
        np.uint32,
        len(records),
    )


def batches(header: StoreHeader) -> Iterator[tuple[int, int]]:
    """(start, end) of the records that a teacher answers at once; the same whoever computes them."""
    for start in range(0, header.samples, header.batch):
        yield start, min(start + header.batch, header.samples)
