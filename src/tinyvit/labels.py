"""Class labels: WordNet ids and names, ImageNet's own or a user's.

ImageNet's classes are in sorted order of WordNet id: 1,000 (ILSVRC 2012) or the 21,841 of the fall 2011 release,
which the 22k checkpoints use (microsoft/Cream, TinyViT/data/imagenet22k_dataset.py). Names are WordNet's first lemmas.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tinyvit.errors import RequestError

MAX_CLASSES = 1_000_000
_DATA = "assets/imagenet_labels.tsv.gz"

FORMATS = (
    "a .txt of one name a line, a .csv or .tsv of names, of index and name or of WordNet id and name (a header may come first), "
    'or a .json: ["cat", ...], {"0": "cat", ...}, {"cat": 0, ...} or one with such an id2label'
)
_TEXT = ("", ".txt", ".names", ".labels")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_KEY_HEADS = {
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
_NAME_HEADS = {"name", "names", "label", "labels", "class", "classes", "class_name", "label_name"}
_WNID = re.compile(r"n\d{8}")
_KEYED = re.compile(r"(\d+|n\d{8})\s*[\s,;:]\s*\S")
"""A line of an index or a WordNet id, and a name. A file of such lines is not one of names."""


@dataclass(frozen=True)
class Label:
    """One class. wnid is a WordNet id such as "n02123045", or "" where the class is not ImageNet's."""

    name: str
    wnid: str = ""


@cache
def _imagenet() -> tuple[tuple[int, Label], ...]:
    """(1 for ImageNet-1k + 2 for 22k, label) in order of WordNet id; one class of the 1,000 is not among the 21,841."""
    packed = resources.files("tinyvit").joinpath(_DATA).read_bytes()
    rows = (line.split("\t") for line in gzip.decompress(packed).decode("utf-8").splitlines())
    return tuple((int(sets), Label(name, wnid)) for sets, wnid, name in rows)


def imagenet_labels(num_classes: int) -> tuple[Label, ...] | None:
    """ImageNet's labels in the order of the head's rows: for 1000 or 21841 classes; None for any other number."""
    if num_classes == 1000:
        return tuple(label for sets, label in _imagenet() if sets & 1)
    if num_classes == 21841:
        return tuple(label for sets, label in _imagenet() if sets & 2)
    return None


def numbered_labels(num_classes: int) -> tuple[Label, ...]:
    """Stand-ins where nothing is known: "class 0", "class 1", ..."""
    return tuple(Label(f"class {i}") for i in range(num_classes))


def labels_by_wnid() -> dict[str, Label]:
    """Every ImageNet label by its WordNet id."""
    return {label.wnid: label for _, label in _imagenet()}


def match_class_names(names: Sequence[str], labels: Sequence[Label], where: str) -> dict[str, int]:
    """Name -> place in `labels`, by WordNet id or name. Raises RequestError for names of no class or of several; where: what the names
    are of, such as "class folders in photos"."""
    known: dict[str, set[int]] = defaultdict(set)
    for index, label in enumerate(labels):
        for name in filter(None, (label.wnid, label.name)):
            known[name].add(index)
    unknown = sorted({name for name in names if len(known.get(name, ())) != 1})
    if unknown:
        first = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        raise RequestError(
            f"{len(unknown)} of the {len(set(names))} {where} are no class of the model ({first})",
            f"name every class folder by its WordNet id or its label, such as {labels[0].wnid or labels[0].name}",
        )
    return {name: min(known[name]) for name in names}


def read_labels(path: Path) -> tuple[Label, ...]:
    """Labels from a user's file, in the order of the head's rows; what may be in it is `FORMATS`.

    A name that is a WordNet id of ImageNet's gets its label. Raises RequestError for anything else, never guesses.
    """
    try:
        labels = _labels(path.read_text(encoding="utf-8-sig"), path.suffix.lower())
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
            f"the labels file {path} has no labels, or an empty one", f"give {FORMATS}"
        )
    return labels


def _labels(text: str, suffix: str) -> tuple[Label, ...]:
    """Raises ValueError saying what is wrong."""
    if suffix == ".json":
        return _named(_from_json(json.loads(text, object_pairs_hook=_distinct)))
    if suffix in _DELIMITERS:
        return _from_table(
            [
                row
                for row in csv.reader(io.StringIO(text), delimiter=_DELIMITERS[suffix], strict=True)
                if row
            ]
        )
    if suffix not in _TEXT:
        raise ValueError(f"{suffix} is no format of labels")
    lines = text.rstrip().split("\n")
    keys = [found[1] if (found := _KEYED.match(line)) else "" for line in lines]
    if "\t" in text or all(key == str(i) or _WNID.fullmatch(key) for i, key in enumerate(keys)):
        raise ValueError("its lines hold more than a name: a table ends with .csv or .tsv")
    return _named(lines)


def _from_json(data: object) -> list[str]:
    if isinstance(data, dict):
        data = data.get("id2label", data)
    if isinstance(data, dict):
        if data and all(
            type(index) is int for index in data.values()
        ):  # class_to_idx; a bool is no index
            data = _distinct((str(index), name) for name, index in data.items())
        return _in_order(data)
    if not isinstance(data, list):
        raise ValueError("neither a list of names nor a map of names and indices")
    return _texts(data)


def _from_table(rows: list[list[str]]) -> tuple[Label, ...]:
    rows = [[cell.strip() for cell in row] for row in rows]
    width = len(rows[0]) if rows else 1
    if width not in (1, 2) or any(len(row) != width for row in rows):
        raise ValueError("its rows do not all have one column, or all two")
    if all(
        head.lower() in known
        for head, known in zip(reversed(rows[0] if rows else []), (_NAME_HEADS, _KEY_HEADS))
    ):
        rows = rows[1:]
    if width == 1:
        return _named([name for (name,) in rows])
    if rows and all(_WNID.fullmatch(key) for key, _ in rows):
        return tuple(Label(name, wnid) for wnid, name in rows)
    return _named(_in_order(_distinct((key, name) for key, name in rows)))


def _in_order(names: dict[Any, Any]) -> list[str]:
    """{"1": "b", "0": "a"} -> ["a", "b"]."""
    wanted = [str(i) for i in range(len(names))]
    if names.keys() != set(wanted):
        raise ValueError("its indices are not 0, 1, 2, ...")
    return _texts([names[index] for index in wanted])


def _distinct(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dict of pairs; a key that comes twice, of which a plain dict would keep one, is an error."""
    made: dict[Any, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"{key!r} comes twice")
        made[key] = value
    return made


def _texts(names: list[Any]) -> list[str]:
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a name is no text")
    return names


def _named(names: list[str]) -> tuple[Label, ...]:
    known = labels_by_wnid()
    return tuple(known.get(name, Label(name)) for name in map(str.strip, names))
