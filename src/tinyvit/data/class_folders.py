"""Listing folders of images that have one subfolder for each class.

`read_image_folder` is for training: the subfolders define the classes. `read_labeled_images` is for
validation (`tinyvit.quant.images.validation_data`): the subfolders are matched to the labels of a
model. The accuracy benchmark uses `tinyvit.data.dataset` instead. No image is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.data.class_folder_checks import (
    note_inner_folders,
    note_similar_names,
    require_class_level,
    require_filled_class_folders,
)
from tinyvit.data.label_matching import match_class_names
from tinyvit.data.listing import read_listing
from tinyvit.data.splits import SPLIT_NAMES, find_split_folder, refuse_unknown_splits
from tinyvit.errors import RequestError
from tinyvit.files.file_io import listing_sha256
from tinyvit.images.decoding import open_image
from tinyvit.labels import Label, labels_by_wnid
from tinyvit.text.plurals import format_count

_SPLIT_FOLDERS = frozenset(chain.from_iterable(SPLIT_NAMES.values()))
"""Names, in lower case, of folders that contain a split. They are not the names of classes."""


@dataclass(frozen=True)
class ImageFolder:
    """The images under a folder, and their classes if every image is in a class folder.

    A class folder is a subfolder that contains the images of one class and is named by the class.

    Attributes:
        folder: The folder that the keys are relative to.
        keys: Paths of the images relative to `folder`, with "/" as separator, sorted.
        labels: One label for each class folder, in the order of the folder names. None if an image
            is in no class folder.
        class_indices: Index in `labels` of each image's class, int64 (N,). None if `labels` is
            None.
        notes: Clauses for messages about what else the folder contains, such as hidden files.
    """

    folder: Path
    keys: tuple[str, ...]
    labels: tuple[Label, ...] | None
    class_indices: npt.NDArray[np.int64] | None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def describe(self) -> str:
        """Return the numbers of images and classes, and what was skipped, for messages."""
        counts = format_count(len(self), "image")
        if self.labels is not None:
            counts += f" of {format_count(len(self.labels), 'class', 'classes')}"
        return "; ".join((f"{counts} in {self.folder}", *self.notes))

    def require_class_folders(self, option: str | None = None) -> None:
        """Raise RequestError unless all images are in class folders.

        Args:
            option: The option that needs the class of every image, for the error message.
        """
        if self.labels is not None:
            return
        reason = f"{option} needs the class of every image, but " if option else ""
        outside = [key for key in self.keys if "/" not in key]
        if len(outside) == len(self):
            raise RequestError(
                f"{reason}{self.folder} has no class folders",
                "give a folder with one subfolder per class",
            )
        raise RequestError(
            f"{reason}{len(outside)} of the {len(self)} images in {self.folder} are in no class"
            f" folder, such as {outside[0]}, so {self.folder} has no class folders for all images",
            "move these images into class folders, or remove them",
        )

    def open(self, index: int) -> Image.Image:
        """Decode one image as RGB.

        The EXIF rotation is ignored, as it is in calibration and evaluation.

        Args:
            index: Index of the image in `keys`.

        Raises:
            ImageError: The image cannot be decoded.
        """
        return open_image(self.folder / self.keys[index], exif=False)

    @cached_property
    def sha256(self) -> str:
        """Return the hex digest of all keys and file sizes.

        File contents are not hashed, to save time.
        """
        return listing_sha256((key, self.folder / key) for key in self.keys)

    def find_class_indices(self, labels: tuple[Label, ...]) -> npt.NDArray[np.int64]:
        """Return the class of every image as an index into the labels of a model.

        Args:
            labels: The labels of the model. The label of each class folder must have the WordNet
                id of exactly one of them or, if no label of the model has this id, the same name.

        Returns:
            Indices into `labels`, int64 (N,), in the order of `keys`.

        Raises:
            RequestError: An image is in no class folder, or a class folder does not match exactly
                one label.
        """
        self.require_class_folders()
        assert self.labels is not None
        assert self.class_indices is not None
        wnids = {label.wnid for label in labels if label.wnid}
        # Class folders are matched by WordNet id if the model has it, otherwise by name.
        names = [label.wnid if label.wnid in wnids else label.name for label in self.labels]
        indices = match_class_names(names, labels, f"class folders in {self.folder}")
        return np.array([indices[name] for name in names], np.int64)[self.class_indices]


@dataclass(frozen=True)
class LabeledImages:
    """Image files and their classes as indices into the labels of a model.

    Attributes:
        files: The image files, sorted.
        class_indices: Index in the model's labels of each file's class, int64 (N,).
        notes: Clauses for messages about what else the folder contains, such as hidden files.
    """

    files: tuple[Path, ...]
    class_indices: npt.NDArray[np.int64]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def describe(self) -> str:
        """Return the numbers of images and classes, and what was skipped, for messages."""
        class_count = format_count(len(np.unique(self.class_indices)), "class", "classes")
        return "; ".join((f"{format_count(len(self), 'image')} of {class_count}", *self.notes))

    @property
    def sha256(self) -> str:
        """Return the hex digest of all class indices, folder and file names, and file sizes."""
        return listing_sha256(
            (f"{index}/{file.parent.name}/{file.name}", file)
            for index, file in zip(self.class_indices, self.files)
        )


def read_image_folder(folder: str | Path) -> ImageFolder:
    """List the training images of a folder, with their classes if all are in class folders.

    Args:
        folder: A folder of images at any depth. If it contains folders of splits, such as "train"
            and "val", only the images in "train" are listed.

    Returns:
        The images. The class folder of an image is the first folder in its key. If the name of a
        class folder is a WordNet id of ImageNet, the folder gets the label of that class.

    Raises:
        RequestError: `folder` is not a folder, or contains splits but not "train"; a class folder
            has no images; or the subfolders seem to be splits with unusual names, or a single
            folder that contains the class folders.
        ImageError: The folder cannot be read, or has no images.
    """
    folder = find_split_folder(folder, "train")
    if not os.path.isdir(folder):
        raise RequestError(
            f"{folder} is not a folder",
            "give a folder of images, or one with a subfolder per class",
        )
    listing = read_listing(folder)
    keys = tuple(sorted(listing.keys))
    if not all("/" in key for key in keys):
        return ImageFolder(folder, keys, None, None, listing.notes)
    require_filled_class_folders(folder, keys, listing)
    require_class_level(folder, keys)
    refuse_unknown_splits(folder, keys)
    names = [key.partition("/")[0] for key in keys]
    imagenet_labels, class_names = labels_by_wnid(), sorted(set(names))
    labels = tuple(imagenet_labels.get(name, Label(name)) for name in class_names)
    indices = {name: index for index, name in enumerate(class_names)}
    class_indices = np.array([indices[name] for name in names], np.int64)
    notes = (*listing.notes, *note_inner_folders(keys), *note_similar_names(class_names))
    return ImageFolder(folder, keys, labels, class_indices, notes)


def read_labeled_images(folder: str | Path, labels: Sequence[Label]) -> LabeledImages:
    """List images in class folders, with their classes as indices into a model's labels.

    Args:
        folder: A folder with one subfolder per class. The name of each subfolder must equal the
            WordNet id or the name of one label. If it contains folders of splits, such as "train"
            and "val", only the images in "val" are listed.
        labels: The labels of the model, in the order of its logits.

    Raises:
        RequestError: `folder` is not a folder, or contains splits but not "val"; an image is in no
            class folder; or a class folder has no images or matches no label.
        ImageError: The folder cannot be read, or has no images.
    """
    folder = find_split_folder(folder, "val")
    if not os.path.isdir(folder):
        raise RequestError(
            f"{folder} is not a folder", "give a folder with one subfolder per class"
        )
    listing = read_listing(folder)
    keys = listing.keys
    require_filled_class_folders(folder, keys, listing)
    # For an image that is in no subfolder, this is the file name. It matches no label, so the
    # image is refused.
    names = [key.partition("/")[0] for key in keys]
    has_loose_files = any("/" not in key for key in keys)
    description = "folders and files" if has_loose_files else "class folders"
    indices = match_class_names(names, labels, f"{description} in {folder}")
    class_indices = np.array([indices[name] for name in names], np.int64)
    notes = (*listing.notes, *note_inner_folders(keys))
    return LabeledImages(listing.make_paths(), class_indices, notes)


def class_folder_name(key: str) -> str:
    """Return the name of the class folder that contains an image.

    This is the first folder of the path. It is the second folder if there is one and the first has
    the name of a split: for "val/n01440764/1.jpg" it is "n01440764".

    Args:
        key: Path of the image relative to the root of the dataset, with "/" as separator. The image
            is in at least one folder.
    """
    folders = key.split("/")[:-1]
    is_in_split = len(folders) > 1 and folders[0].lower() in _SPLIT_FOLDERS
    return folders[1] if is_in_split else folders[0]
