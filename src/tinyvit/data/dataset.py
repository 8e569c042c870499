"""Labeled images as people have them, for measuring accuracy.

`open_dataset` finds out what a location is:

class folders   val/n01440764/*.JPEG, or folders named by the labels of the model, or "0" ... "999"
                (ImageNet-V2)
flat folder     val/ILSVRC2012_val_00000001.JPEG ..., with a truth file (see `truth_files`)
tar file        either of these, uncompressed, such as ILSVRC2012_img_val.tar as downloaded
other sources   a prefix such as "hf:", with a function that the caller provides
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tinyvit.data.archives import index_tar
from tinyvit.data.class_folders import class_folder_name
from tinyvit.data.label_matching import LabelMatcher, example_class_name, shorten_names
from tinyvit.data.listing import ImageReader, list_images, list_subfolders, path_reader
from tinyvit.data.sampling import sample_stratified
from tinyvit.data.truth_files import KINDS, read_truth_file
from tinyvit.errors import RequestError
from tinyvit.labels import Label


@dataclass(frozen=True)
class Sample:
    """One labeled image that has not been read yet.

    Attributes:
        name: The name of the image within its dataset, with "/".
        classes: What the image shows, as the data names it: a WordNet id, the name of a class
            folder, or "#7" for class number 7. Of several classes, any is right.
        read: Returns the image as a path or as the bytes of a file.
    """

    name: str
    classes: tuple[str, ...]
    read: ImageReader


@dataclass(frozen=True)
class DatasetLocation:
    """The location of a dataset: enough to open the same images in another process.

    Attributes:
        data: A folder, an uncompressed tar file, or a name with the prefix of another source.
        truth: The file that states the classes where the images are not in class folders.
        limit: The number of images to use, drawn evenly from the classes; None for all.
    """

    data: str
    truth: Path | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Dataset:
    """Labeled images from one source.

    Attributes:
        source: What the images are and where their classes come from, in words.
        samples: The images, in the order of their names.
        location: What `open_dataset` was given; None for a dataset that was made otherwise.
    """

    source: str
    samples: tuple[Sample, ...]
    location: DatasetLocation | None = None

    @cached_property
    def sha256(self) -> str:
        """Hex digest of all names and classes. Datasets with the same digest pose the same task."""
        pairs = [(sample.name, sample.classes) for sample in self.samples]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


@dataclass(frozen=True)
class MatchedDataset:
    """The images of a dataset whose classes a model has.

    Attributes:
        samples: The images, in the order of the dataset.
        class_indices: For each image the indices of the model that are right, sorted.
        notes: Sentences about images and classes that are missing, for reports.
    """

    samples: tuple[Sample, ...]
    class_indices: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]


def open_dataset(
    location: DatasetLocation, openers: Mapping[str, Callable[[str], Dataset]] | None = None
) -> Dataset:
    """List the labeled images of a location. No image is decoded.

    Args:
        location: The data, the truth file, and the number of images. A limited number is drawn
            evenly from the classes, and depends on the names of the images alone.
        openers: Sources beside folders and tar files: a prefix such as "hf:", and a function that
            gets the rest of `location.data` and returns the dataset.

    Returns:
        The dataset, with `location` in it.

    Raises:
        RequestError: The location or its truth file cannot be understood, an image has no class, or
            a class folder has no image.
        ImageError: A folder cannot be read, or has no images.
    """
    dataset = _open_all(location, openers or {})
    if location.limit is None or location.limit >= len(dataset.samples):
        return Dataset(dataset.source, dataset.samples, location)
    if location.limit < 1:
        raise RequestError(
            f"--limit {location.limit} leaves no image to measure",
            "give --limit a number from 1, or omit it",
        )
    samples = sample_stratified(dataset.samples, location.limit, _sample_name, _sample_classes)
    return Dataset(f"{location.limit} of {dataset.source}", tuple(samples), location)


def match_dataset(
    dataset: Dataset, labels: Sequence[Label], only_known: bool = False
) -> MatchedDataset:
    """Match the classes of a dataset to the labels of a model.

    Args:
        dataset: The labeled images.
        labels: The labels of the model, in the order of its logits.
        only_known: Leave out images of classes that the model does not have, and say so in the
            notes, instead of refusing them.

    Raises:
        RequestError: A class of the data is not a class of the model, or, with `only_known`, no
            class is.
    """
    matcher = LabelMatcher(labels)
    indices = {name: matcher.index(name) for sample in dataset.samples for name in sample.classes}
    unknown = sorted(name for name, index in indices.items() if index is None)
    if unknown and not only_known:
        raise RequestError(
            f"{len(unknown)} of the {len(indices)} classes in the data do not match exactly one"
            f" class of the model ({shorten_names(unknown)})",
            f"name them by WordNet id or by the labels of the model, such as"
            f" {example_class_name(labels)}; or leave their images out with --only-known-classes",
        )
    matches = [(sample, _right_indices(sample, indices)) for sample in dataset.samples]
    kept = [(sample, right) for sample, right in matches if right]
    if not kept:
        raise RequestError(
            "no image in the data shows a class of the model",
            "check that the data and the model have the same classes",
        )
    notes = []
    if left_out := len(matches) - len(kept):
        notes.append(
            f"{left_out} images of {len(unknown)} classes that the model does not have"
            " were left out"
        )
    shown = len({index for _, right in kept for index in right})
    if shown < len(labels):
        notes.append(f"the images show {shown} of the model's {len(labels)} classes")
    samples, class_indices = zip(*kept)
    return MatchedDataset(samples, class_indices, tuple(notes))


def _open_all(
    location: DatasetLocation, openers: Mapping[str, Callable[[str], Dataset]]
) -> Dataset:
    """Open a location without regard to its limit."""
    for prefix, opener in openers.items():
        if location.data.startswith(prefix):
            if location.truth is not None:
                raise RequestError(
                    f"--truth cannot be used with {location.data}, which states its own classes",
                    "omit --truth",
                )
            return opener(location.data.removeprefix(prefix))
    path = Path(location.data)
    if not path.exists():
        others = "".join(f", or {prefix}NAME" for prefix in openers)
        raise RequestError(
            f"{path} does not exist",
            f"give a folder of images, or an uncompressed .tar file of them{others}",
        )
    readers = _folder_readers(path) if path.is_dir() else index_tar(path)
    if location.truth is not None:
        return _label_by_truth_file(readers, path.name, location.truth)
    return _label_by_class_folders(readers, path)


def _folder_readers(folder: Path) -> dict[str, ImageReader]:
    readers = {
        path.relative_to(folder).as_posix(): path_reader(path) for path in list_images(folder)
    }
    return dict(sorted(readers.items()))


def _label_by_class_folders(readers: Mapping[str, ImageReader], path: Path) -> Dataset:
    outside = [name for name in readers if "/" not in name]
    if outside:
        raise RequestError(
            f"{len(outside)} of the {len(readers)} images in {path.name} are in no class folder,"
            f" such as {outside[0]}",
            KINDS,
        )
    if path.is_dir():
        filled = {name.partition("/")[0] for name in readers}
        empty = [name for name in list_subfolders(path) if name not in filled]
        if empty:
            raise RequestError(
                f"the class folder {empty[0]} of {path.name} has no images",
                "put images in it, or remove it",
            )
    samples = tuple(
        Sample(name, (class_folder_name(name),), read) for name, read in readers.items()
    )
    return Dataset(f"{len(samples)} images in class folders of {path.name}", samples)


def _label_by_truth_file(readers: Mapping[str, ImageReader], name: str, truth: Path) -> Dataset:
    classes = read_truth_file(truth, list(readers))
    samples = tuple(
        Sample(image, classes[image], read) for image, read in readers.items() if classes[image]
    )
    left_out = len(readers) - len(samples)
    note = f", {left_out} left out that have no class in it" if left_out else ""
    return Dataset(f"{len(samples)} images of {name}, classes by {truth.name}{note}", samples)


def _right_indices(sample: Sample, indices: Mapping[str, int | None]) -> tuple[int, ...]:
    """Return the model's indices of the classes that an image shows, sorted."""
    found = {indices[name] for name in sample.classes}
    return tuple(sorted(index for index in found if index is not None))


def _sample_name(sample: Sample) -> str:
    return sample.name


def _sample_classes(sample: Sample) -> tuple[str, ...]:
    return sample.classes
