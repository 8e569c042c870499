"""Suppression of the messages that libtiff prints about damaged images.

Pillow decodes compressed TIFF images with libtiff, which writes lines to standard error itself.
Pillow raises an exception for the same damage, so these lines say nothing new.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

_LOCK = threading.Lock()
"""Held while the number of blocks, or libtiff's handler, changes."""

_active_blocks = 0
"""Number of threads that are in the block of `silence_libtiff`."""

_saved_handler: int | None = None
"""Address of the handler that libtiff had before the first of these blocks; None for no handler."""


@contextmanager
def silence_libtiff() -> Iterator[None]:
    """Discard the messages of libtiff, in all threads of the process, until the block ends.

    Where Pillow contains libtiff in a form that hides this setting (on Windows), nothing changes.

    Yields:
        Nothing.
    """
    _enter_block()
    try:
        yield
    finally:
        _leave_block()


def _enter_block() -> None:
    """Remove libtiff's handler if this is the first block."""
    global _active_blocks, _saved_handler
    set_handler = _find_handler_setter()
    with _LOCK:
        if _active_blocks == 0 and set_handler is not None:
            _saved_handler = set_handler(None)
        _active_blocks += 1


def _leave_block() -> None:
    """Restore libtiff's handler if this was the last block."""
    global _active_blocks
    set_handler = _find_handler_setter()
    with _LOCK:
        _active_blocks -= 1
        if _active_blocks == 0 and set_handler is not None:
            set_handler(_saved_handler)


@cache
def _find_handler_setter() -> Any:
    """Return libtiff's function that sets the handler of errors and returns the previous one.

    Returns:
        The function, or None if Pillow does not make it accessible.
    """
    try:
        # Symbols are also looked up in the libraries that the extension module needs.
        set_handler = ctypes.CDLL(import_module("PIL._imaging").__file__).TIFFSetErrorHandler
    except (AttributeError, ImportError, OSError):
        return None
    set_handler.argtypes = [ctypes.c_void_p]
    set_handler.restype = ctypes.c_void_p
    return set_handler
