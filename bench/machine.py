"""What machine a figure was measured on, as far as the system tells."""

from __future__ import annotations

import os
import platform
import socket
import sys
from contextlib import suppress
from pathlib import Path

from tinyvit.bench.record import DeviceInfo
from tinyvit.runtimes import processor as cpu

_CPU0 = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_BOARD = Path("/proc/device-tree/model")


def describe_cpu() -> str:
    """Model, features and cores of this processor, in one line."""
    return f"{cpu.describe(cpu.cpuinfo())}, {os.cpu_count()} cores"


def read_device_info(name: str | None = None) -> DeviceInfo:
    """This machine; `name` instead of its board's or host's, which a report to others should perhaps not show."""
    facts = cpu.cpuinfo()
    return DeviceInfo(
        name=name or _read(_BOARD) or socket.gethostname(),
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        cpu=cpu.name(facts),
        features=cpu.features(facts),
        cores=cores(),
        memory_bytes=_memory(),
        governor=_read(_CPU0 / "scaling_governor") or None,
        clock_mhz=clock_mhz(),
    )


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def clock_mhz() -> float | None:
    """Of the first processor, now; None where the system does not tell."""
    with suppress(ValueError):
        if told := _read(_CPU0 / "scaling_cur_freq"):
            return float(told) / 1e3
        return float((cpu.cpuinfo() or {}).get("cpu MHz", ""))
    return None


def peak_memory_bytes() -> int | None:
    """Bytes of memory that this process has held at most; None on Windows.

    Linux's getrusage counts the process that it was started from too.
    """
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _read(path: Path) -> str:
    """A file's text without what ends it (a device tree's strings have a NUL), or "" where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""
