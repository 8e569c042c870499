"""Settings of the C memory allocator that make training on a CPU faster."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD = -1  # numbers of the options from glibc's malloc.h
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next training step.

    Returning the memory to the system and asking for it again takes a third of a step on a CPU.
    The setting is for the whole process and cannot be undone, so only a command that owns its
    process may call this. It does nothing where there is no glibc.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
