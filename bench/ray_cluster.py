"""Running tasks on a Ray cluster (extra "ray"); the callers define the tasks."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from tinyvit.errors import MissingDependencyError, RequestError, TinyViTError

RETRIES = 5
"""How often Ray repeats a task whose worker was lost."""
_MAX_PENDING = 64
"""Tasks that are submitted at once, so that the results of a large dataset do not fill memory."""


@contextmanager
def connect_cluster(address: str) -> Iterator[Any]:
    """Connect to a Ray cluster for the duration of a context.

    Args:
        address: HOST:PORT of a cluster; "" for a cluster on this machine, which ends with the
            context. A connection that exists already is used, and kept.

    Yields:
        The module `ray`, connected.

    Raises:
        RequestError: The cluster does not exist, or fails.
        MissingDependencyError: Ray is not installed.
        TinyViTError: A task raised it.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError.of("ray", "ray") from error
    _require_listener(address)
    is_own_connection = not ray.is_initialized()
    try:
        if is_own_connection:
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
        raise _cluster_error(address, error) from error
    except (ConnectionError, ValueError, ray.exceptions.RayError) as error:
        raise _cluster_error(address, error) from error
    finally:
        if is_own_connection:
            ray.shutdown()


def run_on_cluster(ray: Any, tasks: Iterator[Any]) -> Iterator[Any]:
    """Yield the results of remote calls in order.

    Args:
        ray: The module that `connect_cluster` yields.
        tasks: The calls, as object references. Each is submitted when the iterator reaches it,
            which is at most `_MAX_PENDING` calls before its result is yielded.
    """
    pending = deque(islice(tasks, _MAX_PENDING))
    while pending:
        yield ray.get(pending.popleft())
        pending.extend(islice(tasks, 1))


def _cluster_error(address: str, error: Exception) -> RequestError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
    return RequestError(
        f"the Ray cluster {f'at {address}' if address else 'on this machine'} failed ({reason})",
        "check the cluster with: ray status",
    )


def _require_listener(address: str) -> None:
    """Raise RequestError if nothing listens at HOST:PORT.

    Ray itself would try for minutes, and then end the process.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise RequestError(
            f"no Ray cluster answers at {address} ({error.strerror or error})",
            "start one there with: ray start --head",
        ) from error
