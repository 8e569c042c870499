"""Connects to a Ray cluster and runs tasks on it. Ray is installed by the extra "ray"."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import islice
from typing import Any

from tinyvit.bench.failures import shorten_reason
from tinyvit.errors import MissingDependencyError, RequestError, TinyViTError

MAX_RETRIES = 5
"""How often Ray repeats a task whose worker process or machine was lost."""
_MAX_PENDING = 64
"""Maximum number of submitted tasks whose results have not been fetched. It bounds the memory for
results."""


def require_ray() -> None:
    """Check that Ray is installed, without importing it, which takes seconds.

    Raises:
        MissingDependencyError: Ray is not installed.
    """
    if find_spec("ray") is None:
        raise MissingDependencyError.for_package("ray", extra="ray")


@contextmanager
def connect_cluster(address: str) -> Iterator[Any]:
    """Connect to a Ray cluster for the duration of a `with` block.

    Args:
        address: HOST:PORT of a cluster; "" to start a cluster on this machine and stop it at the
            end. If this process is already connected to a cluster, that connection is used
            instead, and it is not closed.

    Yields:
        The module `ray`, connected.

    Raises:
        RequestError: No cluster answers at the address, or the cluster fails.
        MissingDependencyError: Ray is not installed.
        TinyViTError: A task raised this error.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError.for_package("ray", extra="ray") from error
    _require_listener(address)
    is_own_connection = not ray.is_initialized()
    try:
        if is_own_connection:
            _connect(ray, address)
        yield ray
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TinyViTError):
            raise error.cause from None
        raise _make_cluster_error(address, error) from error
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise _make_cluster_error(address, error) from error
    finally:
        if is_own_connection:
            ray.shutdown()


def run_on_cluster(ray: Any, tasks: Iterator[Any]) -> Iterator[Any]:
    """Run tasks on a cluster, and yield their results in the order of the tasks.

    Args:
        ray: The module that `connect_cluster` yields.
        tasks: Iterator that submits one task per step and returns its object reference, as
            `remote_function.remote(...)` does. At any time, at most `_MAX_PENDING` tasks are
            submitted whose results have not been fetched.

    Yields:
        The result of each task.
    """
    pending = deque(islice(tasks, _MAX_PENDING))
    while pending:
        yield ray.get(pending.popleft())
        pending.extend(islice(tasks, 1))


def find_current_folder() -> str:
    """Return the absolute path of the current folder; "" if it has been deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def enter_folder(folder: str) -> None:
    """Make a folder the current one, to which relative paths refer.

    A worker calls this function, because it does not begin in the current folder of the process
    that submits its tasks.

    Args:
        folder: The folder, as `find_current_folder` returns it. If it does not exist on this
            machine, nothing is changed.
    """
    with suppress(OSError):
        os.chdir(folder)


def _connect(ray: Any, address: str) -> None:
    """Connect the module `ray` to the cluster at an address; start a cluster if that is ""."""
    try:
        with _leave_current_folder():
            ray.init(
                # Without "local", Ray would connect to a cluster that already runs here.
                address=address or "local",
                log_to_driver=False,
                logging_level="ERROR",
                include_dashboard=False,
            )
    except ValueError as error:
        raise _make_cluster_error(address, error) from error


@contextmanager
def _leave_current_folder() -> Iterator[None]:
    """Make the root of the file system the current folder during the block.

    Ray lets its workers look for modules in the current folder first, which may contain files of
    strangers, such as one called numpy.py.
    """
    folder = find_current_folder()
    os.chdir(os.path.abspath(os.sep))
    try:
        yield
    finally:
        enter_folder(folder)


def _make_cluster_error(address: str, error: Exception) -> RequestError:
    location = f"at {address}" if address else "on this machine"
    return RequestError(
        f"the Ray cluster {location} failed ({shorten_reason(error)})",
        "check the cluster with: ray status",
    )


def _require_listener(address: str) -> None:
    """Raise RequestError if the address is HOST:PORT and nothing listens there.

    Without this check, Ray would retry for minutes and then end the process.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise RequestError(
            f"no Ray cluster answers at {address} ({error.strerror or error})",
            "start one there with: ray start --head",
        ) from error
