"""Protects processes that are created by `os.fork` while artifacts are open.

The threads of an engine exist only in the process that started them. In a child of `os.fork`, a
destructor that waits for such a thread never returns. So the child neither frees what it inherited
nor, when it exits, runs the destructors of the libraries that its parent had loaded.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache, partial
from weakref import WeakSet

_PROTECTED: WeakSet[object] = WeakSet()
"""Objects that must not be freed in a child of this process."""

_EXIT_FUNCTIONS = ("_exit", "fcloseall")
"""Functions of the C library that a child calls when it exits, the last one first.

`fcloseall` writes the text that is still in the output buffers of C code. Then `_exit` ends the
process without running the destructors of static C++ objects. In a child, the destructors of
onnxruntime 1.32 wait forever, even if the library was only imported.
"""


def protect_in_children(owner: object) -> None:
    """Make sure that a child of this process never frees an object.

    Args:
        owner: An object that owns native threads, such as an opened artifact.
    """
    _PROTECTED.add(owner)
    _register_hook()


def keep_forever(owner: object) -> None:
    """Increase the reference count of an object for good, so that its destructor never runs.

    Args:
        owner: An object that a child inherited and does not need.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


@cache
def _register_hook() -> None:
    """Register `_protect_this_child`, once, as a function that every child calls after the fork."""
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=partial(_protect_this_child, ctypes.CDLL(None)))


def _protect_this_child(c_library: ctypes.CDLL) -> None:
    """Protect what this child inherited. Each child that `os.fork` creates calls this function.

    `c_library` was loaded before the fork: during the fork, another thread may hold the lock of the
    loader, and in the child nothing releases that lock.
    """
    for owner in list(_PROTECTED):
        keep_forever(owner)
    _PROTECTED.clear()
    _skip_static_destructors(c_library)


def _skip_static_destructors(c_library: ctypes.CDLL) -> None:
    """Make this process end right after Python's own cleanup, with the exit code unchanged.

    When the process exits, glibc calls the functions that were passed to `on_exit`, the last one
    first, with the exit code as their first argument.
    """
    on_exit = getattr(c_library, "on_exit", None)  # only glibc has it
    if on_exit is not None:
        for name in _EXIT_FUNCTIONS:
            on_exit(ctypes.cast(getattr(c_library, name), ctypes.c_void_p), None)
