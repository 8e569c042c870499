"""The header of a store, `store.json`: what the store holds and what it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from tinyvit.distill.augmentation.views import Augmentation
from tinyvit.distill.logits.records import record_dtype
from tinyvit.errors import RequestError
from tinyvit.files import write_atomically
from tinyvit.labels import Label
from tinyvit.serialization import parse_dataclass

FORMAT = 2
HEADER_NAME = "store.json"
MAX_HEADER_BYTES = 16 * 2**20
MAX_CLASSES = 2**16
MAX_VIEW_SIZE = 4096


@dataclass(frozen=True)
class TeacherInfo:
    """Which teacher made a store.

    Attributes:
        name: The teacher as it was named on the command line.
        sha256: Hex digest of its weights.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class StoreHeader:
    """The contents of a store and the inputs that it was made from.

    Attributes:
        teachers: The teachers, whose probabilities were averaged.
        classes: Number of the teacher's classes.
        top_k: Number of classes that a record keeps.
        size: Side of the views that the teacher saw, in pixels.
        batch: Number of views that the teacher saw at once.
        seed: Seed of all views.
        views: Views of each image in an epoch.
        augmentation: The augmentation settings.
        images: Number of images.
        images_sha256: Hex digest of the names and sizes of all image files.
        probe_sha256: Hex digest of a few views, see `views.hash_probe_views`.
        versions: Library versions that decided the pixels, see `views.library_versions`.
        labels: Labels of the teacher's classes; None if they are not known.
        format: Version of the store format.
    """

    teachers: tuple[TeacherInfo, ...]
    classes: int
    top_k: int
    size: int
    batch: int
    seed: int
    views: int
    augmentation: Augmentation
    images: int
    images_sha256: str
    probe_sha256: str
    versions: dict[str, str]
    labels: tuple[Label, ...] | None = None
    format: int = field(default=FORMAT)

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.classes:
            raise RequestError(
                f"--top-k {self.top_k} is not possible with {self.classes} classes",
                f"give a number from 1 to {self.classes}",
            )
        if self.classes > MAX_CLASSES:
            raise RequestError(
                f"the teacher has {self.classes} classes",
                f"a store holds at most {MAX_CLASSES} classes",
            )
        if not 1 <= self.size <= MAX_VIEW_SIZE:
            raise RequestError(
                f"--img-size {self.size} is not possible",
                f"give a number of pixels from 1 to {MAX_VIEW_SIZE}",
            )
        if self.labels is not None and len(self.labels) != self.classes:
            raise RequestError(
                f"the teacher has {self.classes} classes and {len(self.labels)} labels",
                "give the teacher one label per class",
            )
        if self.views < 1 or self.batch < 1:
            raise RequestError(
                f"--views {self.views} and --batch {self.batch} must be positive",
                "give numbers from 1, or leave them out",
            )

    def __hash__(self) -> int:  # the dictionary `versions` cannot be hashed
        return hash((self.images_sha256, self.probe_sha256))

    @property
    def record(self) -> np.dtype[np.void]:
        """The layout of one record."""
        return record_dtype(self.top_k)

    @property
    def records_per_epoch(self) -> int:
        """Number of records of an epoch: one for each view of each image."""
        return self.images * self.views

    def batch_spans(self) -> Iterator[tuple[int, int]]:
        """Yield the records that the teacher sees at once, as (start, end).

        The batches are the same whoever computes them, because logits may depend on the batch.
        """
        for start in range(0, self.records_per_epoch, self.batch):
            yield start, min(start + self.batch, self.records_per_epoch)

    def save(self, path: Path) -> None:
        """Write the header as JSON, whole or not at all.

        Args:
            path: The file to write or replace.
        """
        write_atomically(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def read_header(path: Path) -> StoreHeader:
    """Read a header that `StoreHeader.save` wrote.

    Args:
        path: The file.

    Raises:
        RequestError: The file is missing, damaged or of another format.
    """
    try:
        if path.stat().st_size > MAX_HEADER_BYTES:
            raise ValueError(f"it is larger than {MAX_HEADER_BYTES >> 20} MiB")
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and data.get("format") != FORMAT:
            raise ValueError(f"its format is {data.get('format')!r}, not {FORMAT}")
        return parse_dataclass(StoreHeader, data)
    except OSError as error:
        raise RequestError(
            f"{path.parent} is not a store of logits ({error.strerror})",
            "give the folder that tinyvit-distill save-logits wrote",
        ) from error
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"{path} is damaged or of another version ({error})",
            "make the store again with tinyvit-distill save-logits",
        ) from error
