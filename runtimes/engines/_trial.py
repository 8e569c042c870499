"""Runs a file once in another process, which may crash, before this process opens it.

Some engines trust the files that they open: a damaged file can end the process. A hash in a
manifest shows damage, but whoever makes a hostile file can also compute its hash, so the trial does
not depend on a manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.limited_process import ProcessLimits, call_in_process

TRIAL_TIMEOUT_S = 120
"""Longest time that the trial may take, in seconds, with the start of the process. An inference
takes less than one."""

TRIAL_REPORT = b"the file ran"
"""What the other process answers after the inference. An exit code would not be enough: a process
that could not import the engine, or that the engine ended, has not run the file."""

_TESTED_SHA256: set[str] = set()
"""Hashes of the files that another process has run without a crash."""


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
        report = call_in_process(run_once, file_bytes, limits)
        if report != TRIAL_REPORT:
            raise ValueError("the library that reads it ends the process")
    except ValueError as error:
        raise ArtifactError(
            f"{path.name} is first run with {engine_name} in another process, which may crash, and"
            f" that failed ({error})",
            "export it again if the file may be damaged; otherwise remove the reason of the failure",
        ) from error
    _TESTED_SHA256.add(sha256)
