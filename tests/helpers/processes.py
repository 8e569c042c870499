"""Functions that start Python processes and wait for what they do."""

from __future__ import annotations

import subprocess
import sys
import textwrap
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


def run_limited(code: str, *, memory_gib: int = 4, timeout_s: float = 60) -> str:
    """Run Python code in another process with a limit on its memory, and require success.

    Args:
        code: The code, which may be indented.
        memory_gib: Largest size of its address space, in GiB. Only Linux enforces it.
        timeout_s: Longest time that it may take, in seconds.

    Returns:
        What the code prints to standard output.
    """
    limit = memory_gib << 30
    start = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))\n"
    process = subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout
