"""File names and classes from tables and from JSON objects."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from tinyvit.data.composed_names import compose_name
from tinyvit.data.image_names import IMAGE_SUFFIXES
from tinyvit.data.label_matching import shorten_names
from tinyvit.data.truth_assignment import TruthRow
from tinyvit.data.truth_columns import (
    CLASS_TITLES,
    NAME_TITLES,
    clean_class,
    find_columns,
    is_file_and_class,
    require_no_contradiction,
)
from tinyvit.labels.label_keys import normalize_key

_DELIMITERS = {".csv": ",;\t|", ".tsv": "\t,;|"}
"""Delimiters by the ending of the file, the usual one first."""

_SUFFIX_PATTERN = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))
# The first group is the file name, the second the class.
_LINE_WITH_SUFFIX = re.compile(rf"""(.*?(?:{_SUFFIX_PATTERN}))["']?[\s,;:|]+(.+)""", re.IGNORECASE)
_LINE = re.compile(r"([^\s,;|]+)[\s,;|]+(\S.*)")

_BOX_FIELDS = 5
"""Number of words that Kaggle writes for each object in an image: a WordNet id and the four
coordinates of its bounding box."""

_NUMBER = re.compile(r"(\d{1,9})(?:\.0+)?")
"""Matches a class number. Tables that pandas wrote may contain "7.0" for 7."""

_NOT_TWO_CELLS = "has rows that are not exactly a file name and a class"


def parse_table(text: str, suffix: str) -> list[TruthRow]:
    """Parse a table of file names and classes.

    Args:
        text: The content of the file.
        suffix: Its ending: .csv, .tsv or .txt.

    Raises:
        ValueError: A row is not exactly a file name and a class, or it is not clear which cell is
            which. The message continues "the truth file X ...".
        csv.Error: Quotes are at wrong places.
    """
    rows = _split_lines(text) if suffix == ".txt" else _split_cells(text, _DELIMITERS[suffix])
    return _parse_rows([(f"line {number}", row) for number, row in rows])


def parse_json_records(records: Sequence[Sequence[tuple[str, object]]]) -> list[TruthRow]:
    """Read a list of JSON objects, such as {"file_name": "1.jpg", "label": "cat"}.

    Args:
        records: The keys and values of each object.

    Raises:
        ValueError: As in `parse_table`, or the objects do not all have the same keys.
    """
    keys = [key for key, _ in records[0]] if records else []
    rows = [("the keys", keys)]
    for number, record in enumerate(records, 1):
        values = dict(record)
        if len(values) != len(record) or values.keys() != set(keys):
            raise ValueError(f"entry {number} has other keys than entry 1, or one twice")
        cells = [values[key] for key in keys]
        rows.append((f"entry {number}", [_format_cell(cell) for cell in cells]))
    if not find_columns(rows).has_titles:
        raise ValueError(f"no key is known as that of the file names ({shorten_names(keys)})")
    return _parse_rows(rows)


def _format_cell(value: object) -> str:
    """Return a string or a whole number as text; "" for any other value."""
    return str(value) if isinstance(value, str) or type(value) is int else ""


def _parse_rows(rows: Sequence[tuple[str, Sequence[str]]]) -> list[TruthRow]:
    """Parse the rows of a table, each of which is a pair of its place, such as "line 3", and cells.

    The first row may contain the titles of the columns.
    """
    columns = find_columns(rows)
    titles, rows = (rows[0][1], rows[1:]) if columns.has_titles else ((), rows)
    if not rows or not all(is_file_and_class(row, columns) for _, row in rows):
        raise ValueError(_NOT_TWO_CELLS)
    if columns.other_class_index is not None:
        require_no_contradiction(titles, [row for _, row in rows], columns)
    classes = [parse_class(row[columns.class_index]) for _, row in rows]
    title = normalize_key(titles[columns.class_index]) if titles else ""
    if title in NAME_TITLES:
        classes = [class_name.removeprefix("#") for class_name in classes]
    if title and title not in CLASS_TITLES and set(classes) <= {"#0", "#1"}:
        raise ValueError(
            f"has only 0 and 1 below the title {title}, which may be a class or not: name the"
            " column of the classes label"
        )
    return [
        TruthRow(place, _normalize(row[columns.file_index]), (class_name,))
        for (place, row), class_name in zip(rows, classes)
    ]


def parse_json_object(pairs: Sequence[tuple[str, object]]) -> list[TruthRow]:
    """Read the pairs of a JSON object that maps file names to classes.

    Args:
        pairs: File names and classes. A class is a string or a whole number; several correct
            classes are a list of these.

    Raises:
        ValueError: A class is something else.
    """
    rows = []
    for number, (name, value) in enumerate(pairs, 1):
        values = value if isinstance(value, list) else [value]
        if not all((isinstance(v, str) and clean_class(v)) or type(v) is int for v in values):
            raise ValueError(f"the class of {name} is neither a name nor a whole number")
        classes = tuple(parse_class(str(item)) for item in values)
        rows.append(TruthRow(f"entry {number}", _normalize(name), classes))
    return rows


def parse_class(cell: str) -> str:
    """Return the class in a table cell.

    Args:
        cell: The text of the cell, which is not empty.

    Returns:
        The first WordNet id if the cell contains Kaggle's objects, "#7" if it contains a number
        such as "7" or "7.0", otherwise its text.
    """
    text, words = clean_class(cell), cell.split()
    begins_with_wnid = words[0][:1] == "n" and words[0][1:].isdecimal()
    if begins_with_wnid and len(words) % _BOX_FIELDS == 0:
        return words[0]
    number = _NUMBER.fullmatch(text)
    return f"#{number[1]}" if number else text


def _normalize(name: str) -> str:
    """Return a file name with "/" as separator and without "./" at the beginning.

    Letters with accents are composed (NFC): macOS stores the names of files in another form.
    """
    name = compose_name(name)
    return name.strip().strip("\"'").replace("\\", "/").removeprefix("./")


def _split_cells(text: str, delimiters: str) -> list[tuple[int, list[str]]]:
    """Return the number and the cells of each line that is not empty."""
    if match := re.match(r'"?sep=(.)"?\n', text):  # written for Excel
        text, delimiters = "\n" + text[match.end() :], match[1]
    lines = [line for line in text.splitlines() if line.strip()]
    delimiter = next(
        (sign for sign in delimiters if lines and all(sign in line for line in lines)),
        delimiters[0],
    )
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    return [(reader.line_num, row) for row in reader if row]


def _split_lines(text: str) -> list[tuple[int, list[str]]]:
    """Return the number, the file name and the class of each line that is not empty."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE_WITH_SUFFIX.fullmatch(line.strip()) or _LINE.fullmatch(line.strip())
        if match is None:
            hint = ""
            if line.strip().isdecimal():
                hint = (
                    "; numbers alone, as in ILSVRC2012_validation_ground_truth.txt, are not the"
                    " model's class numbers, but those of the devkit"
                )
            raise ValueError(f"{_NOT_TWO_CELLS} (line {number}{hint})")
        rows.append((number, [match[1], match[2]]))
    return rows
