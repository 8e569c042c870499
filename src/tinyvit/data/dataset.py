"""Labeled images for measuring accuracy, in the forms in which users have them.

`open_dataset` recognizes these forms:

class folders   val/n01440764/*.JPEG: folders named by WordNet id, by the labels of the model, or
                "0" to "999" (as in ImageNet-V2)
flat folder     val/ILSVRC2012_val_00000001.JPEG ..., with a truth file, which lists the class of
                each image (see `truth_files`)
tar file        class folders or a flat folder in an uncompressed tar file, such as ImageNet's
                ILSVRC2012_img_val.tar
list            a .txt file with the path of an image, a tab and its class in each line, such as
                the validation_images.txt that tinyvit-distill train writes
other sources   a name with a prefix such as "hf:", opened by a function that the caller provides
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tinyvit.data.archives import index_tar
from tinyvit.data.class_folder_checks import note_inner_folders, require_filled_class_folders
from tinyvit.data.class_folders import class_folder_name
from tinyvit.data.image_lists import is_image_list, read_labeled_lines
from tinyvit.data.listing import read_listing
from tinyvit.data.sampling import sample_stratified
from tinyvit.data.source_getters import SourceGetter, make_path_getter
from tinyvit.data.splits import find_splits, list_splits
from tinyvit.data.truth_files import TRUTH_FILE_REMEDY, read_truth_file
from tinyvit.errors import RequestError
from tinyvit.text.plurals import format_count

_MEASURED_SPLITS = ("val", "test", "train")
"""The splits in the order of preference: the first one that the data has is measured."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One labeled image that has not been read yet.

    Attributes:
        name: Name of the image within its dataset, with "/" as separator.
        classes: The correct class as the data names it: a WordNet id, the name of a class folder, a
            label, or "#7" for class number 7. If there are several names, each class is correct.
        get_source: Function that returns the path or the bytes of the image file.
    """

    name: str
    classes: tuple[str, ...]
    get_source: SourceGetter


@dataclass(frozen=True)
class DatasetLocation:
    """Where a dataset is and how much of it to use.

    It can be sent to another process, which then opens the same images.

    Attributes:
        data: A folder, an uncompressed tar file, a list, or a name with a prefix such as "hf:".
        truth: The truth file, which lists the class of each image; None for class folders.
        limit: Number of images to use, drawn evenly from the classes; None for all.
    """

    data: str
    truth: Path | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Dataset:
    """Labeled images from one source.

    Attributes:
        description: Number of the images, and where they and their classes come from.
        samples: The images, sorted by name.
        location: The argument of `open_dataset`; None if another function made the dataset.
    """

    description: str
    samples: tuple[Sample, ...]
    location: DatasetLocation | None = None

    @cached_property
    def sha256(self) -> str:
        """Return the hex digest of all names and classes, by which equal datasets are recognized.

        The contents of the images are not hashed.
        """
        pairs = [(sample.name, sample.classes) for sample in self.samples]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def open_dataset(
    location: DatasetLocation, openers: Mapping[str, Callable[[str], Dataset]] | None = None
) -> Dataset:
    """List the labeled images at a location. No image is decoded.

    Args:
        location: Where the dataset is. If its number of images is limited, they are drawn evenly
            from the classes. The choice depends only on the names of the images.
        openers: Functions that open other kinds of data, by prefix such as "hf:". A function gets
            `location.data` without the prefix, and returns the dataset.

    Returns:
        The dataset, which contains `location`.

    Raises:
        RequestError: The data or the truth file is not in a known form, an image has no class, or a
            class folder has no image.
        ImageError: A folder cannot be read, or has no images.
        MissingDependencyError: The truth file needs scipy, which is not installed.
    """
    dataset = _open_without_limit(location, openers or {})
    if location.limit is None or location.limit >= len(dataset.samples):
        return Dataset(dataset.description, dataset.samples, location)
    if location.limit < 1:
        raise RequestError(
            f"--limit {location.limit} leaves no image to measure",
            "give --limit a number from 1, or omit it",
        )
    samples = sample_stratified(
        dataset.samples, location.limit, _get_sample_name, _get_sample_classes
    )
    return Dataset(f"{location.limit} of {dataset.description}", tuple(samples), location)


def _open_without_limit(
    location: DatasetLocation, openers: Mapping[str, Callable[[str], Dataset]]
) -> Dataset:
    """List all images at a location, whatever its limit is."""
    for prefix, opener in openers.items():
        if location.data.startswith(prefix):
            _refuse_truth(location)
            return opener(location.data.removeprefix(prefix))
    path = Path(location.data)
    if not os.path.exists(path):
        other_forms = "".join(f", or {prefix}NAME" for prefix in openers)
        raise RequestError(
            f"{path} does not exist",
            "give a folder of images, an uncompressed .tar file of them, or a .txt file with a"
            f" path, a tab and a class in each line{other_forms}",
        )
    if is_image_list(path):
        _refuse_truth(location)
        return _open_list(path)
    if location.truth is not None:
        return _label_by_truth_file(path, location.truth)
    return _open_class_folders(path) if os.path.isdir(path) else _open_class_folders_of_tar(path)


def _refuse_truth(location: DatasetLocation) -> None:
    """Raise RequestError if there is a truth file for data that states its own classes."""
    if location.truth is not None:
        raise RequestError(
            f"--truth cannot be used with {location.data}, which states its own classes",
            "omit --truth",
        )


def _open_list(path: Path) -> Dataset:
    """Make a dataset of the images and classes in a list."""
    classes = _ClassTuples()
    samples = [
        Sample(name, classes[class_name], make_path_getter(path.parent, name))
        for name, class_name in read_labeled_lines(path)
    ]
    return Dataset(f"{len(samples)} images in {path.name}", _sort_samples(samples))


def _open_class_folders(folder: Path) -> Dataset:
    """Make a dataset in which the class of an image is the name of its class folder."""
    splits = list_splits(folder)
    split = next((splits[name] for name in _MEASURED_SPLITS if name in splits), folder)
    listing = read_listing(split)
    keys = listing.keys
    _require_class_folders(keys, split.name)
    require_filled_class_folders(split, keys, listing)
    prefix = "" if split == folder else f"{split.relative_to(folder).as_posix()}/"
    classes = _ClassTuples()
    samples = [
        Sample(
            name=prefix + key,
            classes=classes[class_folder_name(key)],
            get_source=make_path_getter(split, key),
        )
        for key in keys
    ]
    unused = [path.name for path in splits.values() if path != split]
    notes = (*listing.notes, *note_inner_folders(keys))
    return _make_dataset(samples, folder.name, split.name if splits else "", unused, notes)


def _open_class_folders_of_tar(path: Path) -> Dataset:
    """Make a dataset from a tar file, like `_open_class_folders` from a folder."""
    listing = index_tar(path)
    getters = listing.getters
    _require_class_folders(getters, path.name)
    first_folders = {name.partition("/")[0] for name in getters}
    # A first folder that itself contains images is a class folder and not a split.
    has_inner_folders = all(name.count("/") > 1 for name in getters)
    splits = find_splits(first_folders, path.name) if has_inner_folders else {}
    split = next((splits[name] for name in _MEASURED_SPLITS if name in splits), "")
    classes = _ClassTuples()
    samples = [
        Sample(name, classes[class_folder_name(name)], get_source)
        for name, get_source in getters.items()
        if not split or name.startswith(f"{split}/")
    ]
    unused = [name for name in splits.values() if name != split]
    return _make_dataset(samples, path.name, split, unused, listing.notes)


class _ClassTuples(dict[str, tuple[str, ...]]):
    """Name of a class -> the tuple of this name, which all images of the class share."""

    def __missing__(self, name: str) -> tuple[str, ...]:
        self[name] = (name,)
        return self[name]


def _require_class_folders(keys: Collection[str], data_name: str) -> None:
    """Raise RequestError if an image is in no folder."""
    outside = [key for key in keys if "/" not in key]
    if outside:
        raise RequestError(
            f"{len(outside)} of the {len(keys)} images in {data_name} are in no class folder,"
            f" such as {outside[0]}",
            TRUTH_FILE_REMEDY,
        )


def _make_dataset(
    samples: Sequence[Sample],
    data_name: str,
    split: str,
    unused_splits: Sequence[str],
    notes: Sequence[str],
) -> Dataset:
    """Make a dataset of images in class folders.

    Args:
        samples: The images, in any order.
        data_name: Name of the folder or the tar file.
        split: Name of the folder of the split that is used; "" without splits.
        unused_splits: Names of the folders of all other splits.
        notes: Clauses about what else was found, for the description.
    """
    used_name = f"{data_name}/{split}" if unused_splits else data_name
    description = f"{len(samples)} images in class folders of {used_name}"
    unused = [f"{' and '.join(unused_splits)} not used"] if unused_splits else []
    return Dataset("; ".join((description, *unused, *notes)), _sort_samples(samples))


def _label_by_truth_file(path: Path, truth_path: Path) -> Dataset:
    """Make a dataset of the images to which a truth file assigns a class."""
    if os.path.isdir(path):
        folder_listing = read_listing(path)
        notes = folder_listing.notes
        getters: dict[str, SourceGetter] = {
            key: make_path_getter(path, key) for key in folder_listing.keys
        }
    else:
        tar_listing = index_tar(path)
        notes, getters = tar_listing.notes, dict(tar_listing.getters)
    truth = read_truth_file(truth_path, sorted(getters))
    samples = [
        Sample(name, truth.classes[name], get_source)
        for name, get_source in getters.items()
        if truth.classes[name]
    ]
    description = f"{len(samples)} images of {path.name}, classes by {truth_path.name}"
    left_out_count = len(getters) - len(samples)
    if left_out_count:
        description += f" ({left_out_count} left out, to which the file assigns no class)"
    if truth.unused_count:
        entries = format_count(truth.unused_count, "entry", "entries")
        verb = "names" if truth.unused_count == 1 else "name"
        notes = (f"{entries} of {truth_path.name} {verb} no image in {path.name}", *notes)
    return Dataset("; ".join((description, *notes)), _sort_samples(samples))


def _sort_samples(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=_get_sample_name))


def _get_sample_name(sample: Sample) -> str:
    return sample.name


def _get_sample_classes(sample: Sample) -> tuple[str, ...]:
    return sample.classes
