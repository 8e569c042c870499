"""Measures how much memory of this machine is free."""

from __future__ import annotations

from pathlib import Path

_ASSUMED_BYTES = 4 * 2**30
"""Free memory that is assumed if the system does not state it."""
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def measure_free_memory() -> int:
    """Return the free memory of this machine in bytes, as far as this process may use it.

    A limit of the container applies. If the system states neither its free memory nor a limit,
    4 GiB are assumed.
    """
    limits = [value for value in (_read_available_bytes(), _read_container_bytes()) if value]
    return min(limits, default=_ASSUMED_BYTES)


def _read_available_bytes() -> int | None:
    """Return the system's available memory; None if it is not stated."""
    try:
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _read_container_bytes() -> int | None:
    """Return the memory that the control group (version 2) still allows; None without a limit."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = (_CGROUP / "memory.current").read_text(encoding="ascii")
        return None if limit == "max" else max(1, int(limit) - int(used))
    except (OSError, ValueError):
        return None
