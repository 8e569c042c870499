"""Reading truth files, which list the correct classes of images that are not in class folders.

These kinds of files are read:

ILSVRC2012_devkit_t12.tar.gz   ImageNet's development kit as downloaded: the class number of each
                               validation image and the WordNet id of each number (needs scipy)
LOC_val_solution.csv           from Kaggle: the columns ImageId and PredictionString, which begins
                               with a WordNet id
*.csv, *.tsv                   a file name, with or without folder and suffix, and its class: a
                               WordNet id, a label or a class number (see `truth_tables`)
*.txt                          a file name and its class in each line
*.json                         an object that maps file names to classes, or a list of objects with
                               a file name and a class
*.jsonl                        such an object in each line, as Hugging Face's metadata.jsonl
real.json                      from ImageNet-ReaL: for each image a list of class numbers, in the
                               order of the file names; an empty list means that no class is known
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyvit.data.imagenet_devkit import read_devkit
from tinyvit.data.truth_assignment import TruthRow, assign_rows
from tinyvit.data.truth_tables import parse_json_object, parse_json_records, parse_table
from tinyvit.errors import RequestError
from tinyvit.files.file_io import read_text

MAX_BYTES = 64 * 2**20
"""Larger truth files are refused."""

MAX_LINES = 1_500_000
"""Tables of more lines are refused. ImageNet-1k has 1.28 million training images."""

MAX_VALUES = 8_000_000
"""Files with more commas and other separators of values are refused. Each value takes up to 100
bytes in memory."""

_LINE_BREAKS = ("\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
"""The line breaks of `str.splitlines`, after `read_text`."""

TRUTH_FILE_REMEDY = (
    "give --truth ILSVRC2012_devkit_t12.tar.gz, LOC_val_solution.csv, a .csv, .tsv, .txt,"
    " .json or .jsonl of file name and class, or ImageNet-ReaL's real.json"
)

_TABLE_SUFFIXES = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Truth:
    """The correct classes of images.

    Attributes:
        classes: The name of each image mapped to its correct classes: WordNet ids, labels, or "#7"
            for class number 7. The tuple is empty if the file assigns no class to the image.
        unused_count: Number of entries of the file that belong to none of the images.
    """

    classes: dict[str, tuple[str, ...]]
    unused_count: int = 0


def read_truth_file(path: Path, names: Sequence[str]) -> Truth:
    """Read the classes of images from a truth file.

    Args:
        path: A file of one of the kinds in the docstring of this module.
        names: The sorted names of all images of the dataset, with "/" as separator.

    Returns:
        The correct classes of all images.

    Raises:
        RequestError: The file does not exist, cannot be read, does not list all images, or lists
            an image twice with different classes.
        MissingDependencyError: The file is the development kit and scipy is not installed.
    """
    if not os.path.exists(path):
        raise RequestError(f"the truth file {path} does not exist", TRUTH_FILE_REMEDY)
    if path.name.endswith((".tar.gz", ".tgz")):
        return _assign_in_order(names, _read_devkit(path), path)
    if path.suffix.lower() in (".json", ".jsonl"):
        entries = _read_json(path)
        if entries and isinstance(entries[0], TruthRow):
            rows = [row for row in entries if isinstance(row, TruthRow)]
            return Truth(*assign_rows(names, rows, path))
        classes = [entry for entry in entries if isinstance(entry, tuple)]
        return _assign_in_order(names, classes, path)
    if path.suffix.lower() in _TABLE_SUFFIXES:
        return Truth(*assign_rows(names, _read_table(path), path))
    raise RequestError(f"the truth file {path} is of an unknown kind", TRUTH_FILE_REMEDY)


def _assign_in_order(names: Sequence[str], classes: Sequence[tuple[str, ...]], path: Path) -> Truth:
    """Assign the classes of a truth file that has no file names, only classes in their order."""
    if len(names) != len(classes):
        raise RequestError(
            f"the truth file {path} states the classes of {len(classes)} images, but there are"
            f" {len(names)}",
            "give all images that the file was made for, or a .csv of file name and class",
        )
    return Truth(dict(zip(names, classes)))


def _read_table(path: Path) -> list[TruthRow]:
    """Read a table of file names and classes."""
    try:
        return parse_table(_read_text(path), path.suffix.lower())
    except csv.Error as error:
        raise RequestError(
            f"the truth file {path} is not a table ({error})", TRUTH_FILE_REMEDY
        ) from error
    except ValueError as error:
        raise RequestError(f"the truth file {path} {error}", TRUTH_FILE_REMEDY) from error


def _read_json(path: Path) -> list[TruthRow] | list[tuple[str, ...]]:
    """Read a .json or .jsonl file.

    Returns:
        For ImageNet-ReaL's file, which has no file names, the classes of each image; for other
        files, entries.
    """
    try:
        data = _parse_json(_read_text(path), path.suffix.lower())
        if isinstance(data, tuple) and data:
            return parse_json_object(data)
        if isinstance(data, list) and data and all(isinstance(row, tuple) for row in data):
            return parse_json_records(data)
        if not isinstance(data, list) or not all(_is_list_of_ints(row) for row in data):
            raise ValueError("it is neither a list of lists of whole numbers nor a map of names")
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"the truth file {path} has neither the form of ImageNet-ReaL's labels nor file names"
            f" and classes ({error})",
            TRUTH_FILE_REMEDY,
        ) from error
    return [tuple(f"#{index}" for index in row) for row in data]


def _parse_json(text: str, suffix: str) -> object:
    """Parse JSON, or the JSON value in each line of a .jsonl file.

    An object becomes a tuple of pairs, not a dict. Keys that occur twice are thereby kept, so that
    different classes of one image are noticed.
    """
    if suffix == ".json":
        return json.loads(text, object_pairs_hook=tuple)
    lines = [line for line in text.split("\n") if line.strip()]
    return [json.loads(line, object_pairs_hook=tuple) for line in lines]


def _is_list_of_ints(row: object) -> bool:
    # Types are compared exactly, because a bool is an instance of int.
    return isinstance(row, list) and all(type(index) is int for index in row)


def _read_text(path: Path) -> str:
    """Read a truth file in UTF-8; raise RequestError if it is too large or cannot be read."""
    is_table = path.suffix.lower() in _TABLE_SUFFIXES
    try:
        text = read_text(path, MAX_BYTES)
        line_count = sum(map(text.count, _LINE_BREAKS))
        if line_count > MAX_LINES and path.suffix.lower() != ".json":
            raise ValueError(f"it has {line_count} lines, more than {MAX_LINES}")
        value_count = sum(map(text.count, ",;\t|" if is_table else ",[{"))
        if value_count > MAX_VALUES:
            raise ValueError(f"it has {value_count} values, more than {MAX_VALUES}")
        return text
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the truth file {path} cannot be read ({error})", TRUTH_FILE_REMEDY
        ) from error


def _read_devkit(path: Path) -> list[tuple[str, ...]]:
    """Read the WordNet id of each validation image from ILSVRC2012's development kit."""
    try:
        return [(wnid,) for wnid in read_devkit(path)]
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the truth file {path} does not have the form of ILSVRC2012's devkit ({error})"[:300],
            TRUTH_FILE_REMEDY,
        ) from error
