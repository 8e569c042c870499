"""Writes logits in the paper's format, independently of the code that is tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

RecordArray = npt.NDArray[np.void]
"""Records of the dtype `RECORD`, one for each key."""

K = 3
"""Number of classes in a record."""
RECORD = np.dtype([("seed", "<i4"), ("classes", "<i2", (K,)), ("probabilities", "<f2", (K,))])


def write_rank(folder: Path, rank: int, keys: list[str], seed: int = 0) -> RecordArray:
    """Write one rank's files in the paper's format, independently of the code."""
    random = np.random.RandomState(seed + rank)
    records = np.zeros(len(keys), RECORD)
    records["seed"] = random.randint(0, 2**31 - 1, len(keys))
    records["classes"] = np.stack([random.permutation(21841)[:K] for _ in keys])
    records["probabilities"] = -np.sort(-random.dirichlet([0.5] * K, len(keys)) * 0.9)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"rank{rank}-keys.txt").write_text("".join(f"{key}\n" for key in keys))
    (folder / f"rank{rank}-values.bin").write_bytes(
        b"".join(record.tobytes() for record in records)
    )
    return records
