"""The same answers from many machines: Ray hands out shards of the pictures, and does again what a lost worker had (extra "ray").

Every machine must see the file and the pictures at the same paths.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any

from tinyvit.bench.accuracy.answers import Answer
from tinyvit.bench.accuracy.answers import answers as answer_here
from tinyvit.bench.accuracy.asked import Asked, open_classifier
from tinyvit.bench.accuracy.datasets import Dataset, Place, open_dataset
from tinyvit.bench.accuracy.datasets.matching import matched
from tinyvit.errors import MissingDependencyError, RequestError

SHARD = 128
"""Pictures in a task."""
_RETRIES = 5
_AHEAD = 64
"""Tasks that are handed out at once, so that a large validation set does not wait in memory."""


def answers(given: str, dataset: Dataset, asked: Asked, start: int, end: int) -> Iterator[Answer]:
    """What `answers.answers` gives for the dataset's matched pictures from `start` to before `end`, in the same order. Raises RequestError
    for a cluster that is not there or that lost too many workers."""
    assert dataset.place is not None
    with connected(asked.ray or "") as ray:
        yield from _gathered(ray, given, dataset.place, replace(asked, journal=None, meter=None, ray=None), start, end)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module ray, connected to the cluster at HOST:PORT, or to one of this machine's own ("") that ends with the context. Raises
    RequestError for a cluster that is not there or fails, MissingDependencyError where ray is not installed."""
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError.of("ray", "ray") from error
    _check_there(address)
    begun = not ray.is_initialized()
    try:
        if begun:
            ray.init(address=address or None, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        yield ray
    except (ConnectionError, ValueError, ray.exceptions.RayError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        raise RequestError(f"the cluster {address or 'on this machine'} did not do it ({reason})", "check ray status there") from error
    finally:
        if begun:
            ray.shutdown()


def _check_there(address: str) -> None:
    """Raise RequestError where nothing listens at HOST:PORT: Ray itself would try for minutes, and end the process then."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise RequestError(
            f"no Ray cluster answers at {address} ({error.strerror or error})", "start one there: ray start --head"
        ) from error


def _gathered(ray: Any, given: str, place: Place, asked: Asked, start: int, end: int) -> Iterator[Answer]:
    task: Callable[..., Any] = ray.remote(num_cpus=asked.threads or 1, max_retries=_RETRIES)(shard).remote
    tasks = (task(given, place, asked, first, min(first + SHARD, end)) for first in range(start, end, SHARD))
    waiting = deque(islice(tasks, _AHEAD))
    while waiting:
        yield from ray.get(waiting.popleft())
        waiting.extend(islice(tasks, 1))


def shard(given: str, place: Place, asked: Asked, start: int, end: int) -> list[Answer]:
    """The answers to the matched pictures from `start` to before `end`, in a worker."""
    classifier, samples = _opened(given, place, asked)
    return list(answer_here(classifier, samples[start:end]))


@lru_cache(maxsize=1)
def _opened(given: str, place: Place, asked: Asked) -> Any:
    """The file and its pictures stay open for a worker's next shard."""
    classifier = open_classifier(given, asked)
    return classifier, matched(open_dataset(place), classifier.labels, asked.only_known)[0]
