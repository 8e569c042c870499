"""Reads and writes the header of a store, the file `store.json`.

A store is a folder of saved teacher predictions, with one record for each view (augmented version
of an image) of each epoch. The header describes the contents and what they were made from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.logits.records import make_record_dtype
from tinyvit.errors import RequestError
from tinyvit.files.file_io import write_atomically
from tinyvit.labels import Label
from tinyvit.serialization import dump_readable_json, parse_dataclass, read_json

FORMAT = 2
"""Version of the store format."""
HEADER_NAME = "store.json"
MAX_HEADER_BYTES = 16 * 2**20
"""Largest size of a header; the labels of `MAX_CLASSES` classes fit into it."""
MAX_CLASSES = 2**16
"""Number of classes that the unsigned 16-bit class indices of a record allow."""
MAX_VIEW_SIZE = 4096
"""Largest width and height of a view in pixels, so that a damaged header cannot exhaust memory."""
MAX_VIEWS_PER_IMAGE = 256
"""Largest number of views of an image in an epoch. The paper uses one, or two."""
MAX_IMAGES = 2**28
"""Largest number of images of a store. ImageNet-22k has 14 million."""


@dataclass(frozen=True)
class TeacherInfo:
    """The identity of a teacher.

    Attributes:
        name: The text that selected the teacher on the command line; for a checkpoint file or an
            artifact, the file name without the folder.
        sha256: Hex SHA-256 of the teacher's weights or file.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class StoreHeader:
    """The description of a store: its contents and what they were made from.

    Attributes:
        teachers: The teachers. If there are several, the store holds the mean of their
            probabilities.
        num_classes: Number of classes of the teachers.
        top_k: Number K of classes in a record.
        size: Width and height of the views in pixels.
        batch: Number of views that the teachers predict at once.
        seed: Seed of the store, from which the seed of every view is computed.
        views_per_image: Number of views of each image in an epoch.
        augmentation: The augmentation settings.
        image_count: Number of images.
        images_sha256: Hex SHA-256 of the paths and sizes in bytes of all image files.
        probe_sha256: Hex SHA-256 of the pixels of a few views, which shows whether another machine
            makes the same views, see `probe.hash_probe_views`.
        versions: Versions of the libraries that made the views, see `probe.get_library_versions`.
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
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.num_classes:
            raise RequestError(
                f"--top-k {self.top_k} is not possible with {self.num_classes} classes",
                f"use a number from 1 to {self.num_classes}",
            )
        if self.num_classes > MAX_CLASSES:
            raise RequestError(
                f"the teacher has {self.num_classes} classes",
                f"use a teacher with at most {MAX_CLASSES} classes, which is the limit of a store",
            )
        if not 1 <= self.size <= MAX_VIEW_SIZE:
            raise RequestError(
                f"--img-size {self.size} is not possible",
                f"use a number of pixels from 1 to {MAX_VIEW_SIZE}",
            )
        if self.labels is not None and len(self.labels) != self.num_classes:
            raise RequestError(
                f"the teacher has {self.num_classes} classes and {len(self.labels)} labels",
                "use a teacher that has one label for each class",
            )
        if not 1 <= self.views_per_image <= MAX_VIEWS_PER_IMAGE or self.batch < 1:
            raise RequestError(
                f"--views is {self.views_per_image} and --batch is {self.batch}",
                f"use at least 1 for both, and at most {MAX_VIEWS_PER_IMAGE} views",
            )
        if not 1 <= self.image_count <= MAX_IMAGES:
            raise RequestError(
                f"the store has {self.image_count} images",
                f"use a store of 1 to {MAX_IMAGES} images",
            )

    def __hash__(self) -> int:
        # The cache in `ray_workers` needs a hash, and the method that `dataclass` generates would
        # fail, because `versions` is a dictionary.
        return hash((self.images_sha256, self.probe_sha256))

    @property
    def dtype(self) -> np.dtype[np.void]:
        """Return the numpy dtype of one record."""
        return make_record_dtype(self.top_k)

    @property
    def records_per_epoch(self) -> int:
        """Return the number of records in an epoch, one for each view of each image."""
        return self.image_count * self.views_per_image

    def batch_ranges(self) -> Iterator[range]:
        """Divide the records of an epoch into the batches that the teachers predict at once.

        The division is fixed, because a teacher's predictions for a view may depend slightly on
        the other views in its batch. So a resumed or distributed run stores the same values.

        Yields:
            The positions of the records of each batch.
        """
        for start in range(0, self.records_per_epoch, self.batch):
            yield range(start, min(start + self.batch, self.records_per_epoch))

    def save(self, path: Path) -> None:
        """Write the header as JSON. If writing fails, an existing file stays as it is.

        Args:
            path: The file to write or replace.
        """
        write_atomically(path, dump_readable_json(asdict(self), indent=1) + "\n")


def read_header(path: Path) -> StoreHeader:
    """Read a header that `StoreHeader.save` wrote.

    Args:
        path: The file.

    Raises:
        RequestError: The file is missing or damaged, or states another version of the format.
    """
    try:
        data = read_json(path, MAX_HEADER_BYTES)
        if isinstance(data, dict) and data.get("format") != FORMAT:
            raise ValueError(f"its format is {data.get('format')!r}, not {FORMAT}")
        return parse_dataclass(StoreHeader, data)
    except OSError as error:
        raise RequestError(
            f"{path.parent} is not a logits store ({error.strerror})",
            "use a folder that tinyvit-distill save-logits wrote",
        ) from error
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"{path} is damaged or of another version ({error})",
            "make the store again with tinyvit-distill save-logits",
        ) from error
