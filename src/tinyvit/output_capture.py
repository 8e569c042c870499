"""Keeping the libraries underneath from talking over the one line that counts."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress

_LOCK = threading.RLock()
"""Descriptors are the process's: two threads that both redirect would restore each other's."""


@contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Inside, these loggers say nothing below an error and no warning is shown; after it, all is as it was."""
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
    """Inside, what anyone writes to the descriptors of standard output and standard error is lost; after it, all is as it was.

    Keep it short: other threads' lines are lost too. A process without these descriptors is left as it is.
    """
    with _LOCK:
        kept: list[tuple[int, int]] = []
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # none, or a closed one
                stream.flush()  # what was printed before is not lost
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


@contextmanager
def silence_libraries(*names: str) -> Iterator[None]:
    """`quiet_loggers`, and nothing on sys.stdout and sys.stderr either, and the root logger's handlers and level as they were: converters print
    their progress, and some configure logging as they are imported."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with quiet_loggers(*names), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
