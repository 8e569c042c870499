"""Silencing libraries written in C, which write to the process's file descriptors past Python's sys.stdout and sys.stderr."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LOCK = threading.RLock()
"""Descriptors are the process's: two threads that both redirect would restore each other's."""


@contextmanager
def silent_descriptors() -> Iterator[None]:
    """Inside, what anyone writes to the descriptors of standard output and standard error is lost; after it, all is as it was.

    Keep it short: other threads' lines are lost too. A process without these descriptors is left as it is.
    """
    with _LOCK:
        kept: list[tuple[int, int]] = []
        try:
            with suppress(OSError):  # closed ones
                nowhere = os.open(os.devnull, os.O_WRONLY)
                for number in (1, 2):
                    with suppress(OSError):
                        kept.append((number, os.dup(number)))
                        os.dup2(nowhere, number)
                os.close(nowhere)
            yield
        finally:
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
