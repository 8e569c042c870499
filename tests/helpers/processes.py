"""Functions that start Python processes and wait for what they do."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

TIMEOUT_S = 300


def start_python(
    code: str, *arguments: object, stdout: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start a new Python interpreter.

    Args:
        code: The code that it runs.
        arguments: The values of `sys.argv[1:]` in the code.
        stdout: Where standard output goes, as for `subprocess.Popen`.
    """
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_entry(folder: Path, process: subprocess.Popen[str]) -> bool:
    """Wait until a process has created something in a folder.

    Returns:
        Whether the folder has an entry; False if the process ended or the time was up before.
    """
    deadline = time.monotonic() + TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if any(folder.iterdir()):
            return True
        time.sleep(0.01)
    return False
