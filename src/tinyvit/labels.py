"""Class labels: WordNet ids and names, ImageNet's own or a user's.

ImageNet's classes are in sorted order of WordNet id: 1,000 (ILSVRC 2012) or the 21,841 of the fall 2011 release,
which the 22k checkpoints use (microsoft/Cream, TinyViT/data/imagenet22k_dataset.py). Names are WordNet's first lemmas.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from tinyvit.errors import RequestError

MAX_CLASSES = 1_000_000
_DATA = "data/imagenet_labels.tsv.gz"


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


def imagenet(num_classes: int) -> tuple[Label, ...] | None:
    """ImageNet's labels in the order of the head's rows: for 1000 or 21841 classes; None for any other number."""
    if num_classes == 1000:
        return tuple(label for sets, label in _imagenet() if sets & 1)
    if num_classes == 21841:
        return tuple(label for sets, label in _imagenet() if sets & 2)
    return None


def numbered(num_classes: int) -> tuple[Label, ...]:
    """Stand-ins where nothing is known: "class 0", "class 1", ..."""
    return tuple(Label(f"class {i}") for i in range(num_classes))


def by_wnid() -> dict[str, Label]:
    """Every ImageNet label by its WordNet id."""
    return {label.wnid: label for _, label in _imagenet()}


def read(path: Path) -> tuple[Label, ...]:
    """Labels from a user's file, in the order of the head's rows.

    .json: a list of names, or {"0": "name", ...} as the hub's id2label; .csv or .tsv: name, or wnid and name, a row each;
    anything else: one name a line. A line that is a WordNet id of ImageNet's gets its name. Raises RequestError.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _rows(text, path.suffix.lower())
    except OSError as error:
        raise RequestError(f"the labels file {path} cannot be read ({error.strerror})", "check --labels") from error
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise RequestError(f"the labels file {path} is not understood ({error})", "give one class name a line, in UTF-8") from error
    known = by_wnid()
    labels = tuple(known.get(row[0], Label(row[0])) if len(row) == 1 else Label(name=row[1], wnid=row[0]) for row in rows)
    if not labels or any(not label.name for label in labels):
        raise RequestError(f"the labels file {path} has no labels, or an empty one", "give one class name a line")
    return labels


def _rows(text: str, suffix: str) -> list[list[str]]:
    if suffix == ".json":
        data = json.loads(text)
        if isinstance(data, dict):
            if sorted(map(int, data)) != list(range(len(data))):
                raise ValueError("its keys are not 0, 1, 2, ...")
            data = [data[key] for key in sorted(data, key=int)]
        if not isinstance(data, list) or not all(isinstance(name, str) for name in data):
            raise ValueError("neither a list of names nor a map from index to name")
        return [[name.strip()] for name in data]
    if suffix in (".csv", ".tsv"):
        table = list(csv.reader(io.StringIO(text), delimiter="\t" if suffix == ".tsv" else ","))
        if any(len(row) not in (1, 2) for row in table if row):
            raise ValueError("a row has neither one nor two columns")
        return [[cell.strip() for cell in row] for row in table if row]
    return [[line.strip()] for line in text.strip().splitlines()]
