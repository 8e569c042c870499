"""Labeled pictures, as people have them: `open_dataset` finds out what a path is.

class folders          val/n01440764/*.JPEG, or folders named as the model's labels, or "0" ... "999" (ImageNet-V2)
flat files             val/ILSVRC2012_val_00000001.JPEG ..., and a truth file (truths.py) for them
a tar of either        ILSVRC2012_img_val.tar as downloaded, read where it lies (files.py)
the hub's              hf:ILSVRC/imagenet-1k, its validation split (hub.py)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, zip_longest
from pathlib import Path

from tinyvit.errors import RequestError
from tinyvit.images import ImageSource


@dataclass(frozen=True)
class Sample:
    """One picture. name: within its data. classes: what it shows, as the data names it: a WordNet id, a folder's name, or "#7" for the
    class of that index; of several, any is right. picture: reads it."""

    name: str
    classes: tuple[str, ...]
    picture: Callable[[], ImageSource]


@dataclass(frozen=True)
class Place:
    """What `open_dataset` was given: enough to open the same pictures in another process."""

    data: str
    truth: Path | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Dataset:
    """Labeled pictures in the order of their names. source: what they are and where their classes are from, for people."""

    source: str
    samples: tuple[Sample, ...]
    place: Place | None = None

    @cached_property
    def sha256(self) -> str:
        """Of names and classes: two measurements with the same one asked the same of the same pictures."""
        return hashlib.sha256(
            json.dumps([(one.name, one.classes) for one in self.samples]).encode()
        ).hexdigest()


def open_dataset(place: Place) -> Dataset:
    """What `place.data` is: a folder, a tar, or "hf:REPO". truth: the file of classes where files are not in class folders. limit: so many
    pictures, evenly from the classes, chosen by their names alone.

    Raises RequestError for what cannot be understood, and for a class folder with no picture in it.
    """
    whole = _open(place.data, place.truth)
    if place.limit is None or place.limit >= len(whole.samples):
        return Dataset(whole.source, whole.samples, place)
    return Dataset(f"{place.limit} of {whole.source}", _some(whole.samples, place.limit), place)


def _some(samples: Sequence[Sample], limit: int) -> tuple[Sample, ...]:
    """One of every class in turn, each class's by a hash of their names; in the order of the names."""
    if limit < 1:
        raise RequestError(f"{limit} pictures say nothing", "give --limit from 1, or leave it out")
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for sample in sorted(
        samples,
        key=lambda one: hashlib.sha256(one.name.encode("utf-8", "surrogateescape")).digest(),
    ):
        groups.setdefault(sample.classes, []).append(sample)
    in_turn = (
        one
        for round_ in zip_longest(*(groups[key] for key in sorted(groups)))
        for one in round_
        if one is not None
    )
    return tuple(sorted(islice(in_turn, limit), key=lambda one: one.name))


def _open(data: str, truth: Path | None) -> Dataset:
    from tinyvit.bench.accuracy.datasets import files, hub, truths

    if data.startswith(hub.PREFIX):
        if truth is not None:
            raise RequestError("the hub's pictures have their classes", "leave --truth out")
        return hub.open_hub(data.removeprefix(hub.PREFIX))
    path = Path(data)
    found = files.in_folder(path) if path.is_dir() else files.in_tar(path)
    return truths.labeled(found, path.name, truth)
