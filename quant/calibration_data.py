"""Images to calibrate with and to validate on, always through the model's own `Preprocess`.

A camera's rotation is not honored, as in the published evaluations.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ImageError, RequestError
from tinyvit.files import listing_sha256
from tinyvit.images import list_images, open_image
from tinyvit.labels import Label, match_class_names
from tinyvit.preprocess import Preprocess
from tinyvit.quant.image_sources import ImageItem, Pixels, list_items, make_item

MIN_IMAGES, MAX_IMAGES = 32, 10_000
"""Of a calibration: fewer say too little of the ranges, more only take longer."""
MIN_AGREEMENT_IMAGES = 67
"""To measure agreement on: of fewer, a single other answer is more than the 1.5% that the default budget allows."""
MAX_UNREADABLE = 0.05
"""Share of unreadable files above which the data, not a file, is taken to be wrong."""
BATCH = 32
MAX_KEPT_BYTES = 2**29
"""Of pixels that stay in memory from one pass over them to the next: 3,500 pictures of 224 x 224."""


@dataclass(frozen=True)
class CalibrationSet:
    """pixels: uint8 (N, S, S, 3), resized and cropped. source: what they are, on one line. sha256: of the pixels in order
    and the preprocessing. skipped: files that could not be read."""

    pixels: Pixels
    source: str
    sha256: str
    skipped: int = 0

    @classmethod
    def of(
        cls, pixels: Pixels, source: str, preprocess: Preprocess, skipped: int = 0
    ) -> CalibrationSet:
        """With its hash computed."""
        digest = hashlib.sha256(json.dumps(asdict(preprocess), sort_keys=True).encode())
        digest.update(np.ascontiguousarray(pixels).data)
        return cls(pixels, source, digest.hexdigest(), skipped)


@dataclass
class ValidationSet:
    """Pictures with their classes, decoded as they are iterated over, the first time or, of many, each time. skipped: unreadable ones."""

    files: tuple[Path, ...]
    classes: npt.NDArray[np.int64]
    preprocess: Preprocess
    skipped: int = field(default=0, init=False)
    _kept: list[tuple[Pixels, npt.NDArray[np.int64]]] = field(
        default_factory=list, init=False, repr=False
    )

    def __len__(self) -> int:
        return len(self.files)

    @property
    def sha256(self) -> str:
        """Hex digest of all names, sizes in bytes and classes."""
        return listing_sha256(
            (f"{row}/{file.parent.name}/{file.name}", file)
            for file, row in zip(self.files, self.classes)
        )

    def batches(self) -> Iterator[tuple[Pixels, npt.NDArray[np.int64]]]:
        """Pixels, uint8 (B, S, S, 3), and classes (B,), B up to BATCH, in the same order every time.

        Raises RequestError once more than MAX_UNREADABLE of all files cannot be read.
        """
        if self._kept:
            yield from self._kept
            return
        kept: list[tuple[Pixels, npt.NDArray[np.int64]]] | None = (
            [] if len(self) * self.preprocess.size**2 * 3 <= MAX_KEPT_BYTES else None
        )
        for batch in self._decoded():
            yield batch
            if kept is not None:
                kept.append(batch)
        self._kept = kept or []

    def _decoded(self) -> Iterator[tuple[Pixels, npt.NDArray[np.int64]]]:
        pixels: list[Pixels] = []
        classes: list[int] = []
        errors: list[ImageError] = []
        items = [make_item(path, path.parent) for path in self.files]
        for index, answer in zip(self.classes, _decoded(items, self.preprocess)):
            if isinstance(answer, ImageError):
                errors.append(answer)
                _refuse_unreadable(errors, len(self.files))
                continue
            pixels.append(answer)
            classes.append(int(index))
            if len(pixels) == BATCH:
                yield np.stack(pixels), np.array(classes)
                pixels, classes = [], []
        if pixels:
            yield np.stack(pixels), np.array(classes)
        self.skipped = len(errors)


def read_calibration(
    data: str | Path, preprocess: Preprocess, count: int = 256, seed: int = 0
) -> CalibrationSet:
    """`count` different pictures, or all where there are fewer, chosen by `seed`, evenly from the folders they lie in.

    data: a folder of images, at any depth; a .txt of a path a line, relative to the file; an .npz of one array, uint8
    (N, H, W, 3). The choice depends on names alone. Unreadable files and copies are passed over and counted. Raises
    RequestError for data or a count that cannot be used, and for a picture of one color.
    """
    _check_count(count)
    pixels, note, skipped = _read(data, preprocess, count, seed)
    return CalibrationSet.of(pixels, f"{len(pixels)} {note}", preprocess, skipped)


def split_calibration(
    data: str | Path, preprocess: Preprocess, count: int = 256, held: int = 1000, seed: int = 0
) -> tuple[CalibrationSet, Pixels]:
    """What `read_calibration` gives, and up to `held` more pictures, none of them in it: uint8 (N, S, S, 3).

    Where there are not enough for both, a fifth is held out and at least ENOUGH, but never of the MIN_IMAGES to
    calibrate with. Raises RequestError as `read_calibration`, and where nothing is left to hold out.
    """
    _check_count(count)
    pixels, note, skipped = _read(data, preprocess, count + held, seed)
    found = len(pixels)
    kept = min(held, max(found // 5, MIN_AGREEMENT_IMAGES, found - count), found - MIN_IMAGES)
    if kept < 1:
        raise RequestError(
            f"{data} has {found} different pictures, all needed to calibrate",
            f"give {2 * MIN_IMAGES} or more, or class folders to validate",
        )
    used = pixels[: found - kept]
    return CalibrationSet.of(
        used, f"{len(used)} {note}, {kept} held out", preprocess, skipped
    ), pixels[found - kept :]


def read_validation(
    folder: str | Path, preprocess: Preprocess, labels: Sequence[Label]
) -> ValidationSet:
    """The pictures of class folders, named by a label's WordNet id or name. Raises RequestError for folders of no known class."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RequestError(f"{folder} is no folder", "give a folder with one folder a class")
    files = list_images(folder)
    names = [file.relative_to(folder).parts[0] for file in files]
    rows = match_class_names(names, labels, f"folders and files in {folder}")
    return ValidationSet(tuple(files), np.array([rows[name] for name in names]), preprocess)


