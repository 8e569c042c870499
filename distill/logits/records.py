"""Defines the records of a store (a folder of saved teacher predictions), and their checksums.

There is one record of fixed size for every view (augmented version of an image). Its little-endian
fields are a CRC-32 (uint32), the seed of the view (uint32), K class indices (uint16) and their
probabilities (float16), largest first. The CRC-32 is computed from the position of the record in
its epoch (uint64), followed by the other fields. A computed CRC-32 of 0 is stored as 1, so that an
unwritten record, which is all zeros, is never valid.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit.errors import RequestError

_CRC_BYTES = 4
"""Size of the checksum at the beginning of a record."""

Records = npt.NDArray[np.void]
"""A one-dimensional array of records. In a store, their dtype is that of `make_record_dtype`."""


@dataclass(frozen=True)
class TeacherPredictions:
    """The teachers' K most probable classes for each of B consecutive views.

    Attributes:
        start: Position of the first view among the records of its epoch.
        seeds: Seed of every view, uint32 (B,).
        classes: Indices of the K classes, the most probable class first, int64 (B, K).
        probabilities: Probabilities of these classes, 0 to 1, float64 (B, K).
    """

    start: int
    seeds: npt.NDArray[np.uint32]
    classes: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]


def make_record_dtype(top_k: int) -> np.dtype[np.void]:
    """Return the numpy dtype of one record of a store.

    Args:
        top_k: Number K of classes in a record.
    """
    return np.dtype(
        [
            ("crc", "<u4"),
            ("seed", "<u4"),
            ("classes", "<u2", (top_k,)),
            ("probabilities", "<f2", (top_k,)),
        ]
    )


def select_top_k(
    start: int,
    seeds: npt.NDArray[np.uint32],
    probabilities: npt.NDArray[np.float64],
    top_k: int,
) -> TeacherPredictions:
    """Keep the K most probable classes of every view.

    If classes are equally probable, those with smaller indices are kept first.

    Args:
        start: Position of the first view among the records of its epoch.
        seeds: Seed of every view, (B,).
        probabilities: Probabilities of all classes, (B, classes).
        top_k: Number K of classes to keep.

    Raises:
        RequestError: A probability is NaN or infinite.
    """
    _require_finite(probabilities)
    classes = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    top_probabilities = np.take_along_axis(probabilities, classes, axis=1)
    return TeacherPredictions(start, seeds, classes, top_probabilities)


def pack_records(predictions: TeacherPredictions, top_k: int) -> Records:
    """Convert teacher predictions to records with checksums.

    Args:
        predictions: The predictions for B views.
        top_k: Number K of classes in a record.

    Returns:
        Records, (B,).

    Raises:
        RequestError: A probability is NaN or infinite.
    """
    _require_finite(predictions.probabilities)
    records = np.zeros(len(predictions.seeds), make_record_dtype(top_k))
    records["seed"] = predictions.seeds
    records["classes"] = predictions.classes
    records["probabilities"] = predictions.probabilities
    records["crc"] = compute_checksums(records, predictions.start)
    return records


def find_intact_records(records: Records, start: int) -> npt.NDArray[np.bool_]:
    """Find the records that were written and have a correct checksum.

    Args:
        records: Consecutive records, (B,).
        start: Position of `records[0]` in its epoch.

    Returns:
        Whether each record is intact, bool (B,).
    """
    is_written = records["crc"] != 0
    return np.asarray((records["crc"] == compute_checksums(records, start)) & is_written)


def compute_checksums(records: Records, start: int) -> npt.NDArray[np.uint32]:
    """Compute the CRC-32 of each record, from its position and all fields except "crc".

    Args:
        records: Consecutive records, (B,).
        start: Position of `records[0]` in its epoch.

    Returns:
        The checksums, uint32 (B,), never 0.
    """
    record_bytes = records.view(np.uint8).reshape(len(records), -1)
    checksums = np.zeros(len(records), np.uint32)
    for index, other_fields in enumerate(record_bytes[:, _CRC_BYTES:]):
        position_crc = zlib.crc32((start + index).to_bytes(8, "little"))
        checksums[index] = zlib.crc32(other_fields.tobytes(), position_crc) or 1
    return checksums


def _require_finite(probabilities: npt.NDArray[np.float64]) -> None:
    """Raise an error if a probability is NaN or infinite."""
    if not np.isfinite(probabilities).all():
        raise RequestError(
            "a probability that the teacher predicts is NaN or infinite",
            "check the teacher's weights, or use --precision float32 if values overflow in 16 bits",
        )
