"""A threaded map with bounded look-ahead, for decoding images while an engine runs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_DECODING_THREADS = 4


def decoding_threads() -> int:
    """Return the number of threads that decode images: one per CPU core, at most 4."""
    return min(_MAX_DECODING_THREADS, os.cpu_count() or 1)


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    ahead: int,
    chunk: int = 1,
) -> Iterator[Result]:
    """Apply a function to items in threads and yield the results in order.

    Items are taken from the iterable in the caller's thread, and only as far ahead as stated, so
    the iterable may be endless. An error of the function or of the iterable is raised at its place.
    Closing the iterator, or an error, cancels the calls that have not begun and waits for those
    that have.

    Args:
        function: Called once for each item, in several threads at the same time.
        items: The items, of any number.
        threads: The number of threads.
        ahead: The number of items taken from the iterable before the first result is yielded, at
            least 1. So many results at most are held or being computed at any time.
        chunk: The number of results that are complete before the first of them is yielded, at most
            `ahead`. With `chunk == ahead`, nothing is computed while the caller uses the results.

    Yields:
        One result for each item, in the order of the items.
    """
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tinyvit-decode")
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= ahead:
                yield from [pending.popleft().result() for _ in range(chunk)]
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
