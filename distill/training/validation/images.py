"""Finds the validation images of a training run: in a folder, or among the images of --data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinyvit.data.class_folders import ImageFolder
from tinyvit.data.splits import find_split_folder, list_splits
from tinyvit.distill.logits.store import Store
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.validation.split import ImageSplit, make_labeled_images, split_images
from tinyvit.errors import RequestError
from tinyvit.labels import Label
from tinyvit.preprocess import Preprocess
from tinyvit.quant.images.validation_data import ValidationSet, read_validation_set


@dataclass(frozen=True)
class ValidationSource:
    """The place of the validation images of a run. At most one of the attributes is not None.

    Attributes:
        folder: The folder of the validation images, which has class folders.
        split: The division of the images of --data.
    """

    folder: Path | None = None
    split: ImageSplit | None = None

    def read(
        self, images: ImageFolder, preprocess: Preprocess, labels: tuple[Label, ...]
    ) -> ValidationSet | None:
        """List the validation images. No image is decoded yet.

        Args:
            images: The images of --data.
            preprocess: The preprocessing of the student.
            labels: The labels of the checkpoints that the run saves.

        Returns:
            The images; None if there are none.

        Raises:
            RequestError: A class folder does not match exactly one label.
        """
        if self.split is not None:
            labeled_images = make_labeled_images(images, self.split.validation, labels)
            return ValidationSet(labeled_images, preprocess)
        if self.folder is not None:
            return read_validation_set(self.folder, preprocess, labels)
        return None


def find_validation_images(
    request: TrainingRequest, images: ImageFolder, store: Store | None
) -> ValidationSource:
    """Find the validation images: in --val-data, else in `val` of --data, else by a split.

    Args:
        request: The request to train.
        images: The images of --data.
        store: The teacher's saved predictions; None trains from class labels only.

    Raises:
        RequestError: The request requires a split but there are other validation images or no
            class folders, a class has too few images for a split, the store mixes images, or the
            request states a patience but there are no validation images.
    """
    source = ValidationSource(folder=find_validation_folder(request))
    val_split = request.config.val_split
    if source.folder is None and val_split and _has_class_folders(request, images):
        _refuse_mixed_images(store)
        source = ValidationSource(split=split_images(images, val_split, request.config.seed))
    elif source.folder is not None and val_split and request.requires_split:
        raise RequestError(
            f"--val-split {val_split:g} was given, but {source.folder} has validation images",
            f"leave out --val-split, or use --data {images.folder} to ignore them",
        )
    if request.config.patience and source == ValidationSource():
        raise RequestError(
            f"--patience {request.config.patience} was given, but there are no validation images",
            "use --val-data with a folder of validation images, or --val-split 0.2 to hold out a "
            "fifth of the images of --data",
        )
    return source


def find_validation_folder(request: TrainingRequest) -> Path | None:
    """Return the folder of --val-data or, without it, of the split "val" in --data.

    Args:
        request: The request to train.

    Returns:
        The folder; None if there is neither.
    """
    if request.val_data is not None:
        return find_split_folder(request.val_data, "val")
    return list_splits(Path(request.data)).get("val")


def _has_class_folders(request: TrainingRequest, images: ImageFolder) -> bool:
    """Return whether images can be split; raise RequestError if they must be, but cannot."""
    if request.requires_split:
        images.require_class_folders("--val-split")
    return images.class_indices is not None


def _refuse_mixed_images(store: Store | None) -> None:
    """Raise RequestError if views of training images can contain parts of validation images."""
    if store is None:
        return
    augmentation = store.header.augmentation
    if augmentation.mixup > 0 or augmentation.cutmix > 0:
        raise RequestError(
            f"{store.folder} was made with Mixup or CutMix, so views of training images contain "
            "parts of images that a split would hold out for validation",
            "use --val-data with a folder of other images, or --val-split 0 to train without "
            "validation",
        )
