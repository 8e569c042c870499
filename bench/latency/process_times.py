"""Measures the CPU time of this process and of the processes that it started, on Linux."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROC = Path("/proc")
"""Folder of the kernel's information about processes."""
_SET_CHILD_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of Linux (man 2 PR_SET_CHILD_SUBREAPER)."""
_PARENT, _TIMES = 1, slice(11, 15)
"""Columns of the file stat of a process after the name of its program: the process that started it,
and the user and system time of itself and of its ended children (man 5 proc_pid_stat)."""


@contextmanager
def adopt_orphans() -> Iterator[None]:
    """Become the parent of processes that this one started indirectly, if their parent ends.

    Their CPU time then counts in `read_own_seconds`, also after they ended. After the block, the
    system process with number 1 becomes the parent of such processes again. Systems other than
    Linux cannot do this.

    Yields:
        Nothing.
    """
    _set_adoption(True)
    try:
        yield
    finally:
        _set_adoption(False)


def read_own_seconds(proc: Path = PROC) -> float:
    """Return the CPU seconds of this process and of all that it started, directly or indirectly.

    On systems other than Linux, processes that are still running are not included. Neither are
    processes whose parent has ended, unless `adopt_orphans` was called before.

    Args:
        proc: Folder of the kernel's information about processes; tests pass another one.
    """
    parents, times = _read_processes(proc)
    members = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    others = members - {os.getpid()}
    # User and system time of this process, and those of its children that it has waited for.
    return sum(os.times()[:4]) + sum(times[pid] for pid in others)


def _set_adoption(is_wanted: bool) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, int(is_wanted), 0, 0, 0)


def _read_processes(proc: Path) -> tuple[dict[int, int], dict[int, float]]:
    """Return the parent of each process, and its CPU seconds."""
    parents, times = {}, {}
    for name in os.listdir(proc) if proc.is_dir() else ():
        if name.isdecimal():
            try:
                content = (proc / name / "stat").read_text(errors="replace")
                # The name of the program is in parentheses, and may contain any character.
                fields = content.rpartition(")")[2].split()
                parent, ticks = int(fields[_PARENT]), sum(map(int, fields[_TIMES]))
            except (OSError, ValueError, IndexError):  # The process has ended.
                continue
            parents[int(name)] = parent
            times[int(name)] = ticks / os.sysconf("SC_CLK_TCK")
    return parents, times