def _check_count(count: int) -> None:
    if not MIN_IMAGES <= count <= MAX_IMAGES:
        raise RequestError(
            f"{count} calibration images are not possible", f"give {MIN_IMAGES} to {MAX_IMAGES}"
        )


def _read(
    data: str | Path, preprocess: Preprocess, count: int, seed: int
) -> tuple[Pixels, str, int]:
    """(up to `count` different pictures, what they are, how many were unreadable)."""
    items = _ordered(list_items(Path(data)), seed)
    pixels = np.empty((min(count, len(items)), preprocess.size, preprocess.size, 3), np.uint8)
    seen: set[bytes] = set()
    errors: list[ImageError] = []
    looked = copies = 0
    for item, answer in zip(items, _decoded(items, preprocess)):
        looked += 1
        if isinstance(answer, ImageError):
            errors.append(answer)
            _refuse_unreadable(errors, len(items))
            continue
        if (answer == answer[0, 0]).all():
            raise RequestError(
                f"{item.name} of {data} is of one color",
                "take it out: its ranges are no photograph's",
            )
        digest = hashlib.sha256(answer.data).digest()
        copies += digest in seen
        if digest not in seen:
            pixels[len(seen)] = answer
            seen.add(digest)
        if len(seen) == count:
            break
    _refuse_unreadable(errors, looked)
    if len(seen) < MIN_IMAGES:
        left_out = f" ({copies} copies, {len(errors)} unreadable)" if copies or errors else ""
        raise RequestError(
            f"{data} has {len(seen)} different pictures{left_out}", f"give at least {MIN_IMAGES}"
        )
    facts = [
        f"{number} {what}"
        for number, what in ((len(errors), "unreadable"), (copies, "copies"))
        if number
    ]
    return (
        pixels[: len(seen)],
        ", ".join([f"of {len(items)} pictures in {Path(data).name}, seed {seed}", *facts]),
        len(errors),
    )


def _refuse_unreadable(errors: list[ImageError], of: int) -> None:
    if len(errors) > MAX_UNREADABLE * of:
        raise RequestError(
            f"{len(errors)} of the {of} pictures looked at cannot be read, the first: {errors[0].cause}",
            f"{errors[0].remedy}; up to 5% are passed over",
        )


def _ordered(items: list[ImageItem], seed: int) -> list[ImageItem]:
    """One of every group in turn; within and among them by a hash, which no version or file system changes."""

    def drawn(name: str) -> bytes:
        return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()

    groups: dict[str, list[ImageItem]] = defaultdict(list)
    for item in sorted(items, key=lambda item: drawn(item.name)):
        groups[item.group].append(item)
    rounds = zip_longest(*(groups[name] for name in sorted(groups, key=drawn)))
    return [item for one_each in rounds for item in one_each if item is not None]


def _decoded(items: Sequence[ImageItem], preprocess: Preprocess) -> Iterator[Pixels | ImageError]:
    """Pixels (S, S, 3) of every item, or its error, in order, made in threads that are a few pictures ahead."""

    def decode(item: ImageItem) -> Pixels | ImageError:
        try:
            return preprocess.resize_and_crop(open_image(item.picture(), exif=False))
        except ImageError as error:
            return error

    threads = min(4, os.cpu_count() or 1)
    pending: deque[Future[Pixels | ImageError]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tinyvit-decode")
    try:
        for item in items:
            pending.append(pool.submit(decode, item))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
