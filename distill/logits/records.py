"""The records of a store: one fixed-size record for every view.

A record is little-endian: the CRC-32 of the rest and of the record's position (uint32), the seed
of the view (uint32), K class indices (uint16) and their probabilities (float16), largest first. A
record that was never written is all zeros, and never valid: a CRC of 0 is stored as 1.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit.errors import RequestError

Records = npt.NDArray[np.void]


@dataclass(frozen=True)
class TeacherOutputs:
    """The K most probable classes of consecutive views, as a teacher predicts them.

    Attributes:
        start: Position of the first view in its epoch.
        seeds: Seed of every view, uint32 (B,).
        classes: Class indices, largest probability first, int64 (B, K).
        probabilities: Their probabilities, 0 to 1, float64 (B, K).
    """

    start: int
    seeds: npt.NDArray[np.uint32]
    classes: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]


def record_dtype(top_k: int) -> np.dtype[np.void]:
    """Return the layout of one record.

    Args:
        top_k: Number of classes that a record keeps.
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
) -> TeacherOutputs:
    """Keep the K most probable classes of every view; of equal ones, the lower index comes first.

    Args:
        start: Position of the first view in its epoch.
        seeds: Seed of every view, (B,).
        probabilities: Probabilities of all classes, (B, classes).
        top_k: K.

    Raises:
        RequestError: A probability is NaN or infinite.
    """
    _require_finite(probabilities)
    classes = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return TeacherOutputs(start, seeds, classes, np.take_along_axis(probabilities, classes, axis=1))


def pack_records(outputs: TeacherOutputs, top_k: int) -> Records:
    """Pack teacher outputs as records with checksums.

    Args:
        outputs: The outputs of B views.
        top_k: Number of classes that a record keeps.

    Returns:
        Records, (B,).

    Raises:
        RequestError: A probability is NaN or infinite.
    """
    _require_finite(outputs.probabilities)
    records = np.zeros(len(outputs.seeds), record_dtype(top_k))
    records["seed"] = outputs.seeds
    records["classes"] = outputs.classes
    records["probabilities"] = outputs.probabilities
    records["crc"] = compute_checksums(records, outputs.start)
    return records


def find_intact(records: Records, start: int) -> npt.NDArray[np.bool_]:
    """Find the records whose checksum is right.

    Args:
        records: Consecutive records, (B,).
        start: Position of the first one in its epoch.

    Returns:
        bool (B,).
    """
    is_written = records["crc"] != 0
    return np.asarray((records["crc"] == compute_checksums(records, start)) & is_written)


def compute_checksums(records: Records, start: int) -> npt.NDArray[np.uint32]:
    """Compute the CRC-32 of every record's position and content.

    Args:
        records: Consecutive records, (B,).
        start: Position of the first one in its epoch.

    Returns:
        uint32 (B,), never 0.
    """
    content = records.view(np.uint8).reshape(len(records), -1)[:, 4:]
    position_crcs = (
        zlib.crc32((start + index).to_bytes(8, "little")) for index in range(len(records))
    )
    checksums = (
        zlib.crc32(row.tobytes(), position_crc) or 1
        for row, position_crc in zip(content, position_crcs)
    )
    return np.fromiter(checksums, np.uint32, len(records))


def _require_finite(probabilities: npt.NDArray[np.float64]) -> None:
    if not np.isfinite(probabilities).all():
        raise RequestError(
            "the teacher's output contains NaN or infinity",
            "check its weights, or use --precision float32 if it overflows in 16 bits",
        )
