"""Pictures to train on: a folder -> `TrainingImages`, the files in an order that depends on their names alone, and the class of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.errors import RequestError
from tinyvit.files import listing_sha256
from tinyvit.images import list_images, open_image
from tinyvit.labels import Label, labels_by_wnid, match_class_names

SPLITS = ("train", "val")


@dataclass(frozen=True)
class TrainingImages:
    """keys: paths within the folder, with /, sorted. labels, classes: of the class folders in sorted order, and of every picture by its
    place in keys, int64 (N,); both None for a folder of pictures without class folders."""

    folder: Path
    keys: tuple[str, ...]
    labels: tuple[Label, ...] | None
    classes: npt.NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.keys)

    def open(self, index: int) -> Image.Image:
        """Picture `index`, RGB, a camera's rotation not honored, as calibration and evaluation read it. Raises ImageError where it
        cannot be decoded."""
        return open_image(self.folder / self.keys[index], exif=False)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of all names and sizes in bytes: what a store is made for."""
        return listing_sha256((key, self.folder / key) for key in self.keys)

    def known_as(self, labels: tuple[Label, ...]) -> npt.NDArray[np.int64]:
        """The class of every picture as a place in `labels`, by WordNet id or name. Raises RequestError for a folder that is none of
        them."""
        if self.labels is None or self.classes is None:
            raise RequestError(
                f"{self.folder} has no class folders", "give a folder with one folder a class"
            )
        wnids = {label.wnid for label in labels}
        names = [label.wnid if label.wnid in wnids else label.name for label in self.labels]
        rows = match_class_names(names, labels, f"class folders in {self.folder}")
        return np.array([rows[name] for name in names], np.int64)[self.classes]


def read_training_images(folder: str | Path) -> TrainingImages:
    """The pictures under a folder: of class folders where every picture lies in one, else without classes.

    Of a folder that holds "train" and "val", those in "train". Raises ImageError where there are none, RequestError where it is no folder.
    """
    folder = split_of(folder, "train")
    if not folder.is_dir():
        raise RequestError(
            f"{folder} is no folder", "give a folder of pictures, or with one folder a class"
        )
    keys = sorted(file.relative_to(folder).as_posix() for file in list_images(folder))
    names = [key.rpartition("/")[0].partition("/")[0] for key in keys]
    if not all(names):
        return TrainingImages(folder, tuple(keys), None, None)
    known, classes = labels_by_wnid(), sorted(set(names))
    places = {name: i for i, name in enumerate(classes)}
    labels = tuple(known.get(name, Label(name)) for name in classes)
    return TrainingImages(
        folder, tuple(keys), labels, np.array([places[name] for name in names], np.int64)
    )


def split_of(folder: str | Path, name: str) -> Path:
    """The part `name` of a folder that holds "train" and "val"; of any other, the folder itself."""
    folder = Path(folder)
    return folder / name if all((folder / split).is_dir() for split in SPLITS) else folder
