"""Lets the C library's memory allocator keep freed memory, so that torch is faster on a CPU."""

from __future__ import annotations

import ctypes
import sys

# Numbers of options in glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_MMAP_THRESHOLDS_BYTES = (2**30, 2**25)
"""Thresholds to try, in this order. Blocks below the threshold come from the heap. Larger blocks
come from mmap, and glibc returns such a block to the system as soon as it is freed. Older versions
of glibc refuse thresholds above 32 MiB."""
_TRIM_THRESHOLD_BYTES = 2**31 - 1
"""Amount of free memory above which the heap returns memory to the system: the largest value of a C
int, so that the heap practically never does."""


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next tensors.

    Otherwise a quarter of the time of a training step on a CPU, and of making synthetic images, is
    spent returning memory to the system and requesting it again. The setting affects the whole
    process and cannot be undone, so only a command may call this function, not library code.
    Without glibc, or if glibc refuses all `_MMAP_THRESHOLDS_BYTES`, the function changes nothing.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    # `mallopt` returns 0 if it refuses a value.
    if any(mallopt(_M_MMAP_THRESHOLD, threshold) for threshold in _MMAP_THRESHOLDS_BYTES):
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)


def use_one_arena() -> None:
    """Let all threads allocate from one heap, so that less freed memory is kept.

    glibc otherwise gives threads heaps of their own. With one, threads that allocate at the same
    time wait for each other. Without glibc, the function changes nothing.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, 1)


def release_freed_memory() -> None:
    """Return the memory that is freed already to the system, also after `keep_freed_memory`.

    Without glibc, the function changes nothing.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
