"""Reading folders that have one subfolder for each class, for training and for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.data.label_matching import match_class_names
from tinyvit.data.listing import list_images
from tinyvit.errors import RequestError
from tinyvit.files import listing_sha256
from tinyvit.images import open_image
from tinyvit.labels import Label, labels_by_wnid

SPLITS = ("train", "val")
"""The subfolders of a folder that is divided into images to train on and to validate on."""
_SPLIT_NAMES = (*SPLITS, "validation", "test")


@dataclass(frozen=True)
class ImageFolder:
    """The images under a folder, with the class of each where they lie in class folders.

    Attributes:
        folder: The folder that the keys are relative to.
        keys: Paths of the images within the folder, with "/", sorted.
        labels: One label for each class folder, in sorted order of the folder names. None for a
            folder without class folders.
        class_indices: For each image its index in `labels`, int64 (N,). None where `labels` is.
    """

    folder: Path
    keys: tuple[str, ...]
    labels: tuple[Label, ...] | None
    class_indices: npt.NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.keys)

    def open(self, index: int) -> Image.Image:
        """Decode one image as RGB.

        The EXIF rotation is ignored, as it is in calibration and evaluation.

        Args:
            index: The position of the image in `keys`.

        Raises:
            ImageError: The image cannot be decoded.
        """
        return open_image(self.folder / self.keys[index], exif=False)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of all keys and file sizes in bytes. The contents do not enter."""
        return listing_sha256((key, self.folder / key) for key in self.keys)

    def class_indices_in(self, labels: tuple[Label, ...]) -> npt.NDArray[np.int64]:
        """Return the class of every image as an index into the labels of a model.

        Args:
            labels: The labels of the model. A class folder matches by WordNet id or label, exactly.

        Returns:
            Indices into `labels`, int64 (N,), in the order of `keys`.

        Raises:
            RequestError: There are no class folders, or one matches no label.
        """
        if self.labels is None or self.class_indices is None:
            raise RequestError(
                f"{self.folder} has no class folders", "give a folder with one subfolder per class"
            )
        wnids = {label.wnid for label in labels if label.wnid}
        names = [label.wnid if label.wnid in wnids else label.name for label in self.labels]
        indices = match_class_names(names, labels, f"class folders in {self.folder}")
        return np.array([indices[name] for name in names], np.int64)[self.class_indices]


@dataclass(frozen=True)
class LabeledImages:
    """Image files with the class of each as an index into the labels of a model.

    Attributes:
        files: The image files, sorted.
        class_indices: The class of each file, int64 (N,).
    """

    files: tuple[Path, ...]
    class_indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def sha256(self) -> str:
        """Hex digest of all class indices, folder and file names, and file sizes in bytes."""
        return listing_sha256(
            (f"{index}/{file.parent.name}/{file.name}", file)
            for index, file in zip(self.class_indices, self.files)
        )


def read_image_folder(folder: str | Path) -> ImageFolder:
    """List the images of a folder to train on, with classes where all lie in class folders.

    Args:
        folder: A folder of images at any depth. Where it holds "train" and "val", the images are
            those in "train".

    Returns:
        The images. An image's class folder is the first folder of its key. A folder that is named
        by a WordNet id of ImageNet gets the label of that class.

    Raises:
        RequestError: `folder` is not a folder.
        ImageError: The folder cannot be read, or has no images.
    """
    folder = split_folder(folder, "train")
    if not folder.is_dir():
        raise RequestError(
            f"{folder} is not a folder",
            "give a folder of images, or one with a subfolder per class",
        )
    keys = tuple(sorted(file.relative_to(folder).as_posix() for file in list_images(folder)))
    names = [key.rpartition("/")[0].partition("/")[0] for key in keys]
    if not all(names):
        return ImageFolder(folder, keys, None, None)
    known_labels, class_names = labels_by_wnid(), sorted(set(names))
    indices = {name: index for index, name in enumerate(class_names)}
    labels = tuple(known_labels.get(name, Label(name)) for name in class_names)
    return ImageFolder(folder, keys, labels, np.array([indices[name] for name in names], np.int64))


def read_labeled_images(folder: str | Path, labels: Sequence[Label]) -> LabeledImages:
    """List the images of class folders with their classes in a model.

    Args:
        folder: A folder in which every image lies in a class folder, named by a WordNet id or a
            label, exactly.
        labels: The labels of the model, in the order of its logits.

    Raises:
        RequestError: `folder` is not a folder, an image is in no class folder, or a class folder
            matches no label.
        ImageError: The folder cannot be read, or has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RequestError(
            f"{folder} is not a folder", "give a folder with one subfolder per class"
        )
    files = list_images(folder)
    names = [file.relative_to(folder).parts[0] for file in files]
    indices = match_class_names(names, labels, f"folders and files in {folder}")
    return LabeledImages(tuple(files), np.array([indices[name] for name in names], np.int64))


def split_folder(folder: str | Path, split: str) -> Path:
    """Return the subfolder of a split, or the folder itself where it is not divided into splits.

    Args:
        folder: A folder that may hold both "train" and "val".
        split: "train" or "val".
    """
    folder = Path(folder)
    return folder / split if all((folder / name).is_dir() for name in SPLITS) else folder


def class_folder_name(key: str) -> str:
    """Return the name of the class folder that an image lies in.

    It is the first folder of the key, or the second where the first is named as a split is, such as
    in "val/n01440764/1.jpg".

    Args:
        key: A path within the data, with "/" and at least one folder.
    """
    folders = key.split("/")[:-1]
    is_in_split = len(folders) > 1 and folders[0].lower() in _SPLIT_NAMES
    return folders[1] if is_in_split else folders[0]
