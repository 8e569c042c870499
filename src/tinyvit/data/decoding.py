"""Decodes images in threads, a few images ahead of the engine that runs them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
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
    the iterable may be endless. If the function or the iterable raises an exception, the results of
    all earlier items are yielded first, and then the exception is raised. After an exception, or
    when the iterator is closed, calls that have not begun are canceled and running calls are
    awaited.

    Args:
        function: Called once for each item, in several threads at the same time.
        items: The items, in any number.
        threads: Number of threads.
        ahead: How many items may be taken from the iterable before their results are yielded, at
            least 1. The first result is yielded when `ahead` items, or all, have been taken.
        chunk: How many results to wait for at a time, from 1 to `ahead`. Results are yielded one by
            one, but when the first of `chunk` results is yielded, all of them are complete. If
            `chunk` equals `ahead`, nothing is computed while the caller uses the results.

    Yields:
        One result for each item, in the order of the items.
    """
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tinyvit-decode")
    try:
        for future in _submit_items(pool, function, items):
            pending.append(future)
            if len(pending) >= ahead:
                next_futures = [pending.popleft() for _ in range(chunk)]
                wait(next_futures)
                for next_future in next_futures:
                    yield next_future.result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _submit_items(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Future[Result]]:
    """Yield one future per item; an exception of the iterable becomes that of a last future."""
    try:
        for item in items:
            yield pool.submit(function, item)
    except Exception as error:
        failure: Future[Result] = Future()
        failure.set_exception(error)
        yield failure
