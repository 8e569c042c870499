"""A set of digests finds every copy, also after digests were sorted, and takes few bytes."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest

from tinyvit.quant.images import digest_set
from tinyvit.quant.images.digest_set import DigestSet, compute_digest


@pytest.mark.parametrize("max_recent", [1, 7, 1000])
def test_a_digest_is_new_once(max_recent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_set, "_MAX_RECENT", max_recent)
    rng = random.Random(0)
    values = [0, 2**64 - 1, *(rng.getrandbits(64) for _ in range(50))]
    digests = DigestSet()
    assert [digests.add(value) for value in values] == [True] * len(values)
    assert not any(digests.add(value) for value in reversed(values))
    assert len(digests) == len(values)
    assert digests.add(1)


def test_a_digest_takes_few_bytes() -> None:
    rng = random.Random(0)
    digests = DigestSet()
    tracemalloc.start()
    try:
        for _ in range(2 * digest_set._MAX_RECENT):
            digests.add(rng.getrandbits(64))
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used_bytes < 10 * len(digests)


def test_the_digest_depends_on_each_pixel() -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    other = pixels.copy()
    other[3, 4, 2] = 1
    assert compute_digest(pixels) == compute_digest(pixels.copy())
    assert compute_digest(pixels) != compute_digest(other)
    assert 0 <= compute_digest(pixels) < 2**64
