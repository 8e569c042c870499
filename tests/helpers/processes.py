"""Python processes that tests start and observe."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def start_python(
    code: str, *arguments: object, stdout: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start a new interpreter that runs `code` with `sys.argv[1:]` set to `arguments`."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_entry(folder: Path, process: subprocess.Popen[str]) -> bool:
    """Wait until a process has created something in a folder; False if it ends before."""
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if any(folder.iterdir()):
            return True
        time.sleep(0.01)
    return False
