"""Facts about the machine on which something was measured, as far as the system reports them."""

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
_BOARD_NAME = Path("/proc/device-tree/model")


def describe_cpu() -> str:
    """Return the model, the features and the number of cores of the processor, on one line."""
    return f"{processor.describe(processor.read_cpuinfo())}, {os.cpu_count()} cores"


def read_device_info(name: str | None = None) -> DeviceInfo:
    """Describe this machine.

    Args:
        name: Name to record. By default the name of the board or the host, which a published
            report should perhaps not show.
    """
    cpu = processor.read_cpuinfo()
    return DeviceInfo(
        name=name or _read_text(_BOARD_NAME) or socket.gethostname(),
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        cpu=processor.read_name(cpu),
        features=processor.list_features(cpu),
        cores=count_cores(),
        memory_bytes=_read_memory_bytes(),
        governor=_read_text(_FIRST_CORE / "scaling_governor") or None,
        clock_mhz=read_clock_mhz(),
    )


def count_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_clock_mhz() -> float | None:
    """Return the present clock rate of the first core; None if the system does not report it."""
    with suppress(ValueError):
        if kilohertz := _read_text(_FIRST_CORE / "scaling_cur_freq"):
            return float(kilohertz) / 1e3
        return float((processor.read_cpuinfo() or {}).get("cpu MHz", ""))
    return None


def read_peak_memory_bytes() -> int | None:
    """Return the most memory that this process has held, in bytes; None on Windows."""
    # Before getrusage, which on Linux counts the memory of the process that started this one too.
    with suppress(OSError, StopIteration, ValueError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        lines = status.splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _read_memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _read_text(path: Path) -> str:
    """Return the text of a file, "" if there is none. Text of the device tree ends with NUL."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""
