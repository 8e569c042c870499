"""How this process's memory is kept, for training on a processor."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""


def keep_memory() -> None:
    """Have glibc keep what was freed for the next step: given back and taken anew each time, its pages take a third of a step on a
    processor.

    For the whole process and for good, so only a command that has it for itself may call this. Harmless where there is no glibc.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
