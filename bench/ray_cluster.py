"""A Ray cluster: connected to, and given tasks (extra "ray"). What the tasks are is their callers' affair."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from tinyvit.errors import MissingDependencyError, RequestError, TinyViTError

RETRIES = 5
"""Of a task whose worker was lost."""
_AHEAD = 64
"""Tasks that are handed out at once, so that what a large dataset gives does not wait in memory."""


@contextmanager
def connect_cluster(address: str) -> Iterator[Any]:
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
            ray.init(
                address=address or None,
                log_to_driver=False,
                logging_level="ERROR",
                include_dashboard=False,
            )
        yield ray
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TinyViTError):
            raise error.cause from None
        raise _undone(address, error) from error
    except (ConnectionError, ValueError, ray.exceptions.RayError) as error:
        raise _undone(address, error) from error
    finally:
        if begun:
            ray.shutdown()


def _undone(address: str, error: Exception) -> RequestError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
    return RequestError(
        f"the cluster {address or 'on this machine'} did not do it ({reason})",
        "check ray status there",
    )


def _check_there(address: str) -> None:
    """Raise RequestError where nothing listens at HOST:PORT: Ray itself would try for minutes, and end the process then."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise RequestError(
            f"no Ray cluster answers at {address} ({error.strerror or error})",
            "start one there: ray start --head",
        ) from error


def run_on_cluster(ray: Any, tasks: Iterator[Any]) -> Iterator[Any]:
    """The results of remote calls in their order, of which no more than _AHEAD are begun before they are asked for."""
    waiting = deque(islice(tasks, _AHEAD))
    while waiting:
        yield ray.get(waiting.popleft())
        waiting.extend(islice(tasks, 1))
