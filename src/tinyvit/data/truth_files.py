"""Reading truth files, which list the correct classes of images that are not in class folders.

These kinds of files are read:

ILSVRC2012_devkit_t12.tar.gz   ImageNet's development kit as downloaded: the class number of each
                               validation image and the WordNet id of each number (needs scipy)
LOC_val_solution.csv           from Kaggle: the columns ImageId and PredictionString, which begins
                               with a WordNet id
*.csv                          a file name, with or without folder and suffix, and its class: a
                               WordNet id, a label or a class number
real.json                      from ImageNet-ReaL: for each image a list of class numbers, in the
                               order of the file names; an empty list means that no class is known
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tinyvit.errors import MissingDependencyError, RequestError

MAX_BYTES = 64 * 2**20
"""Larger truth files, and larger members of the development kit, are refused."""

TRUTH_FILE_REMEDY = (
    "give --truth ILSVRC2012_devkit_t12.tar.gz, LOC_val_solution.csv, a .csv of file name and"
    " class, or ImageNet-ReaL's real.json"
)

_HEADER_NAMES = ("imageid", "image", "file", "filename", "name", "path")
"""Titles of the first column, in lower case. A .csv file may have no row of titles."""

_BOX_FIELDS = 5
"""Number of words that Kaggle writes for each object in an image: a WordNet id and the four
coordinates of its bounding box."""


def read_truth_file(path: Path, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read the classes of images from a truth file.

    Args:
        path: A file of one of the kinds in the docstring of this module.
        names: The sorted names of all images of the dataset, with "/" as separator.

    Returns:
        The name of each image mapped to its correct classes: WordNet ids, labels, or "#7" for class
        number 7. The tuple is empty if the file assigns no class to the image.

    Raises:
        RequestError: The file does not exist, cannot be read, or does not list all images.
        MissingDependencyError: The file is the development kit and scipy is not installed.
    """
    if not path.is_file():
        raise RequestError(f"the truth file {path} does not exist", TRUTH_FILE_REMEDY)
    if path.name.endswith((".tar.gz", ".tgz")):
        return _assign_in_order(names, _read_devkit(path), path)
    if path.suffix.lower() == ".json":
        return _assign_in_order(names, _read_real_labels(path), path)
    if path.suffix.lower() == ".csv":
        return _assign_by_name(names, _read_table(path), path)
    raise RequestError(f"the truth file {path} is of an unknown kind", TRUTH_FILE_REMEDY)


def _assign_in_order(
    names: Sequence[str], classes: Sequence[tuple[str, ...]], path: Path
) -> dict[str, tuple[str, ...]]:
    """Assign the classes of a file without names, which lists them in the order of the names."""
    if len(names) != len(classes):
        raise RequestError(
            f"the truth file {path} states the classes of {len(classes)} images, but there are"
            f" {len(names)}",
            "give all images that the file was made for, or a .csv of file name and class",
        )
    return dict(zip(names, classes))


def _assign_by_name(
    names: Sequence[str], table: dict[str, str], path: Path
) -> dict[str, tuple[str, ...]]:
    """Look up each image in a table by its path, its file name, or its file name without suffix."""
    classes: dict[str, tuple[str, ...]] = {}
    missing = []
    for name in names:
        spellings = (name, Path(name).name, Path(name).stem)
        class_name = next((table[key] for key in spellings if key in table), None)
        if class_name is None:
            missing.append(name)
        else:
            classes[name] = (class_name,)
    if missing:
        raise RequestError(
            f"the truth file {path} does not name {len(missing)} of the {len(names)} images,"
            f" such as {missing[0]}",
            "add the images to the file, or remove them from the folder",
        )
    return classes


def _read_table(path: Path) -> dict[str, str]:
    """Read a .csv file, and map file names to classes.

    The keys are the names in the file, and these names without folder and suffix.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(_read_text(path)), strict=True) if row]
    except csv.Error as error:
        raise RequestError(
            f"the truth file {path} is not a table ({error})", TRUTH_FILE_REMEDY
        ) from error
    if rows and rows[0][0].strip().lower() in _HEADER_NAMES:
        rows = rows[1:]
    if not rows or not all(_is_file_and_class(row) for row in rows):
        raise RequestError(
            f"the truth file {path} has rows that are not exactly a file name and a class",
            TRUTH_FILE_REMEDY,
        )
    entries = [(name.strip(), _parse_class(cell)) for name, cell in rows]
    classes_by_stem = {_remove_suffix(name): class_name for name, class_name in entries}
    # A name that is in the file takes precedence over an equal name that lost its suffix here.
    return classes_by_stem | dict(entries)


def _remove_suffix(name: str) -> str:
    """Return a file name without folder and suffix, or unchanged if it has no suffix."""
    return Path(name).name.rpartition(".")[0] or name


def _is_file_and_class(row: list[str]) -> bool:
    """Return whether a row has two cells, of which the second is not empty."""
    return len(row) == 2 and bool(row[1].split())


def _parse_class(cell: str) -> str:
    """Return the class in a table cell.

    This is the first WordNet id if the cell contains Kaggle's objects, "#7" if it contains a number
    such as "7", otherwise its text.
    """
    words = cell.split()
    begins_with_wnid = words[0][:1] == "n" and words[0][1:].isdecimal()
    if begins_with_wnid and len(words) % _BOX_FIELDS == 0:
        return words[0]
    text = cell.strip()
    return f"#{text}" if text.isdecimal() else text


def _read_real_labels(path: Path) -> list[tuple[str, ...]]:
    """Read ImageNet-ReaL's list, which contains for each image a list of class numbers."""
    try:
        rows = json.loads(_read_text(path))
        if not isinstance(rows, list) or not all(_is_list_of_ints(row) for row in rows):
            raise ValueError("it is not a list of lists of whole numbers")
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"the truth file {path} does not have the form of ImageNet-ReaL's labels ({error})",
            TRUTH_FILE_REMEDY,
        ) from error
    return [tuple(f"#{index}" for index in row) for row in rows]


def _is_list_of_ints(row: object) -> bool:
    # Types are compared exactly, because a bool is an instance of int.
    return isinstance(row, list) and all(type(index) is int for index in row)


def _read_text(path: Path) -> str:
    """Read a truth file in UTF-8; raise RequestError if it is too large or cannot be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the truth file {path} cannot be read ({error})", TRUTH_FILE_REMEDY
        ) from error


def _read_devkit(path: Path) -> list[tuple[str, ...]]:
    """Read the WordNet id of each validation image from ILSVRC2012's development kit."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingDependencyError.for_package("scipy", extra="bench") from error
    try:
        with tarfile.open(path) as archive:
            text = _read_member(archive, "ILSVRC2012_validation_ground_truth.txt").decode("ascii")
            meta = loadmat(io.BytesIO(_read_member(archive, "meta.mat")), squeeze_me=True)
        synsets = meta["synsets"]
        wnids = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
        return [(wnids[int(number)],) for number in text.split()]
    except Exception as error:  # the errors of tarfile, zlib and scipy have no common base class
        reason = f"{type(error).__name__}: {error}"
        raise RequestError(
            f"the truth file {path} does not have the form of ILSVRC2012's devkit ({reason})"[:300],
            TRUTH_FILE_REMEDY,
        ) from error


def _read_member(archive: tarfile.TarFile, name: str) -> bytes:
    """Return the bytes of the first member with this file name; raise ValueError if none has it."""
    for member in archive:
        if member.isreg() and Path(member.name).name == name and member.size <= MAX_BYTES:
            file = archive.extractfile(member)
            assert file is not None
            return file.read()
    raise ValueError(f"it has no {name}")
