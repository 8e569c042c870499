"""Suppression of the output of third-party libraries, which would hide a command's messages."""

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
"""File descriptors belong to the process: two threads that redirect them at the same time would
restore each other's redirection."""


@contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Suppress Python warnings, and the messages of loggers below the level ERROR.

    Args:
        names: Names of the loggers. Their levels are restored afterwards.

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
    """Discard what native code writes to the descriptors of standard output and standard error.

    The output of other threads is discarded too, so the block must be short. A process that has no
    such descriptors is left as it is.

    Yields:
        Nothing.
    """
    with _DESCRIPTOR_LOCK:
        saved: list[tuple[int, int]] = []
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # absent or closed streams
                stream.flush()  # earlier output must not be discarded
        try:
            with suppress(OSError):  # closed descriptors
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
    """Suppress what Python libraries log, warn and print.

    Converters print their progress, and some configure logging when they are imported. So
    `sys.stdout` and `sys.stderr` are discarded, and the handlers and the level of the root logger
    are restored afterwards, in addition to what `quiet_loggers` does.

    Args:
        names: Names of the loggers to suppress below the level ERROR.

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
