"""Measures the time of a command of tinyvit, and the memory of all its processes together.

The memory is the sum of the proportional set sizes (PSS), in which memory that several processes
share counts once. It is read four times per second on Linux, and less often if reading it takes
long, so shorter peaks are missed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import tinyvit

_PROC = Path("/proc")
_PERIOD_S = 0.25
_LARGEST_SHARE = 0.05
"""Largest share of the time in which the memory is read, because that slows the command."""


def main() -> None:
    """Run `python -m tinyvit` with the arguments of this program, and print its costs."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        start_s = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "tinyvit", *sys.argv[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        peak_bytes = 0
        while process.poll() is None:
            reading_start_s = time.perf_counter()
            peak_bytes = max(peak_bytes, add_memory(process.pid))
            reading_s = time.perf_counter() - reading_start_s
            _wait(process, max(_PERIOD_S, reading_s / _LARGEST_SHARE))
        seconds = time.perf_counter() - start_s
    if process.returncode:
        sys.exit(process.returncode)
    result = {"seconds": seconds, "mib": peak_bytes / 2**20, "package": tinyvit.__file__}
    print(json.dumps(result))


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def add_memory(root: int) -> int:
    """Add up the memory of a process, and of those that it started directly or indirectly.

    Args:
        root: Number of the process.

    Returns:
        The sum in bytes; 0 where the system has no such files.
    """
    parents = list_parents()
    members = {root}
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    return sum(map(read_memory, members))


def list_parents() -> dict[int, int]:
    """Return the number of each process, and that of the process that started it."""
    parents = {}
    for name in os.listdir(_PROC) if _PROC.is_dir() else ():
        if name.isdecimal():
            try:
                # The name of the program is in parentheses, and may contain spaces.
                fields = (_PROC / name / "stat").read_text(errors="replace").rpartition(")")[2]
                parents[int(name)] = int(fields.split()[1])
            except (OSError, ValueError, IndexError):  # The process has ended.
                continue
    return parents


def read_memory(pid: int) -> int:
    """Read the proportional set size of a process in bytes; 0 if it has ended.

    Args:
        pid: Number of the process.
    """
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
