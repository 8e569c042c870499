"""The header of a store: the file `store.json`, which describes the contents and their origin.

A store is a folder of saved teacher outputs, with one record for each view (augmented version of an
image) of each epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.logits.records import make_record_dtype
from tinyvit.errors import RequestError
from tinyvit.files import write_atomically
from tinyvit.labels import Label
from tinyvit.serialization import parse_dataclass

FORMAT = 2
"""Version of the store format."""
HEADER_NAME = "store.json"
MAX_HEADER_BYTES = 16 * 2**20
MAX_CLASSES = 2**16
MAX_VIEW_SIZE = 4096


@dataclass(frozen=True)
class TeacherInfo:
    """The identity of a teacher.

    Attributes:
        name: The teacher as it was named on the command line, or its file name.
        sha256: Hex digest of its weights.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class StoreHeader:
    """A description of a store: its contents and what they were made from.

    Attributes:
        teachers: The teachers; their probabilities are averaged.
        num_classes: Number of classes of the teachers.
        top_k: Number K of classes in a record.
        size: Side of the views in pixels.
        batch: Batch size of the teachers.
        seed: Seed of all views.
        views_per_image: Number of views of each image in an epoch.
        augmentation: The augmentation settings.
        image_count: Number of images.
        images_sha256: Hex SHA-256 of the paths and sizes of all image files.
        probe_sha256: Hex SHA-256 of the pixels of a few views, to find out whether another
            machine makes the same views, see `views.hash_probe_views`.
        versions: Versions of the libraries that made the views, see `views.get_library_versions`.
        labels: Labels of the classes; None if they are not known.
        format: Version of the store format.
    """

    teachers: tuple[TeacherInfo, ...]
    num_classes: int
    top_k: int
    size: int
    batch: int
    seed: int
    views_per_image: int
    augmentation: Augmentation
    image_count: int
    images_sha256: str
    probe_sha256: str
    versions: dict[str, str]
    labels: tuple[Label, ...] | None = None
    format: int = field(default=FORMAT)

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.num_classes:
            raise RequestError(
                f"--top-k {self.top_k} is not possible with {self.num_classes} classes",
                f"give a number from 1 to {self.num_classes}",
            )
        if self.num_classes > MAX_CLASSES:
            raise RequestError(
                f"the teacher has {self.num_classes} classes",
                f"a store holds at most {MAX_CLASSES} classes",
            )
        if not 1 <= self.size <= MAX_VIEW_SIZE:
            raise RequestError(
                f"--img-size {self.size} is not possible",
                f"give a number of pixels from 1 to {MAX_VIEW_SIZE}",
            )
        if self.labels is not None and len(self.labels) != self.num_classes:
            raise RequestError(
                f"the teacher has {self.num_classes} classes and {len(self.labels)} labels",
                "give the teacher one label per class",
            )
        if self.views_per_image < 1 or self.batch < 1:
            raise RequestError(
                f"--views is {self.views_per_image} and --batch is {self.batch}",
                "both must be at least 1",
            )

    def __hash__(
        self,
    ) -> int:  # for the cache in `ray_workers`; `versions`, a dictionary, has no hash
        return hash((self.images_sha256, self.probe_sha256))

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The numpy dtype of one record."""
        return make_record_dtype(self.top_k)

    @property
    def records_per_epoch(self) -> int:
        """Number of records in an epoch, one for each view of each image."""
        return self.image_count * self.views_per_image

    def batch_ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the positions of the records in each batch of the teachers, as (start, end).

        The division into batches is fixed, because a teacher's outputs may differ slightly with
        the batch: a resumed or distributed run must store the same values.
        """
        for start in range(0, self.records_per_epoch, self.batch):
            yield start, min(start + self.batch, self.records_per_epoch)

    def save(self, path: Path) -> None:
        """Write the header as JSON. If writing fails, an existing file is unchanged.

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
            f"{path.parent} is not a logits store ({error.strerror})",
            "give the folder that tinyvit-distill save-logits wrote",
        ) from error
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"{path} is damaged or of another version ({error})",
            "make the store again with tinyvit-distill save-logits",
        ) from error
