"""Suppression of the output of third-party libraries.

Many libraries print or log so much that a command's own messages would be hard to find.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress

_DESCRIPTOR_LOCK = threading.RLock()
"""Held while file descriptors are redirected. All threads share the descriptors: if two threads
redirected them at the same time, one would save and restore the redirection of the other."""


@contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Suppress Python warnings, and messages below the level ERROR of some loggers.

    Args:
        names: Names of the loggers. Their levels are restored at the end.

    Yields:
        Nothing.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


@contextmanager
def silence_file_descriptors() -> Iterator[None]:
    """Discard all output to the file descriptors 1 and 2, including that of native code.

    The output of other threads is discarded too, so the block should be short. If the process has
    closed these descriptors, nothing is changed.

    Yields:
        Nothing.
    """
    with _DESCRIPTOR_LOCK:
        saved: list[tuple[int, int]] = []  # descriptors and their copies
        # Without flushing, output from before this block would be discarded too.
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # the stream is missing or closed
                stream.flush()
        try:
            with suppress(OSError):  # the descriptors may be closed
                null = os.open(os.devnull, os.O_WRONLY)
                for descriptor in (1, 2):
                    with suppress(OSError):
                        saved.append((descriptor, os.dup(descriptor)))
                        os.dup2(null, descriptor)
                os.close(null)
            yield
        finally:
            for descriptor, copy in saved:
                os.dup2(copy, descriptor)
                os.close(copy)


@contextmanager
def silence_libraries(*names: str) -> Iterator[None]:
    """Suppress log messages, warnings and printed output of Python libraries.

    In addition to what `quiet_loggers` does:

    - Output to `sys.stdout` and `sys.stderr` is discarded, because converters print their progress.
    - The handlers and the level of the root logger are restored at the end, because some libraries
      change them when they are imported.

    Args:
        names: Names of the loggers whose messages below the level ERROR are suppressed.

    Yields:
        Nothing.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with quiet_loggers(*names), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
