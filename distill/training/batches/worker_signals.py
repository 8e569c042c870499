"""Handles the signals that stop a command in the worker processes that load images."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that stop a command. A terminal or `timeout` sends them to the worker processes too."""


@contextmanager
def block_stop_signals() -> Iterator[None]:
    """Delay the stop signals until the end of the block.

    Workers inherit the blocked signals, so none reaches a worker before it can handle it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


def end_silently_on_signals(_worker: int) -> None:
    """Let a worker process end without a message when it receives a stop signal.

    The training process receives the signal too, and reports it. If a worker were killed by the
    signal, torch would raise an error in the training process.

    Args:
        _worker: Index of the worker process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training process ends its workers
    signal.signal(signal.SIGTERM, _end_worker)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


def _end_worker(*_: object) -> None:
    os._exit(0)
