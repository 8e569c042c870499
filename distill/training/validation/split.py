"""Divides images in class folders into training images and validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit.data.class_folders import ImageFolder, LabeledImages
from tinyvit.data.sampling import sample_stratified
from tinyvit.errors import RequestError
from tinyvit.labels import Label


@dataclass(frozen=True)
class ImageSplit:
    """A division of images.

    Attributes:
        training: Indices of the training images in `ImageFolder.keys`, int64 (T,), sorted.
        validation: Indices of the validation images, int64 (V,), sorted.
    """

    training: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]


def split_images(images: ImageFolder, share: float, seed: int) -> ImageSplit:
    """Choose the same share of every class as validation images.

    Within a class, images are ordered by a hash of the seed and of their keys, and the first ones
    are chosen. So the choice is the same on every machine, and changes little when images are
    added.

    Args:
        images: The images, all of which are in class folders.
        share: Share of the images of each class to choose, above 0 and below 1. The number is
            rounded, but at least one image of each class is chosen, and at least one is not.
        seed: Seed of the choice.

    Raises:
        RequestError: A class has only one image.
    """
    assert images.class_indices is not None
    assert images.labels is not None
    chosen: list[int] = []
    for class_index in range(len(images.labels)):
        members = np.flatnonzero(images.class_indices == class_index).tolist()
        if len(members) < 2:
            folder = images.keys[members[0]].partition("/")[0]
            raise RequestError(
                f"the class folder {folder} of {images.folder} has only one image, which cannot be "
                "divided into training and validation images",
                "add images to it, use --val-data with a folder of validation images, or use "
                "--val-split 0 to train on all images without validation",
            )
        count = min(max(int(share * len(members) + 0.5), 1), len(members) - 1)
        chosen += _choose_members(images.keys, members, count, seed)
    is_validation = np.zeros(len(images), bool)
    is_validation[chosen] = True
    return ImageSplit(np.flatnonzero(~is_validation), np.flatnonzero(is_validation))


def _choose_members(keys: Sequence[str], members: list[int], count: int, seed: int) -> list[int]:
    """Choose `count` of the images of one class by their keys."""

    def get_key(index: int) -> str:
        return keys[index]

    def get_group(_: int) -> tuple[str, ...]:
        return ()

    return sample_stratified(members, count, get_key, get_group, seed)


def make_labeled_images(
    images: ImageFolder, indices: npt.NDArray[np.int64], labels: tuple[Label, ...]
) -> LabeledImages:
    """Return some images of a folder with their classes as indices into the labels of a model.

    Args:
        images: The images, all of which are in class folders.
        indices: Indices of the images to return in `images.keys`, int64 (V,).
        labels: The labels of the model.

    Raises:
        RequestError: A class folder does not match exactly one label.
    """
    class_indices = images.class_indices
    if class_indices is None or labels != images.labels:
        class_indices = images.find_class_indices(labels)
    files = tuple(images.folder / images.keys[index] for index in indices)
    return LabeledImages(files, class_indices[indices])
