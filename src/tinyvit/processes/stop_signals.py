"""Handles the signals that stop a command: SIGINT (Ctrl-C) and SIGTERM.

Both raise KeyboardInterrupt, so that the command cleans up. Libraries can lose this exception: one
that is raised during the import of a compiled module becomes an ImportError, and one that is raised
in a destructor is ignored. So this module remembers the signal, and raises the exception again.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """Raised when the process receives SIGTERM, so that commands clean up as after Ctrl-C."""


_EXCEPTIONS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
if sys.platform == "win32":
    # Windows sends it for Ctrl-Break, and never sends SIGTERM.
    _EXCEPTIONS[signal.SIGBREAK] = Terminated
_DEFAULT_HANDLERS = (signal.SIG_DFL, signal.default_int_handler)

_received: list[type[KeyboardInterrupt]] = []
"""The exceptions of the signals that the process has received in `catch_stop_signals`."""


@contextmanager
def catch_stop_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT, and Terminated on SIGTERM, and remember the signal.

    A handler that the program has installed is not replaced. Outside the main thread, which alone
    can install handlers, nothing is changed.

    Yields:
        Nothing.
    """
    is_main_thread = threading.current_thread() is threading.main_thread()
    previous_handlers = {
        number: handler
        for number in _EXCEPTIONS
        if is_main_thread and (handler := signal.getsignal(number)) in _DEFAULT_HANDLERS
    }
    previous_hook = sys.unraisablehook

    def ignore_lost_interrupt(unraisable: Any) -> None:
        """Print no traceback of a KeyboardInterrupt that was raised in a destructor."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            previous_hook(unraisable)

    for number in previous_handlers:
        signal.signal(number, _raise_and_remember)
    sys.unraisablehook = ignore_lost_interrupt
    try:
        yield
    finally:
        sys.unraisablehook = previous_hook
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
        _received.clear()


def raise_if_stopped(cause: BaseException | None = None) -> None:
    """Raise the exception of the first signal again, if the process has received one.

    Functions that publish files or report progress call this function, so that a command whose
    exception was lost ends soon, and publishes nothing.

    Args:
        cause: An exception that became the cause of the new one.

    Raises:
        KeyboardInterrupt: The process has received SIGINT or SIGTERM in `catch_stop_signals`.
    """
    if _received:
        raise _received[0] from cause


@contextmanager
def restore_interrupt() -> Iterator[None]:
    """Replace an error in the block by the KeyboardInterrupt that a library has turned into it.

    Yields:
        Nothing.

    Raises:
        KeyboardInterrupt: The block raised an error after the process had received a signal.
    """
    try:
        yield
    except Exception as error:
        raise_if_stopped(error)
        raise


def _raise_and_remember(number: int, _: FrameType | None) -> None:
    """Remember the exception of a signal, and raise it."""
    exception = _EXCEPTIONS[signal.Signals(number)]
    _received.append(exception)
    if number != signal.SIGINT:
        # A second signal must not interrupt the cleanup.
        signal.signal(number, signal.SIG_IGN)
    raise exception
