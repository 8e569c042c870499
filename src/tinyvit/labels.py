"""Class labels: those of ImageNet, and those that users provide in files.

ImageNet's classes are sorted by WordNet id. There are two sets. ImageNet-1k is the 1,000 classes of
ILSVRC 2012. ImageNet-22k is the 21,841 classes of the fall 2011 release, on which the paper's
checkpoints were trained (microsoft/Cream, TinyViT/data/imagenet22k_dataset.py). The name of a class
is the first lemma of its WordNet synset.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tinyvit.errors import RequestError

MAX_CLASSES = 1_000_000
"""Largest number of classes of a model."""

FORMATS = (
    "a .txt file with one name per line, a .csv or .tsv file with columns name, or index and name, "
    "or WordNet id and name (a header is optional), or a .json file such as "
    '["cat", ...], {"0": "cat", ...}, {"cat": 0, ...} or an object with one of these'
    " as id2label"
)
"""Description of the label files that `read_labels` accepts, for error messages and help."""

_IMAGENET_FILE = "assets/imagenet_labels.tsv.gz"
_IN_1K, _IN_22K = 1, 2
"""Flags in the first column of the ImageNet file: the class is in ImageNet-1k or ImageNet-22k."""

_TEXT_SUFFIXES = ("", ".txt", ".names", ".labels")
"""Endings of files with one name per line."""

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""Delimiter of the columns of a table, by the ending of the file."""

_KEY_HEADERS = frozenset(
    {
        "",
        "index",
        "idx",
        "id",
        "class",
        "class_id",
        "class_idx",
        "class_index",
        "label_id",
        "wnid",
        "synset",
    }
)
"""Titles, in lower case, of a column of indices or WordNet ids."""

_NAME_HEADERS = frozenset(
    {"name", "names", "label", "labels", "class", "classes", "class_name", "label_name"}
)
"""Titles, in lower case, of a column of names."""

_WNID = re.compile(r"n\d{8}")
_KEYED_LINE = re.compile(r"(\d+|n\d{8})\s*[\s,;:]\s*\S")
"""Matches a line with an index or a WordNet id before a name. A .txt file of such lines is refused,
because each line of a .txt file must be a name."""


@dataclass(frozen=True)
class Label:
    """The label of one class.

    Attributes:
        name: Human-readable name of the class.
        wnid: WordNet id such as "n02123045"; "" for a class that is not from ImageNet.
    """

    name: str
    wnid: str = ""


def imagenet_labels(num_classes: int) -> tuple[Label, ...] | None:
    """Return the labels of ImageNet in the order of the logits.

    Args:
        num_classes: Number of classes of the model.

    Returns:
        The labels if the number is 1000 or 21841, otherwise None.
    """
    flag = {1000: _IN_1K, 21841: _IN_22K}.get(num_classes)
    if flag is None:
        return None
    return tuple(label for flags, label in _read_imagenet_classes() if flags & flag)


def numbered_labels(num_classes: int) -> tuple[Label, ...]:
    """Return placeholder labels for a model without known labels.

    Args:
        num_classes: Number of classes of the model.

    Returns:
        Labels named "class 0", "class 1", and so on.
    """
    return tuple(Label(f"class {i}") for i in range(num_classes))


