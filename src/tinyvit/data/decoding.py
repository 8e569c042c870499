"""A map over items in threads with limited read-ahead: images are decoded while an engine runs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_DECODING_THREADS = 4


def count_decoding_threads() -> int:
    """Return how many threads to decode images with: one per CPU core, at most 4."""
    return min(_MAX_DECODING_THREADS, os.cpu_count() or 1)


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    ahead: int,
    chunk: int = 1,
) -> Iterator[Result]:
    """Apply a function to items in threads and yield the results in order.

    Items are taken from the iterable in the caller's thread, at most `ahead` of them in advance, so
    the iterable may be endless. An error of the function or of the iterable is raised where its
    result would have been yielded. After an error, or when the iterator is closed, calls that have
    not begun are canceled and running calls are awaited.

    Args:
        function: Called once for each item, in several threads at the same time.
        items: The items, in any number.
        threads: Number of threads.
        ahead: Number of items taken from the iterable before the first result is yielded, at least
            1. This is also the largest number of results that are being computed or waiting.
        chunk: Number of results that must be complete before the first of them is yielded, at most
            `ahead`. If it equals `ahead`, nothing is computed while the caller uses the results.

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
