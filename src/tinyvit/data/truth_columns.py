"""Finds the columns of a table of file names and classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from tinyvit.data.image_names import IMAGE_SUFFIXES
from tinyvit.data.label_matching import shorten_names
from tinyvit.labels.label_keys import normalize_key
from tinyvit.labels.label_tables import WNID

_FILE_TITLES = frozenset(
    (
        "imageid",
        "image_id",
        "image",
        "images",
        "image_name",
        "image_path",
        "img",
        "file",
        "files",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "name",
        "path",
        "id",
    )
)
"""Titles, in lower case and with "_" for spaces, of the column of file names."""

NAME_TITLES = ("class_name", "label_name", "category_name")
"""Titles of a column of labels. Below another title, a number is usually that of a class."""

CLASS_TITLES = frozenset(
    (
        "prediction_string",
        "predictionstring",
        "label",
        "labels",
        "class",
        "classes",
        "class_id",
        "class_index",
        *NAME_TITLES,
        "target",
        "truth",
        "category",
        "wnid",
        "synset",
        "ground_truth",
        "y",
    )
)
"""Titles of the column of classes."""


class Columns(NamedTuple):
    """The columns of a table that are used.

    Attributes:
        file_index: Index of the column of file names.
        class_index: Index of the column of classes.
        column_count: Number of all columns.
        has_titles: Whether the first row contains the titles of the columns.
        other_class_index: Index of a second column of the classes, such as their numbers beside
            their names, which must not contradict the first; None if there is none.
    """

    file_index: int = 0
    class_index: int = 1
    column_count: int = 2
    has_titles: bool = False
    other_class_index: int | None = None


def find_columns(rows: Sequence[tuple[str, Sequence[str]]]) -> Columns:
    """Find the columns of file names and classes by their titles or by the file names.

    Args:
        rows: The place of each row, such as "line 3", and its cells. The first row may contain the
            titles of the columns.

    Returns:
        The columns; without any known title, the first two.

    Raises:
        ValueError: The titles do not tell which column to use. The message continues "the truth
            file X ...".
    """
    if not rows:
        return Columns()
    titles = [normalize_key(cell) for cell in rows[0][1]]
    files = [i for i, title in enumerate(titles) if title in _FILE_TITLES]
    classes = [i for i, title in enumerate(titles) if title in CLASS_TITLES]
    if len(files) > 1:  # an index of the rows is often called id
        files = [i for i in files if titles[i] != "id"]
    class_index, other_index = _choose_class_column(titles, classes, rows[1:])
    if len(files) == 1 and class_index is not None:
        return Columns(
            files[0],
            class_index,
            len(titles),
            has_titles=True,
            other_class_index=other_index,
        )
    if len(titles) > 2 and (files or classes):
        raise ValueError(
            f"has the titles {shorten_names(titles)}, of which not exactly one is that of the file"
            " names and one that of the classes"
        )
    if len(titles) == 2 and (files == [0] or _has_title_of_classes(titles, rows)):
        return Columns(has_titles=True)
    rows_of_two = [row for _, row in rows if len(row) == 2]
    if rows_of_two and all(_is_image(row[1]) and not _is_image(row[0]) for row in rows_of_two):
        return Columns(file_index=1, class_index=0)
    return Columns()


def _choose_class_column(
    titles: Sequence[str], classes: Sequence[int], rows: Sequence[tuple[str, Sequence[str]]]
) -> tuple[int | None, int | None]:
    """Choose the column of the classes among those with such titles.

    Args:
        titles: The titles of all columns.
        classes: Indices of the columns with titles of classes.
        rows: The rows below the titles.

    Returns:
        The index of the only column. Of a column of names and another one, the index of the names
        (or of the other one if all its cells are WordNet ids), and that of the second column. None
        for both if it is not clear which column to use.
    """
    if len(classes) == 1:
        return classes[0], None
    names = [i for i in classes if titles[i] in NAME_TITLES]
    if len(classes) != 2 or len(names) != 1:
        return None, None
    (other,) = set(classes) - set(names)
    if all(len(row) > other and WNID.fullmatch(row[other].strip()) for _, row in rows):
        return other, names[0]
    return names[0], other


def require_no_contradiction(
    titles: Sequence[str], rows: Sequence[Sequence[str]], columns: Columns
) -> None:
    """Check that no class of one column belongs to two classes of the other column.

    Args:
        titles: The titles of all columns.
        rows: The cells of each row below the titles.
        columns: The columns that are used, with `other_class_index`.

    Raises:
        ValueError: There is such a class. The message continues "the truth file X ...".
    """
    assert columns.other_class_index is not None
    pair = columns.class_index, columns.other_class_index
    for first, second in (pair, pair[::-1]):
        partners: dict[str, str] = {}
        for row in rows:
            value, partner = row[first].strip(), row[second].strip()
            if partners.setdefault(value, partner) != partner:
                raise ValueError(
                    f"states for the {titles[first].strip()} {value[:80]!r} both the"
                    f" {titles[second].strip()} {partners[value][:80]!r} and {partner[:80]!r}"
                )


def _has_title_of_classes(titles: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> bool:
    """Return whether the second cell of the first row is a title of classes, above file names.

    The first cell can then be any title, because all rows below it begin with the name of an image.
    """
    return (
        titles[1] in CLASS_TITLES
        and not _is_image(titles[0])
        and len(rows) > 1
        and all(_is_image(row[0]) for _, row in rows[1:] if row)
    )


def _is_image(cell: str) -> bool:
    """Return whether a cell ends like the name of an image file."""
    return PurePosixPath(cell.strip().lower()).suffix in IMAGE_SUFFIXES


def clean_class(cell: str) -> str:
    """Return the class in a cell without quotes and white space around it.

    Args:
        cell: The text of the cell.
    """
    return cell.strip().strip("\"'").strip()


def is_file_and_class(row: Sequence[str], columns: Columns) -> bool:
    """Return whether a row has all cells, and neither the file name nor the class is empty.

    Args:
        row: The cells of the row.
        columns: The columns of the table.
    """
    return (
        len(row) == columns.column_count
        and bool(row[columns.file_index].strip())
        and bool(clean_class(row[columns.class_index]))
    )
