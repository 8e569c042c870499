"""A file's answers to pictures, one after the other, and the journal that an interrupted run goes on from."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tinyvit.bench.accuracy.datasets import Sample
from tinyvit.bench.machine import cores
from tinyvit.errors import ArtifactError, ImageError, RequestError
from tinyvit.images import ChannelOrder
from tinyvit.runtimes.classifier import Classifier

BEST = 5
_MAX_JOURNAL_BYTES = 2**30
_BATCH = 64
"""Answers in a line of the journal: what an interruption loses at most."""
_EVERY_S = 0.5
_BY = 32
"""Pictures that are prepared before the network runs on them, where the two would only take the cores from each other."""


@dataclass(frozen=True)
class ImagePrediction:
    """best: the indices of the up to five best classes, the best first, of equal ones the lower; score: the best's softmax, 0 to 1.
    A picture that could not be read has no best, and `error` says why."""

    best: tuple[int, ...]
    score: float
    error: str = ""


Progress = Callable[[int, int, ImagePrediction], None]
"""Called with (pictures answered, of how many, the last answer)."""


def predict_samples(
    classifier: Classifier, samples: Sequence[Sample], channels: ChannelOrder = "rgb"
) -> Iterator[ImagePrediction]:
    """An answer a picture, in order; a camera's rotation is not honored, as in published evaluations. channels: of pictures that are
    arrays. Raises ArtifactError, naming the picture, for an answer that is not finite."""
    threads = classifier.describe().get("threads")
    by = _BY if isinstance(threads, int) and threads >= cores() else None
    rows = classifier.logits_each(
        (sample.picture() for sample in samples), channels=channels, exif=False, by=by
    )
    for sample, row in zip(samples, rows):
        yield (
            ImagePrediction((), 0.0, row.cause)
            if isinstance(row, ImageError)
            else _answer(row, sample.name)
        )


def kept(
    fresh: Iterable[ImagePrediction], total: int, journal: Journal | None, progress: Progress
) -> Iterator[ImagePrediction]:
    """What the journal has, then `fresh`, which is written to it; of all, progress is told."""
    known = journal.answers if journal else []
    for done, answer in enumerate(chain(known, fresh), 1):
        if journal and done > len(known):
            journal.add(answer)
        progress(done, total, answer)
        yield answer


def _answer(logits: npt.NDArray[np.float32], name: str) -> ImagePrediction:
    if not np.isfinite(logits).all():
        raise ArtifactError(
            f"the answer to {name} is not finite", "check the file with tinyvit-verify"
        )
    best = np.argsort(-logits, kind="stable")[:BEST]
    return ImagePrediction(
        tuple(best.tolist()), float(1 / np.exp(logits.astype(np.float64) - logits.max()).sum())
    )


class Journal:
    """A file of lines of JSON: first what is asked of what, then answers in order, a line for each few. A last line that was cut
    short is not believed; its pictures are asked again."""

    def __init__(self, file: IO[bytes], found: list[ImagePrediction]) -> None:
        self.answers = found
        self._file = file
        self._waiting: list[ImagePrediction] = []

    def add(self, answer: ImagePrediction) -> None:
        """One more; written with the next few."""
        self._waiting.append(answer)
        if len(self._waiting) == _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            line = (
                json.dumps([[list(one.best), one.score, one.error] for one in self._waiting]) + "\n"
            )
            self._file.write(line.encode("ascii"))
            self._file.flush()
            self._waiting = []


@contextmanager
def open_journal(path: Path, asked: dict[str, str]) -> Iterator[Journal]:
    """The journal at `path`, made where there is none. asked: hashes and names of everything that the answers depend on.

    Raises RequestError for a journal of anything else, naming what differs.
    """
    head = json.dumps(asked, sort_keys=True) + "\n"
    if not path.exists() or not path.stat().st_size:
        path.write_bytes(head.encode("ascii"))
    found, length = _read(path, asked)
    with path.open("r+b") as file:
        file.truncate(length)
        file.seek(0, os.SEEK_END)
        journal = Journal(file, found)
        try:
            yield journal
        finally:
            journal.flush()


def _read(path: Path, asked: dict[str, str]) -> tuple[list[ImagePrediction], int]:
    """(answers, bytes that hold them)."""
    if path.stat().st_size > _MAX_JOURNAL_BYTES:
        raise RequestError(f"{path} is larger than a journal can be", "give another --resume")
    data = path.read_bytes()
    first, _, rest = data.partition(b"\n")
    try:
        said = json.loads(first)
        if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
            raise ValueError("no journal")
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"{path} is no journal of tinyvit-bench accuracy", "give --resume a new name"
        ) from error
    if differing := sorted(
        key for key in said.keys() | asked.keys() if said.get(key) != asked.get(key)
    ):
        raise RequestError(
            f"{path} is of another run: {', '.join(differing)} differ",
            "give --resume a new name, or run what it was begun with",
        )
    found: list[ImagePrediction] = []
    length = len(first) + 1
    for line in rest.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            found += [_from_row(row) for row in json.loads(line)]
        except (ValueError, TypeError, RecursionError) as error:
            raise RequestError(
                f"{path} is damaged ({error})", "delete it, and begin again"
            ) from error
        length += len(line)
    return found, length


def _from_row(row: Any) -> ImagePrediction:
    best, score, error = row
    if not (
        isinstance(best, list)
        and all(type(each) is int for each in best)
        and isinstance(score, float)
        and isinstance(error, str)
    ):
        raise ValueError("a line is not of answers")
    return ImagePrediction(tuple(best), score, error)


class Meter:
    """Counts for people: how many, how fast, how long still, and how right so far, on one line that is written over; write None: only
    counts."""

    def __init__(
        self, name: str, truths: Sequence[tuple[int, ...]], write: Callable[[str], object] | None
    ) -> None:
        self.done = self.right = 0
        self._name, self._truths, self._write = name, truths, write
        self._begun = self._last = time.perf_counter()

    def __call__(self, done: int, total: int, answer: ImagePrediction) -> None:
        """See `Progress`."""
        self.done = done
        self.right += bool(answer.best) and answer.best[0] in self._truths[done - 1]
        now = time.perf_counter()
        if self._write and (now - self._last >= _EVERY_S or done == total):
            self._last = now
            rate = done / max(now - self._begun, 1e-9)
            left = (total - done) / rate
            self._write(
                f"\r{self._name}: {done} of {total}, {rate:.1f} a second, {left / 60:.0f} min {left % 60:02.0f} s left, "
                f"top-1 so far {100 * self.right / done:.2f}% "
            )
            if done == total:
                self._write("\n")
