"""The settings of glibc's allocator are changed only as far as glibc accepts them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tinyvit.processes import allocator

_TRIM, _MMAP = -1, -3
"""Numbers of the options M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in glibc's malloc.h."""


@pytest.mark.parametrize(
    ("largest_threshold", "expected_calls"),
    [
        (2**40, [(_MMAP, 2**30), (_TRIM, 2**31 - 1)]),
        (2**25, [(_MMAP, 2**30), (_MMAP, 2**25), (_TRIM, 2**31 - 1)]),
        (0, [(_MMAP, 2**30), (_MMAP, 2**25)]),
    ],
)
def test_a_threshold_that_glibc_refuses_is_replaced_by_a_smaller_one(
    monkeypatch: pytest.MonkeyPatch,
    largest_threshold: int,
    expected_calls: list[tuple[int, int]],
) -> None:
    """If glibc refuses both, setting only M_TRIM_THRESHOLD would make training slower.

    glibc would stop adapting the other threshold to the sizes of freed blocks.
    """
    calls = []

    def mallopt(option: int, value: int) -> int:
        calls.append((option, value))
        return int(option != _MMAP or value <= largest_threshold)

    library = SimpleNamespace(mallopt=mallopt)
    monkeypatch.setattr(allocator, "ctypes", SimpleNamespace(CDLL=lambda _: library))
    monkeypatch.setattr(allocator, "sys", SimpleNamespace(platform="linux"))
    allocator.keep_freed_memory()
    assert calls == expected_calls


def test_one_arena_is_requested_from_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    library = SimpleNamespace(mallopt=lambda option, value: calls.append((option, value)))
    monkeypatch.setattr(allocator, "ctypes", SimpleNamespace(CDLL=lambda _: library))
    monkeypatch.setattr(allocator, "sys", SimpleNamespace(platform="linux"))
    allocator.use_one_arena()
    assert calls == [(-8, 1)]  # M_ARENA_MAX in glibc's malloc.h
    monkeypatch.setattr(allocator, "sys", SimpleNamespace(platform="darwin"))
    allocator.use_one_arena()
    assert len(calls) == 1
