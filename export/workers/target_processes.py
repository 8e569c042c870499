"""Makes the artifacts of several targets at the same time, each in one of several processes.

Most of an export to several targets is done by Python code of converters, which runs on one core.
So worker processes make different artifacts at the same time. The process of the export calibrates,
decodes the images and evaluates the float32 network before, once for all. While a worker measures
latency, the others are paused, so that they do not disturb it. docs/lab-notes/engines.md ("Duration
of the command") has the times and the memory.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from torch import Tensor

from tinyvit.errors import ArtifactError, TinyViTError
from tinyvit.export.artifact_writer import ExportedArtifact
from tinyvit.export.export_results import FailedTarget
from tinyvit.export.plan import PlannedArtifact
from tinyvit.export.workers.worker_messages import (
    Aborted,
    Finished,
    QuietEnd,
    QuietGranted,
    QuietRequest,
    Ready,
    Report,
    SensitivityImagesRequest,
    WorkerSetup,
)
from tinyvit.openmp import THREADS_VARIABLE
from tinyvit.processes.limited_program import describe_crash
from tinyvit.processes.python_process import make_python_command
from tinyvit.progress import Progress

_CODE = "from tinyvit.export.workers.target_worker import run_worker; run_worker(int(sys.argv[1]))"
"""Python code of a worker process."""

_END_S = 10.0
"""Seconds in which a worker that is stopped must clean up and end."""

_TASK = "exporting, files"
"""Description of the progress of all workers together."""


@dataclass(eq=False)
class _Worker:
    """A worker process.

    Attributes:
        process: The process.
        connection: The connection to it.
        has_setup: Whether it was sent the `WorkerSetup`.
        remaining: The artifacts that it still has to make of those that it was sent.
    """

    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]
    has_setup: bool = False
    remaining: deque[PlannedArtifact] = field(default_factory=deque)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to the programs that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def send(self, message: Any) -> None:
        """Send a message. If the process has ended, nothing is sent, and `recv` reports that."""
        with suppress(OSError):
            self.connection.send(message)


def can_use_processes() -> bool:
    """Return whether the system can pause processes, and pass sockets to them (not Windows)."""
    return sys.platform != "win32"


def make_in_processes(
    groups: Sequence[tuple[PlannedArtifact, ...]],
    setup: WorkerSetup,
    make_sensitivity_images: Callable[[], Tensor] | None,
    process_count: int,
    thread_count: int,
    progress: Progress,
) -> Iterator[ExportedArtifact | FailedTarget]:
    """Make artifacts in worker processes.

    Args:
        groups: The artifacts. Those of a group are made by one process, one after the other,
            because they share measurements.
        setup: What the workers need.
        make_sensitivity_images: Returns the images on which layers are ranked by sensitivity; see
            `PreparedQuantization`. None if the artifacts are not int8.
        process_count: Number of processes, at least 1.
        thread_count: Number of CPU threads of each process.
        progress: Receives the messages of all processes, and the number of finished artifacts.

    Yields:
        The artifacts, or why there is none, in the order in which they are finished.

    Raises:
        TinyViTError: A file cannot be written, or a process had an unexpected error. All processes
            are stopped then, as they are if the iterator is closed.
    """
    pool = _WorkerPool(setup, make_sensitivity_images, thread_count, progress, deque(groups))
    total = sum(map(len, groups))
    progress.advance(_TASK, 0, total)
    try:
        for _ in range(min(process_count, len(groups))):
            pool.start_worker()
        for done, result in enumerate(pool.results(), start=1):
            progress.advance(_TASK, done, total)
            yield result
    finally:
        pool.stop()


class _WorkerPool:
    """The workers of an export."""

    def __init__(
        self,
        setup: WorkerSetup,
        make_sensitivity_images: Callable[[], Tensor] | None,
        thread_count: int,
        progress: Progress,
        groups: deque[tuple[PlannedArtifact, ...]],
    ) -> None:
        self._setup = setup
        self._make_sensitivity_images = make_sensitivity_images
        self._thread_count = thread_count
        self._progress = progress
        self._groups = groups
        self._workers: list[_Worker] = []
        self._ending: list[_Worker] = []
        """Workers without further work, whose processes are about to end."""
        self._measuring: deque[_Worker] = deque()
        """Workers that measure latency (the first one) or wait for that."""

    def start_worker(self) -> None:
        """Start a worker process, which reports when it is ready."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                make_python_command(_CODE, str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Standard output of the export may be one JSON object.
                stdout=subprocess.DEVNULL,
                env={**os.environ, THREADS_VARIABLE: str(self._thread_count)},
            )
        self._workers.append(_Worker(process, Connection(ours.detach())))

    def results(self) -> Iterator[ExportedArtifact | FailedTarget]:
        """Answer the workers until all artifacts are made, and yield their results."""
        while self._workers:
            connections = [worker.connection for worker in self._workers]
            for ready in wait(connections):
                worker = next(item for item in self._workers if item.connection is ready)
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    yield from self._bury(worker)
                    continue
                yield from self._answer(worker, message)

    def stop(self) -> None:
        """Stop all workers, also paused ones, after they have cleaned up."""
        for worker in self._workers:
            worker.connection.close()
            worker.send_signal(signal.SIGTERM)
            worker.send_signal(signal.SIGCONT)
        for worker in (*self._workers, *self._ending):
            try:
                worker.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                worker.send_signal(signal.SIGKILL)
                worker.process.kill()
                worker.process.wait()
        self._workers.clear()
        self._ending.clear()

    def _answer(self, worker: _Worker, message: Any) -> Iterator[ExportedArtifact | FailedTarget]:
        """Do what a message of a worker asks for; yield a result that is in it."""
        if isinstance(message, Report):
            self._progress.message(message.text)
        elif isinstance(message, Finished):
            worker.remaining.popleft()
            yield message.result
        elif isinstance(message, Ready):
            self._send_work(worker)
        elif isinstance(message, QuietRequest):
            self._measuring.append(worker)
            if self._measuring[0] is worker:
                self._let_measure(worker)
        elif isinstance(message, QuietEnd):
            self._end_measuring(worker)
        elif isinstance(message, SensitivityImagesRequest):
            worker.send(self._answer_with_images())
        elif isinstance(message, Aborted):
            raise message.error

    def _send_work(self, worker: _Worker) -> None:
        """Send the next group of artifacts to a worker that waits, or end it if there is none."""
        if not self._groups:
            worker.connection.close()
            self._workers.remove(worker)
            self._ending.append(worker)
            return
        if not worker.has_setup:
            worker.send(self._setup)
            worker.has_setup = True
        group = self._groups.popleft()
        worker.remaining.extend(group)
        worker.send(group)

    def _let_measure(self, worker: _Worker) -> None:
        """Pause all other workers, and tell a worker that they are paused."""
        for other in self._workers:
            if other is not worker:
                other.send_signal(signal.SIGSTOP)
        worker.send(QuietGranted())

    def _end_measuring(self, worker: _Worker) -> None:
        """Let all workers continue, and the next one measure that waits for it."""
        self._measuring.remove(worker)
        for other in self._workers:
            other.send_signal(signal.SIGCONT)
        if self._measuring:
            self._let_measure(self._measuring[0])

    def _answer_with_images(self) -> Any:
        """Return the images for ranking layers, or the error that prevents it."""
        assert self._make_sensitivity_images is not None  # Only workers that make int8 ask.
        try:
            return self._make_sensitivity_images().numpy()
        except TinyViTError as error:
            return error

    def _bury(self, worker: _Worker) -> Iterator[FailedTarget]:
        """Yield a failure for each artifact of a worker that has ended, and replace the worker."""
        exit_code = worker.process.wait()
        self._workers.remove(worker)
        if worker in self._measuring:
            self._end_measuring(worker)
        ending = describe_crash(exit_code) or f"exit code {exit_code}"
        remedy = "the memory may be too small for several processes: use --processes 1"
        if not worker.remaining:
            raise ArtifactError(f"a process of the export ended unexpectedly ({ending})", remedy)
        for planned in worker.remaining:
            name = planned.target.name
            error = ArtifactError(
                f"the process that made the {name} artifact ended unexpectedly ({ending})", remedy
            )
            yield FailedTarget(name, error, is_skipped=False)
        if self._groups:
            self.start_worker()
