"""The journal of an accuracy run: a file of predictions, with which the run can be resumed.

Each line of the file is JSON. The first line is an object whose values are strings: the settings,
which are everything on which the predictions depend. Every other line is a list with one prediction
[classes, score, error] for each of several consecutive images. If the last line is incomplete
because the run was interrupted, this line is ignored, and its images are classified again.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvit.bench.accuracy.predictions import TOP_K, ImagePrediction
from tinyvit.errors import RequestError
from tinyvit.files.file_io import name_file_in_errors, write_atomically
from tinyvit.files.file_locks import hold_lock
from tinyvit.files.regular_files import check_regular_file, open_regular_file_for_update
from tinyvit.serialization import parse_json

_MAX_LINE_BYTES = 2**21
"""Longest line that is read. A line of 64 unreadable images, each with the longest possible error
message, has less than half of it."""
_PREDICTIONS_PER_LINE = 64
"""Number of predictions in a line. A crash loses at most this number of predictions."""


@dataclass(frozen=True)
class PredictionLimits:
    """Limits on the predictions of a journal, which anybody may have changed.

    Attributes:
        image_count: Number of images of the run; largest number of predictions.
        class_count: Number of classes of the model.
    """

    image_count: int
    class_count: int


class Journal:
    """An open journal.

    Attributes:
        initial_predictions: The predictions that were in the file when it was opened.
    """

    def __init__(self, file: io.FileIO, predictions: list[ImagePrediction]) -> None:
        """Wrap an open file.

        Args:
            file: The journal's file, without a buffer, positioned at its end.
            predictions: The predictions that are in the file.
        """
        self.initial_predictions = predictions
        self._file = file
        self._pending: list[ImagePrediction] = []

    def add(self, prediction: ImagePrediction) -> None:
        """Append a prediction. It is written to the file as soon as a line is full.

        Args:
            prediction: The prediction for the next image.
        """
        self._pending.append(prediction)
        if len(self._pending) == _PREDICTIONS_PER_LINE:
            self.flush()

    def flush(self) -> None:
        """Write the predictions that are not in the file yet, as one line.

        Raises:
            OSError: The line cannot be written, for example on a full disk. Its beginning is
                removed from the file, and its predictions are lost.
        """
        if not self._pending:
            return
        rows = [
            [list(prediction.classes), prediction.score, prediction.error]
            for prediction in self._pending
        ]
        self._pending = []  # even if writing fails, so that closing does not fail again
        start_bytes = self._file.tell()
        remaining = memoryview((json.dumps(rows) + "\n").encode("ascii"))
        try:
            with name_file_in_errors(Path(str(self._file.name))):
                while remaining:
                    remaining = remaining[self._file.write(remaining) :]
        except OSError:
            self._file.truncate(start_bytes)
            raise


@contextmanager
def open_journal(
    path: Path, settings: Mapping[str, str], limits: PredictionLimits
) -> Iterator[Journal]:
    """Open a journal for the duration of a `with` block; create the file if it does not exist.

    Args:
        path: The journal's file.
        settings: Everything on which the predictions depend, by name.
        limits: What predictions are possible.

    Yields:
        The journal, with the predictions that are already in the file.

    Raises:
        RequestError: The file is not a journal, is damaged, contains impossible predictions, was
            created with other settings, which the error names, or is in use by another process.
    """
    lock_file = path.with_name(f".{path.name}.lock")
    with hold_lock(lock_file, f"the journal {path}", "give --resume the name of another file"):
        if _is_missing_or_empty(path):
            write_atomically(path, json.dumps(settings, sort_keys=True) + "\n")
        # The file is opened once, so that what is checked, read and extended is the same file. A
        # buffer would keep a line that could not be written, and closing would fail again.
        with open_regular_file_for_update(path) as file:
            predictions, complete_bytes = _read_journal(file, path, settings, limits)
            file.truncate(complete_bytes)
            file.seek(0, os.SEEK_END)
            journal = Journal(file, predictions)
            try:
                yield journal
            finally:
                journal.flush()


def _is_missing_or_empty(path: Path) -> bool:
    try:
        return check_regular_file(path).st_size == 0
    except FileNotFoundError:
        return True


def _read_journal(
    file: io.FileIO, path: Path, settings: Mapping[str, str], limits: PredictionLimits
) -> tuple[list[ImagePrediction], int]:
    """Return the predictions in a journal, and the number of bytes of its complete lines."""
    predictions: list[ImagePrediction] = []
    with open(os.dup(file.fileno()), "rb") as reader:
        first_line = reader.readline(_MAX_LINE_BYTES)
        _require_settings(path, first_line, settings)
        complete_bytes = len(first_line)
        while line := reader.readline(_MAX_LINE_BYTES):
            is_incomplete = not line.endswith(b"\n") and len(line) < _MAX_LINE_BYTES
            if is_incomplete:
                break
            try:
                predictions += _parse_line(line, limits.class_count)
                if len(predictions) > limits.image_count:
                    raise ValueError(f"it has more predictions than {limits.image_count} images")
            except (ValueError, TypeError) as error:
                raise RequestError(
                    f"the journal {path} is damaged ({error})", "delete it, and start again"
                ) from error
            complete_bytes += len(line)
    return predictions, complete_bytes


def _require_settings(path: Path, first_line: bytes, settings: Mapping[str, str]) -> None:
    """Raise RequestError if the first line of a journal does not state these settings."""
    try:
        if not first_line.endswith(b"\n"):
            raise ValueError("the first line is not complete")
        stored = parse_json(first_line)
        if not isinstance(stored, dict) or not all(isinstance(x, str) for x in stored.values()):
            raise ValueError("the first line is not an object of strings")
    except ValueError as error:
        raise RequestError(
            f"{path} is not a journal of tinyvit-bench accuracy",
            "give --resume the name of a file that does not exist",
        ) from error
    names = sorted(stored.keys() | settings.keys())
    differing = [name for name in names if stored.get(name) != settings.get(name)]
    if differing:
        raise RequestError(
            f"the journal {path} belongs to a run that differs in {', '.join(differing)}",
            "give --resume the name of another file, or repeat the command that created it",
        )


def _parse_line(line: bytes, class_count: int) -> list[ImagePrediction]:
    """Convert a line to predictions; raise ValueError or TypeError if it does not contain any."""
    rows = parse_json(line, _MAX_LINE_BYTES)
    if not isinstance(rows, list) or not rows:
        raise ValueError("a line contains no list of predictions")
    return [_parse_row(row, class_count) for row in rows]


def _parse_row(row: Any, class_count: int) -> ImagePrediction:
    """Convert parsed JSON to a prediction; raise ValueError or TypeError if it is not one."""
    classes, score, error = row
    is_prediction = (
        isinstance(classes, list)
        and all(type(index) is int for index in classes)
        and isinstance(score, float)
        and isinstance(error, str)
    )
    if not is_prediction:
        raise ValueError("a line contains something other than predictions")
    is_possible = (
        len(set(classes)) == len(classes) <= TOP_K
        and all(0 <= index < class_count for index in classes)
        and 0 <= score <= 1
        and bool(classes) != bool(error)  # an unreadable image has an error instead of classes
    )
    if not is_possible:
        raise ValueError("a line contains an impossible prediction")
    return ImagePrediction(tuple(classes), score, error)
