"""Labeled images on which the accuracy of a model is measured, decoded with its preprocessing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.data.calibration_images import Pixels
from tinyvit.data.class_folders import LabeledImages, read_labeled_images
from tinyvit.data.image_lists import (
    CLASS_SEPARATOR,
    is_image_list,
    read_image_list,
    read_labeled_list,
)
from tinyvit.data.listing import read_listing
from tinyvit.data.source_getters import make_path_getter
from tinyvit.errors import ImageError, RequestError
from tinyvit.labels import Label
from tinyvit.preprocess import Preprocess
from tinyvit.quant.images.image_decoding import check_unreadable, decode_images
from tinyvit.quant.images.pixel_source import MAX_CACHED_BYTES
from tinyvit.text.plurals import format_count

BATCH_SIZE = 32
"""Number of images in a batch of `ValidationSet.batches`."""

LabeledBatch: TypeAlias = "tuple[Pixels, npt.NDArray[np.int64]]"
"""RGB pixels, uint8 (B, H, W, 3), and the class index of each image, int64 (B,)."""


@dataclass
class ValidationSet:
    """Images with their correct classes. Images are decoded while `batches` is iterated over.

    The decoded pixels are kept in memory for later iterations if they fit into `MAX_CACHED_BYTES`.
    Otherwise every iteration decodes the images again.

    Attributes:
        images: The image files and the correct class of each.
        preprocess: The preprocessing of the model, which states how images are resized and cropped.
        skipped: Number of unreadable images that the last complete iteration left out.
        readable_files: The files of the images that the last complete iteration yielded, in order.
    """

    images: LabeledImages
    preprocess: Preprocess
    skipped: int = field(default=0, init=False)
    readable_files: tuple[Path, ...] = field(default=(), init=False, repr=False)
    _cached_batches: list[LabeledBatch] = field(default_factory=list, init=False, repr=False)

    def __len__(self) -> int:
        """Return the number of image files, including those that cannot be read."""
        return len(self.images)

    def describe(self) -> str:
        """Return the numbers of images and classes, and what the listing left out, for messages."""
        return self.images.describe()

    @property
    def sha256(self) -> str:
        """Return a hex digest of the images.

        It depends on the class index, folder name, file name and file size of every image.
        """
        return self.images.sha256

    def batches(self) -> Iterator[LabeledBatch]:
        """Iterate over the readable images, every time in the same order.

        Yields:
            Batches of `BATCH_SIZE` images; the last one may be smaller.

        Raises:
            RequestError: Too many images cannot be read (`image_decoding.MAX_UNREADABLE_SHARE`).
        """
        if self._cached_batches:
            yield from self._cached_batches
            return
        size_bytes = len(self) * self.preprocess.height * self.preprocess.width * 3
        cached: list[LabeledBatch] = []
        for batch in self._decode_batches():
            yield batch
            if size_bytes <= MAX_CACHED_BYTES:
                cached.append(batch)
        self._cached_batches = cached

    def forget_pixels(self) -> None:
        """Free the memory of the decoded pixels. The next iteration decodes the images again."""
        self._cached_batches = []

    def _decode_batches(self) -> Iterator[LabeledBatch]:
        """Decode all images and yield the readable ones in batches."""
        pixels: list[Pixels] = []
        classes: list[int] = []
        errors: list[ImageError] = []
        readable_files: list[Path] = []
        # `decode_images` takes functions, because images in archives have no path.
        decoded = decode_images(map(make_path_getter, self.images.files), self.preprocess)
        for file, class_index, image in zip(self.images.files, self.images.class_indices, decoded):
            if isinstance(image, ImageError):
                errors.append(image)
                # Too many unreadable images are refused before all images have been decoded.
                check_unreadable(errors, len(self), readable_count=len(readable_files))
                continue
            readable_files.append(file)
            pixels.append(image)
            classes.append(int(class_index))
            if len(pixels) == BATCH_SIZE:
                yield np.stack(pixels), np.array(classes)
                pixels, classes = [], []
        if pixels:
            yield np.stack(pixels), np.array(classes)
        self.skipped, self.readable_files = len(errors), tuple(readable_files)


def read_validation_set(
    source: str | Path, preprocess: Preprocess, labels: Sequence[Label]
) -> ValidationSet:
    """List labeled images. No image is decoded yet.

    Args:
        source: A folder with one subfolder per class, or a .txt file that `read_labeled_list`
            accepts. The name of a class must be exactly a WordNet id or a label.
        preprocess: The preprocessing of the model, which states how images are resized and cropped.
        labels: The labels of the model, in the order of its logits.

    Raises:
        RequestError: `source` is neither, an image is in no class folder, or a class matches no
            label.
        ImageError: The folder cannot be read, or has no images.
    """
    if is_image_list(Path(source)):
        return ValidationSet(read_labeled_list(Path(source), labels), preprocess)
    return ValidationSet(read_labeled_images(source, labels), preprocess)


@dataclass(frozen=True)
class _UnlabeledImages(LabeledImages):
    """Image files without classes, whose class indices are all 0."""

    def describe(self) -> str:
        """Return the number of images, and what was skipped, for messages."""
        return "; ".join((format_count(len(self), "image"), *self.notes))


def read_unlabeled_set(source: str | Path, preprocess: Preprocess) -> ValidationSet:
    """List images without regard to their classes. No image is decoded yet.

    Args:
        source: A folder of images at any depth; or a .txt file with the path of an image in each
            line, relative to the folder of the file. A tab and what follows it are ignored.
        preprocess: The preprocessing of the model, which states how images are resized and cropped.

    Returns:
        The images, all with the class index 0, which has no meaning.

    Raises:
        RequestError: The list cannot be read, or is empty.
        ImageError: The folder cannot be read, or has no images.
    """
    path = Path(source)
    notes: tuple[str, ...] = ()
    if is_image_list(path):
        names = [line.partition(CLASS_SEPARATOR)[0] for line in read_image_list(path)]
        if not names:
            raise RequestError(f"the list {path} is empty", "list one image in each line")
        files = tuple(path.parent / name for name in sorted(set(names)))
    else:
        listing = read_listing(path)
        files, notes = listing.make_paths(), listing.notes
    images = _UnlabeledImages(files, np.zeros(len(files), np.int64), notes)
    return ValidationSet(images, preprocess)
