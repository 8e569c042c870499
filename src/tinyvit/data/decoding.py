"""Decoding of images in threads, a few images ahead of the engine that runs them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_DECODING_THREADS = 4


def choose_decoding_threads() -> int:
    """Return a number of threads for decoding images: one per CPU core, at most 4."""
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
        ahead: Largest number of items, at least 1, that have been taken from the iterable while
            their results have not been yielded. The first result is yielded when so many items, or
            all, have been taken.
        chunk: Number of results that are yielded together: when the first of them is yielded, all
            are complete. At most `ahead`. If it equals `ahead`, nothing is computed while the
            caller uses the results.

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
