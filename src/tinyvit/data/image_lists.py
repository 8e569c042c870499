"""Reading .txt files that list images, one in each line, with or without their classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinyvit.data.class_folders import LabeledImages
from tinyvit.data.label_matching import match_class_names
from tinyvit.errors import RequestError
from tinyvit.files.file_io import read_text
from tinyvit.labels import Label

MAX_LINES = 1_500_000
"""Lists of more images are refused. ImageNet-1k has 1.28 million. All of them are put in order,
which takes ten seconds, before calibration uses the first ones."""

MAX_LIST_BYTES = 64 * 2**20
"""Larger lists are refused."""

CLASS_SEPARATOR = "\t"
"""Character between the path of an image and its class."""


def is_image_list(path: Path) -> bool:
    """Return whether a path is a file whose name is that of a list."""
    return path.suffix.lower() == ".txt" and os.path.isfile(path)


def read_image_list(path: Path) -> list[str]:
    """Return the lines of a list, without empty lines and without spaces at their ends.

    Args:
        path: A text file in UTF-8.

    Raises:
        RequestError: The file cannot be read, is not text, or is too large.
    """
    try:
        text = read_text(path, MAX_LIST_BYTES)
        if "\0" in text:
            raise ValueError("it is not text")
        lines = [line for line in map(str.strip, text.splitlines()) if line]
        if len(lines) > MAX_LINES:
            raise ValueError(f"it has {len(lines)} lines, more than {MAX_LINES}")
        return lines
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the list {path} cannot be read ({error})", "give one path per line, in UTF-8"
        ) from error


def read_labeled_lines(path: Path) -> list[tuple[str, str]]:
    """Return the lines of a list of images and their classes. No image is opened.

    Args:
        path: A text file in UTF-8. Each line has the path of an image, relative to the folder of
            the file, a tab, and the WordNet id or the name of its class.

    Returns:
        The path of each image, as it is in the list, and its class, ordered by path.

    Raises:
        RequestError: The file cannot be read or is empty, a line has no tab, or two lines have the
            same path.
    """
    rows = []
    for line in read_image_list(path):
        name, separator, class_name = line.rpartition(CLASS_SEPARATOR)
        if not separator:
            raise RequestError(
                f"the list {path} has a line without a class: {line[:200]}",
                "write the path of the image, a tab and the class in each line",
            )
        rows.append((name, class_name))
    if not rows:
        raise RequestError(f"the list {path} is empty", "list one image in each line")
    if len({name for name, _ in rows}) < len(rows):
        raise RequestError(
            f"the list {path} has an image twice", "list each image once, with its class"
        )
    return sorted(rows)


def read_labeled_list(path: Path, labels: Sequence[Label]) -> LabeledImages:
    """Read a list of images and their classes, and match the classes to labels.

    Args:
        path: A list that `read_labeled_lines` reads.
        labels: The labels of the model, in the order of its logits.

    Raises:
        RequestError: `read_labeled_lines` refuses the list, or a class matches no label.
    """
    rows = read_labeled_lines(path)
    indices = match_class_names([name for _, name in rows], labels, f"classes in {path}")
    files = tuple(path.parent / image for image, _ in rows)
    class_indices = np.array([indices[name] for _, name in rows], np.int64)
    return LabeledImages(files, class_indices)