def labels_by_wnid() -> dict[str, Label]:
    """Return the labels of all ImageNet classes by their WordNet ids."""
    return {label.wnid: label for _, label in _read_imagenet_classes()}


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
    """
    try:
        labels = _parse_labels(path.read_text(encoding="utf-8-sig"), path.suffix.lower())
    except OSError as error:
        raise RequestError(
            f"the labels file {path} cannot be read ({error.strerror})", "check --labels"
        ) from error
    except (UnicodeDecodeError, ValueError, RecursionError, csv.Error) as error:
        raise RequestError(
            f"the labels file {path} is not understood ({error})", f"give {FORMATS}; in UTF-8"
        ) from error
    if not labels or any(not label.name for label in labels):
        raise RequestError(
            f"the labels file {path} contains no labels, or an empty one", f"give {FORMATS}"
        )
    return labels


@cache
def _read_imagenet_classes() -> tuple[tuple[int, Label], ...]:
    """Return the flags (_IN_1K, _IN_22K) and the label of every class, sorted by WordNet id.

    Each class has both flags, because one of the 1,000 classes is not among the 21,841.
    """
    compressed = resources.files("tinyvit").joinpath(_IMAGENET_FILE).read_bytes()
    lines = gzip.decompress(compressed).decode("utf-8").splitlines()
    rows = (line.split("\t") for line in lines)
    return tuple((int(flags), Label(name, wnid)) for flags, wnid, name in rows)


def _parse_labels(text: str, suffix: str) -> tuple[Label, ...]:
    """Parse the text of a labels file; raise ValueError if it is not in a known format."""
    if suffix == ".json":
        data = json.loads(text, object_pairs_hook=_make_unique_dict)
        return _make_labels(_parse_json_names(data))
    if suffix in _DELIMITERS:
        reader = csv.reader(io.StringIO(text), delimiter=_DELIMITERS[suffix], strict=True)
        return _parse_table([row for row in reader if row])
    if suffix not in _TEXT_SUFFIXES:
        raise ValueError(f"{suffix} is not a format of labels")
    lines = text.rstrip().split("\n")
    if "\t" in text or all(_has_key(line, index) for index, line in enumerate(lines)):
        raise ValueError("its lines contain more than a name: a table must be a .csv or .tsv file")
    return _make_labels(lines)


def _has_key(line: str, index: int) -> bool:
    """Return whether a line contains its own index or a WordNet id before a name."""
    match = _KEYED_LINE.match(line)
    if match is None:
        return False
    key = match[1]
    return key == str(index) or _WNID.fullmatch(key) is not None


def _parse_json_names(data: object) -> list[str]:
    """Return class names in the order of their indices, from any of the JSON forms in `FORMATS`."""
    if isinstance(data, dict):
        data = data.get("id2label", data)
    if isinstance(data, dict):
        # The type is compared exactly: a bool is an instance of int, but it is not an index.
        if data and all(type(index) is int for index in data.values()):
            data = _make_unique_dict((str(index), name) for name, index in data.items())
        return _order_by_index(data)
    if not isinstance(data, list):
        raise ValueError("it is neither a list of names nor a map between names and indices")
    return _require_strings(data)


def _parse_table(rows: list[list[str]]) -> tuple[Label, ...]:
    """Return labels from a table with one column (names) or two (keys and names).

    A key is an index or a WordNet id.
    """
    rows = [[cell.strip() for cell in row] for row in rows]
    column_count = len(rows[0]) if rows else 1
    if column_count not in (1, 2) or any(len(row) != column_count for row in rows):
        raise ValueError("its rows do not all have one column, or all two")
    if rows and _is_header(rows[0]):
        rows = rows[1:]
    if column_count == 1:
        return _make_labels([name for (name,) in rows])
    if rows and all(_WNID.fullmatch(key) for key, _ in rows):
        return tuple(Label(name, wnid) for wnid, name in rows)
    return _make_labels(_order_by_index(_make_unique_dict((key, name) for key, name in rows)))


def _is_header(row: list[str]) -> bool:
    """Return whether a row contains the titles of the columns, the last of which has the names."""
    *key_titles, name_title = (title.lower() for title in row)
    return name_title in _NAME_HEADERS and all(title in _KEY_HEADERS for title in key_titles)


def _order_by_index(names: dict[Any, Any]) -> list[str]:
    """Return the values in the order of the keys: {"1": "b", "0": "a"} gives ["a", "b"]."""
    indices = [str(i) for i in range(len(names))]
    if names.keys() != set(indices):
        raise ValueError("its indices are not 0, 1, 2, ...")
    return _require_strings([names[index] for index in indices])


def _make_unique_dict(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Make a dict from pairs. Raise ValueError for a repeated key, which `dict` would accept."""
    unique: dict[Any, Any] = {}
    for key, value in pairs:
        if key in unique:
            raise ValueError(f"{key!r} occurs twice")
        unique[key] = value
    return unique


def _require_strings(names: list[Any]) -> list[str]:
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a name is not a string")
    return names


def _make_labels(names: list[str]) -> tuple[Label, ...]:
    """Return a label for each name. For a WordNet id of ImageNet, it is the label of that class."""
    imagenet = labels_by_wnid()
    return tuple(imagenet.get(name, Label(name)) for name in map(str.strip, names))
