"""Reading a user's file of class labels, in one of the formats that `FORMATS` describes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from tinyvit.errors import RequestError
from tinyvit.files.file_io import read_text
from tinyvit.labels.imagenet import MAX_CLASSES, Label
from tinyvit.labels.label_construction import require_unique
from tinyvit.labels.label_data import labels_from_data
from tinyvit.labels.label_lines import parse_lines
from tinyvit.labels.label_tables import is_title_row, parse_rows
from tinyvit.labels.literals import parse_literal
from tinyvit.labels.yaml_labels import parse_yaml_labels

MAX_BYTES = 32 * 2**20
"""Larger files of labels are refused. That of ImageNet-22k has 1 MB, and JSON in memory can take 30
times as much as in the file."""

MAX_LINES = 2 * MAX_CLASSES
"""Text files and tables with more lines are refused; some of the lines may be empty."""

_MAX_VALUES = 4 * MAX_CLASSES
"""Largest number of commas and opening brackets in JSON or a Python literal. Small lists and dicts
need up to 60 times as much memory as in the file."""

FORMATS = (
    'a .txt file with one name per line, or with an index and a name per line ("0: cat", "0 cat",'
    ' "cat,0"); a .csv or .tsv file with columns of names and indices or WordNet ids (a row of'
    ' titles is optional); or a .json file such as ["cat", ...], {"0": "cat", ...}, {"cat": 0, ...}'
    " or an object with one of these as id2label, classes or names, or a .yaml file with the same"
    " content; indices start at 0"
)
"""Description of the label files that `read_labels` accepts, for error messages and help."""

Row = TypeVar("Row")

_TEXT_SUFFIXES = ("", ".txt", ".names", ".labels", ".list", ".lst")
"""Endings of files with one label per line."""

_YAML_SUFFIXES = (".yaml", ".yml")

_KEY_IN_BRACKETS = re.compile(r"\s*\[\d+\]\s*[^\s,\]]")
"""Matches the beginning of a text with lines such as "[0] cat", which is not a list."""

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""Delimiter of the columns of a table, by the ending of the file."""

_OTHER_DELIMITERS = (";", "\t", "|", ",")
"""Delimiters that spreadsheets may write into a .csv file instead of the comma.

The choice depends on the language of the system and on the options of saving."""


def read_labels(path: Path) -> tuple[Label, ...]:
    """Read class labels from a user's file in one of the formats that `FORMATS` describes.

    A name that is a WordNet id of ImageNet is replaced by the label of that class. An ambiguous
    file is refused.

    Args:
        path: The file, in UTF-8.

    Returns:
        The labels in the order of the logits.

    Raises:
        RequestError: The file cannot be read, or is not in one of the formats.
        MissingDependencyError: The file is YAML, and PyYAML is not installed.
    """
    try:
        labels = _parse_labels(read_text(path, MAX_BYTES), path.suffix.lower())
    except OSError as error:
        remedy = (
            "check --labels"
            if "," not in str(path)
            else "if these are names, write them to a file, one per line, and give --labels the"
            " path of the file"
        )
        raise RequestError(
            f"the labels file {path} cannot be read ({error.strerror})", remedy
        ) from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise RequestError(
            f"the labels file {path} is not understood ({error})", f"give {FORMATS}; in UTF-8"
        ) from error
    if not labels or any(not label.name for label in labels):
        raise RequestError(
            f"the labels file {path} contains no labels, or an empty one", f"give {FORMATS}"
        )
    return labels


def _parse_labels(text: str, suffix: str) -> tuple[Label, ...]:
    """Parse the text of a labels file; raise ValueError if it is not in a known format."""
    if suffix == ".json":
        return labels_from_data(_parse_json(text))
    if text.count("\n") > MAX_LINES:
        raise ValueError(f"it has more than {MAX_LINES} lines")
    if suffix in _DELIMITERS:
        return _parse_table(text, _DELIMITERS[suffix])
    if suffix in _YAML_SUFFIXES:
        return parse_yaml_labels(text)
    if suffix not in _TEXT_SUFFIXES:
        raise ValueError(f"{suffix} is not a format of labels")
    if text.lstrip()[:1] in ("{", "[", "(") and not _KEY_IN_BRACKETS.match(text):
        return labels_from_data(_parse_json_or_literal(text))
    return parse_lines(_require_count(text.rstrip().split("\n")))


def _require_count(rows: list[Row]) -> list[Row]:
    """Return the rows; raise ValueError before they are parsed if they are too many for labels."""
    if len(rows) > MAX_CLASSES + 1:  # one may have titles
        raise ValueError(f"it has more than {MAX_CLASSES} labels")
    return rows


def _parse_json_or_literal(text: str) -> object:
    """Parse a list or a dict in the notation of JSON or of Python."""
    try:
        return _parse_json(text)
    except json.JSONDecodeError:
        return parse_literal(text)


def _parse_json(text: str) -> object:
    """Parse JSON; raise ValueError, before any text is parsed, if it has too many values."""
    if sum(map(text.count, ",[{")) > _MAX_VALUES:
        raise ValueError(f"it has more than {_MAX_VALUES} values")
    return json.loads(text, object_pairs_hook=_make_unique_dict)


def _parse_table(text: str, delimiter: str) -> tuple[Label, ...]:
    """Parse a table, whose columns are usually but not always separated by this delimiter."""
    first_line, _, rest = text.partition("\n")
    if match := re.fullmatch(r'"?sep=(.)"?', first_line.strip()):  # written for Excel
        return parse_rows(_split_rows(rest, match[1]))
    try:
        rows = _split_rows(text, delimiter)
    except csv.Error:
        # If the delimiter is wrong, text follows a closing quote, which is an error.
        other_rows = _split_by_other_delimiter(text, delimiter)
        if other_rows is None:
            raise
        rows = other_rows
    if any(len(row) != len(rows[0]) or len(row) == 1 for row in rows):
        rows = _split_by_other_delimiter(text, delimiter) or rows
    if any(len(row) > 1 for row in rows):
        return parse_rows(rows)
    names = [row[0] for row in rows]
    return parse_lines(names[1:] if names and is_title_row(names[:1]) else names)


def _split_by_other_delimiter(text: str, delimiter: str) -> list[list[str]] | None:
    """Return the cells of all rows, separated by another delimiter that every line contains.

    The result is None if there is no such delimiter.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    for other in _OTHER_DELIMITERS:
        # Names in a .tsv file may contain commas, so commas separate columns only if a line has a
        # number between them.
        separates = other != "," or any(re.search(r"(^|,)\s*\d+\s*(,|$)", line) for line in lines)
        if lines and other != delimiter and separates and all(other in line for line in lines):
            return _split_rows(text, other)
    return None


def _split_rows(text: str, delimiter: str) -> list[list[str]]:
    """Return the cells of all rows that are not empty."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True, skipinitialspace=True)
    return _require_count([row for row in reader if row])


def _make_unique_dict(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict from pairs. Raise ValueError for a repeated key, which `dict` would accept."""
    pairs = list(pairs)
    require_unique([key for key, _ in pairs])
    return dict(pairs)
