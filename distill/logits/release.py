"""The files of the paper's release: read, checked, converted to and from (microsoft/Cream, TinyViT/data/augmentation/manager.py).

A folder "logits_top{K}_epoch{E}" an epoch; in it every writer's "rank{R}-keys.txt", a picture's key a line, and "rank{R}-values.bin", a
record a key: int32 seed, K int16 class indices, K float16 probabilities, largest first; little-endian.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyvit.distill.logits.store import Records, Store, StoreHeader
from tinyvit.errors import RequestError
from tinyvit.files import publish_files, staging_folder

MAX_KEY_BYTES = 2**31
_EPOCH = re.compile(r"logits_top(\d+)_epoch(\d+)")


@dataclass(frozen=True)
class Release:
    """A folder of epochs: epoch -> its folder."""

    top_k: int
    epochs: dict[int, Path]

    @property
    def record(self) -> np.dtype[np.void]:
        """The layout of one record."""
        return np.dtype(
            [
                ("seed", "<i4"),
                ("classes", "<i2", (self.top_k,)),
                ("probabilities", "<f2", (self.top_k,)),
            ]
        )

    def ranks(self, epoch: int) -> Iterator[tuple[list[str], Records]]:
        """(keys, records) of every writer. Raises RequestError for files that do not fit each other, and for records that are none."""
        values = sorted(self.epochs[epoch].glob("rank*-values.bin"))
        if not values:
            raise RequestError(
                f"{self.epochs[epoch]} holds no rank*-values.bin",
                "give a folder as the paper's save_logits.py leaves it",
            )
        for path in values:
            keys_path = path.with_name(path.name.replace("-values.bin", "-keys.txt"))
            keys, size = _keys(keys_path), path.stat().st_size
            if size != len(keys) * self.record.itemsize:
                raise RequestError(
                    f"{path} has {size} bytes, and {keys_path.name} names {len(keys)} records of {self.record.itemsize}",
                    "it is truncated, or of another top-k: fetch it again",
                )
            records = (
                np.memmap(path, self.record, mode="r", shape=(len(keys),))
                if keys
                else np.zeros(0, self.record)
            )
            _check(records, path)
            yield keys, records


def open_release(folder: str | Path) -> Release:
    """Raises RequestError where the folder holds no epochs of that layout, or of several top-k."""
    found = {
        path: match
        for path in sorted(Path(folder).glob("logits_top*_epoch*"))
        if (match := _EPOCH.fullmatch(path.name))
    }
    ks = {int(match[1]) for match in found.values()}
    if len(ks) != 1 or not 1 <= min(ks) <= 2**15:
        said = (
            f"of several top-k ({', '.join(map(str, sorted(ks)))})"
            if ks
            else "none of the folders logits_top{K}_epoch{E}"
        )
        raise RequestError(
            f"{folder} holds {said}", "give a folder as the paper's save_logits.py leaves it"
        )
    return Release(ks.pop(), {int(match[2]): path for path, match in found.items()})


def write_release(store: Store, keys: tuple[str, ...], folder: Path) -> list[Path]:
    """Every finished epoch of a store in that layout, the views of a picture one after the other as keys "key", "key#1", ..."""
    header = store.header
    if header.classes > 2**15:
        raise RequestError(
            f"{header.classes} classes do not fit the release's 16 bits with sign",
            "keep the store's own format",
        )
    made = []
    for epoch in range(store.epochs):
        path = folder / f"logits_top{header.top_k}_epoch{epoch}" / "rank0-values.bin"
        with staging_folder(path) as staged:
            records = store.records(epoch)
            store.check(epoch, 0, records)
            text = "".join(f"{name}\n" for name in _names(keys, header.views))
            (staged / "rank0-keys.txt").write_text(text, encoding="utf-8", errors="surrogateescape")
            (staged / path.name).write_bytes(
                _converted(records, Release(header.top_k, {}).record).tobytes()
            )
            publish_files([staged / "rank0-keys.txt", staged / path.name], path.parent)
        made.append(path.parent)
    return made


def records_for(
    release: Release, epoch: int, header: StoreHeader, keys: tuple[str, ...]
) -> Records:
    """An epoch's records in the order of `keys` and in the store's layout, without checksums. Raises RequestError where one is missing."""
    places = {name: place for place, name in enumerate(_names(keys, header.views))}
    found = np.zeros(header.samples, header.record)
    seen = np.zeros(header.samples, bool)
    for names, records in release.ranks(epoch):
        where = np.array([places.get(name, -1) for name in names], np.int64)
        found[where[where >= 0]] = _converted(records[where >= 0], header.record)
        seen[where[where >= 0]] = True
    if not seen.all():
        missing = keys[int(np.flatnonzero(~seen)[0]) // header.views]
        raise RequestError(
            f"{release.epochs[epoch]} has no record of {missing}",
            "give the pictures that it was made for",
        )
    return found


def _names(keys: tuple[str, ...], views: int) -> Iterator[str]:
    """Of the records in the store's order."""
    return (key if view == 0 else f"{key}#{view}" for key in keys for view in range(views))


def _converted(records: Records, kind: np.dtype[np.void]) -> Records:
    made = np.zeros(len(records), kind)
    for name in ("seed", "classes", "probabilities"):
        made[name] = records[name]
    return made


def _keys(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MAX_KEY_BYTES:
            raise RequestError(
                f"{path} is larger than {MAX_KEY_BYTES >> 30} GiB", "give a list of a key a line"
            )
        return [
            line.strip()
            for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        ]
    except OSError as error:
        raise RequestError(
            f"{path} cannot be read ({error.strerror})",
            "fetch it again: every values file has one of keys",
        ) from error


def _check(records: Records, path: Path) -> None:
    """Raise RequestError for probabilities that are none, out of order, or of a class twice."""
    values = records["probabilities"].astype(np.float32)
    ordered = np.sort(records["classes"], axis=1)
    bad = (
        ~np.isfinite(values).all(1)
        | (values < 0).any(1)
        | (values.sum(1) > 1.01)
        | (np.diff(values, axis=1) > 0).any(1)
    )
    bad |= (records["seed"] < 0) | (ordered[:, 0] < 0) | (np.diff(ordered, axis=1) == 0).any(1)
    if bad.any():
        raise RequestError(
            f"record {int(np.flatnonzero(bad)[0])} of {path} is no answer of a teacher",
            "fetch the file again",
        )
