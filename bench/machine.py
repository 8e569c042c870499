"""Reads facts about this machine for a benchmark record: processor, memory, clock rate."""

from __future__ import annotations

import os
import platform
import socket
import sys
from contextlib import suppress
from pathlib import Path

from tinyvit.bench.record import DeviceInfo
from tinyvit.runtimes import processor

_FIRST_CORE = Path("/sys/devices/system/cpu/cpu0/cpufreq")
"""Folder in which Linux describes the clock rate of the first processor core."""
_BOARD_NAME = Path("/proc/device-tree/model")
"""File in which Linux states the name of a single-board computer."""


def describe_cpu() -> str:
    """Describe the processor in one line: model, instruction sets and number of cores."""
    return f"{processor.describe(processor.read_cpuinfo())}, {count_cores()} cores"


def read_device_info(name: str | None = None) -> DeviceInfo:
    """Describe this machine.

    Args:
        name: Name of the machine in the record; None for the name of the board or the host. Users
            may not want to publish the name of their host.

    Returns:
        The description, in which the clock rate after the measurement is still missing.
    """
    cpu = processor.read_cpuinfo()
    return DeviceInfo(
        name=name or _read_text(_BOARD_NAME) or socket.gethostname(),
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        cpu=processor.read_name(cpu),
        cpu_features=processor.list_features(cpu),
        core_count=count_cores(),
        memory_bytes=_read_memory_bytes(),
        governor=_read_text(_FIRST_CORE / "scaling_governor") or None,
        clock_before_mhz=read_clock_mhz(),
    )


def count_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_clock_mhz() -> float | None:
    """Return the current clock rate of the first core; None if the system does not report it."""
    with suppress(ValueError):
        if kilohertz := _read_text(_FIRST_CORE / "scaling_cur_freq"):
            return float(kilohertz) / 1e3
        return float((processor.read_cpuinfo() or {}).get("cpu MHz", ""))
    return None


def read_peak_memory_bytes() -> int | None:
    """Return the peak memory of this process in bytes; None on Windows."""
    # On Linux, a new process inherits the peak of its parent process in `ru_maxrss`. Therefore
    # /proc/self/status is read there, and getrusage is used only on other systems.
    with suppress(OSError, StopIteration, ValueError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        lines = status.splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    is_in_bytes = sys.platform == "darwin"  # other systems state KiB
    return peak if is_in_bytes else peak * 1024


def _read_memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _read_text(path: Path) -> str:
    """Return the text of a file without spaces, newlines and NULs at its ends; "" if missing.

    The files of the device tree (such as `_BOARD_NAME`) end with NUL.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""
