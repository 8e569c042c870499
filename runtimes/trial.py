"""Runs a file once in another process, which may crash, before this process opens it.

Some engines trust the files that they open: a damaged file can end the process. A hash in a
manifest shows damage, but whoever makes a hostile file can also compute its hash, so .pte and
.tflite files are tried whether or not they have a manifest. The trial takes the time of starting
Python and importing the engine, once for each file and process.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.processes.limited_function import ProcessLimits, call_in_process

TRIAL_TIMEOUT_S = 120
"""Longest time that the trial may take, in seconds, with the start of the process. An inference
takes less than one."""

TRIAL_MEMORY_BYTES = 4 * 2**30
"""Memory for one inference in the other process, in bytes. A file of a few kilobytes can declare
buffers of any size, and engines fill them with zeros."""

TRIAL_REPORT = b"the file ran"
"""What the other process answers after the inference. An exit code would not be enough: a process
that could not import the engine, or that the engine ended, has not run the file."""

_TESTED_SHA256: set[str] = set()
"""Hashes of the files that another process has run without a crash."""

_durations_s: list[float] = []
"""Durations of the trials of this process, in seconds."""


def get_trial_seconds() -> float:
    """Return how long all trials of this process took together, in seconds.

    A measurement of the time to open a file subtracts it, because the engine itself takes none.
    """
    return sum(_durations_s)


def call_trial(run_once: Callable[[bytes], bytes], argument: bytes, limits: ProcessLimits) -> None:
    """Call a function that runs a file once, in another process, and count how long it took.

    Args:
        run_once: A public function of a module of this package. It runs the network once, and
            returns `TRIAL_REPORT`, or raises an exception.
        argument: Its argument.
        limits: Limits on the process.

    Raises:
        ValueError: The function did not return, or the process reached a limit. The message is a
            clause, in which "it" is the file.
    """
    start_s = time.perf_counter()
    try:
        report = call_in_process(run_once, argument, limits)
    finally:
        _durations_s.append(time.perf_counter() - start_s)
    if report != TRIAL_REPORT:
        raise ValueError("the library that reads it ends the process")


def run_trial(
    path: Path, file_bytes: bytes, engine_name: str, run_once: Callable[[bytes], bytes]
) -> None:
    """Run a file once in another process.

    Args:
        path: The file, for messages.
        file_bytes: All bytes of the file. Equal bytes are not run again by this process.
        engine_name: Name of the engine for messages.
        run_once: A public function of a module of this package. It takes the bytes of the file,
            runs the network once, and returns `TRIAL_REPORT`, or raises an exception.

    Raises:
        ArtifactError: If the other process cannot run the file, crashes, or does not finish within
            `TRIAL_TIMEOUT_S`.
    """
    sha256 = hashlib.sha256(file_bytes).hexdigest()
    if sha256 in _TESTED_SHA256:
        return
    # The function limits the memory itself if the engine allows that.
    limits = ProcessLimits(memory_bytes=None, seconds=TRIAL_TIMEOUT_S)
    try:
        call_trial(run_once, file_bytes, limits)
    except ValueError as error:
        raise ArtifactError(
            f"{path.name} is first run with {engine_name} in another process, which may crash, and"
            f" that failed ({error})",
            "export it again if the file may be damaged; otherwise remove the stated reason",
        ) from error
    _TESTED_SHA256.add(sha256)
