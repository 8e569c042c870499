"""The label of a class, and the labels of ImageNet.

ImageNet's classes are sorted by WordNet id. There are two sets. ImageNet-1k is the 1,000 classes of
ILSVRC 2012. ImageNet-22k is the 21,841 classes of the fall 2011 release, on which the paper's
checkpoints were trained (microsoft/Cream, TinyViT/data/imagenet22k_dataset.py). The name of a class
is the first lemma of its WordNet synset.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from tinyvit.text.plurals import format_count

MAX_CLASSES = 1_000_000
"""Largest number of classes of a model."""

_IMAGENET_FILE = "assets/imagenet_labels.tsv.gz"
_IN_1K, _IN_22K = 1, 2
"""Flags of a class that is in ImageNet-1k or ImageNet-22k. The first column of the ImageNet file is
the sum of the flags of a class."""


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


@cache
def labels_by_wnid() -> Mapping[str, Label]:
    """Return the labels of all ImageNet classes by their WordNet ids."""
    return {label.wnid: label for _, label in _read_imagenet_classes()}


def describe_labels(labels: Sequence[Label]) -> str:
    """Return the number of labels, the first one and the last one, for messages.

    A person recognizes from these whether the labels were read as intended.

    Args:
        labels: At least one label, in the order of the logits.

    Returns:
        A phrase such as "3 labels, from 0: cat to 2: bird".
    """
    count = format_count(len(labels), "label")
    if len(labels) == 1:
        return f"{count}, 0: {describe_label(labels[0])}"
    return (
        f"{count}, from 0: {describe_label(labels[0])}"
        f" to {len(labels) - 1}: {describe_label(labels[-1])}"
    )


def describe_label(label: Label) -> str:
    """Return the name and the WordNet id of a label, as far as it has them, for messages."""
    if label.name and label.wnid:
        return f"{label.name} ({label.wnid})"
    return label.name or label.wnid


@cache
def _read_imagenet_classes() -> tuple[tuple[int, Label], ...]:
    """Return the sum of the flags and the label of every class, sorted by WordNet id.

    Both sets need a flag, because one of the 1,000 classes is not among the 21,841.
    """
    compressed = resources.files("tinyvit").joinpath(_IMAGENET_FILE).read_bytes()
    lines = gzip.decompress(compressed).decode("utf-8").splitlines()
    rows = (line.split("\t") for line in lines)
    return tuple((int(flags), Label(name, wnid)) for flags, wnid, name in rows)
