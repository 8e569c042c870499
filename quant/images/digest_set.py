"""Finds copies among a million images in little memory."""

from __future__ import annotations

import hashlib

import numpy as np

from tinyvit.data.calibration_images import Pixels

_MAX_RECENT = 2**16
"""Number of digests after which they are sorted into the others."""


def compute_digest(pixels: Pixels) -> int:
    """Return the first 64 bits of the SHA-256 of an image.

    Among a million different images, two have the same digest with a probability of 3e-8.

    Args:
        pixels: The image, uint8 (H, W, 3).
    """
    return int.from_bytes(hashlib.sha256(np.ascontiguousarray(pixels).data).digest()[:8], "big")


class DigestSet:
    """A set of numbers of 64 bits. It takes 8 bytes for each, where a `set` takes about 80."""

    def __init__(self) -> None:
        """Create an empty set."""
        self._sorted = np.empty(0, np.uint64)
        self._recent: set[int] = set()

    def __len__(self) -> int:
        """Return the number of digests."""
        return len(self._sorted) + len(self._recent)

    def add(self, digest: int) -> bool:
        """Add a digest.

        Args:
            digest: The digest, from 0 to 2^64 - 1.

        Returns:
            Whether the set did not contain it before.
        """
        if digest in self._recent or self._is_sorted_in(digest):
            return False
        self._recent.add(digest)
        if len(self._recent) >= _MAX_RECENT:
            recent = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, recent]))
            self._recent.clear()
        return True

    def _is_sorted_in(self, digest: int) -> bool:
        value = np.uint64(digest)
        position = int(np.searchsorted(self._sorted, value))
        return position < len(self._sorted) and bool(self._sorted[position] == value)
