"""Detects disturbances of a measurement with the counters of the Linux kernel.

Other systems do not have these counters; a warning then says so.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench.machine import read_clock_mhz

_PROC, _CPUS = Path("/proc"), Path("/sys/devices/system/cpu")
_TICK_NAMES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
"""Columns of the first line of /proc/stat (man 5 proc_stat)."""
_BUSY_NAMES = ("user", "nice", "system", "irq", "softirq")

# A disturbance above one of these fractions is reported.
_MAX_STOLEN_CORE = 0.01
"""CPU time that the hypervisor used for other virtual machines, as a fraction of one core."""
_MAX_OTHERS_CORE = 0.05
"""CPU time of other processes, as a fraction of one core."""
_MAX_CLOCK_LOSS = 0.1
"""Decrease of the clock rate."""
_MAX_DRIFT = 0.05
"""Change of a workload's median latency."""

_MIN_DRIFT_SAMPLES = 8
"""A quarter of an artifact's samples needs at least this many for its median to be meaningful."""


@dataclass(frozen=True)
class Snapshot:
    """Counters at one moment; a counter that the system does not have is None.

    Attributes:
        wall_s: Wall-clock time in seconds since an arbitrary moment.
        own_s: CPU seconds of this process and of its child processes that have ended.
        busy_s: CPU seconds of all processes, summed over all cores.
        stolen_s: CPU seconds that the hypervisor used for other virtual machines, summed over all
            cores.
        throttle_count: How often cores were slowed down because they were too hot.
        clock_mhz: Clock rate of the first core.
    """

    wall_s: float
    own_s: float
    busy_s: float | None
    stolen_s: float | None
    throttle_count: int | None
    clock_mhz: float | None


def take_snapshot(proc: Path = _PROC, cpus: Path = _CPUS) -> Snapshot:
    """Read the counters.

    Args:
        proc: Folder of the kernel's process information; tests pass another one.
        cpus: Folder of the kernel's processor information; tests pass another one.
    """
    busy_s, stolen_s = _read_cpu_seconds(proc / "stat")
    return Snapshot(
        wall_s=time.perf_counter(),
        own_s=sum(os.times()[:4]),
        busy_s=busy_s,
        stolen_s=stolen_s,
        throttle_count=_read_throttle_count(cpus),
        clock_mhz=read_clock_mhz(),
    )


def detect_interference(before: Snapshot, after: Snapshot) -> list[str]:
    """Describe the disturbances of a measurement.

    Args:
        before: Counters before the measurement.
        after: Counters after the measurement.

    Returns:
        One warning per disturbance that exceeds its threshold.
    """
    warnings = []
    if before.busy_s is None:
        warnings.append("this system does not report whether other processes were running")
    wall_s = max(after.wall_s - before.wall_s, 1e-9)
    stolen = (_difference(before.stolen_s, after.stolen_s) or 0) / wall_s
    if stolen > _MAX_STOLEN_CORE:
        warnings.append(
            f"the hypervisor used {stolen:.0%} of a core for other virtual machines:"
            " measure on a machine that is not shared, or for longer"
        )
    busy_s = _difference(before.busy_s, after.busy_s)
    if busy_s is not None:
        others = (busy_s - (after.own_s - before.own_s)) / wall_s
        if others > _MAX_OTHERS_CORE:
            warnings.append(
                f"other processes used {others:.0%} of a core during the measurement:"
                " stop them and measure again"
            )
    throttled = (after.throttle_count or 0) - (before.throttle_count or 0)
    if throttled > 0:
        warnings.append(
            f"cores were slowed down {throttled} times because they were too hot:"
            " cool the device, or wait"
        )
    before_mhz, after_mhz = before.clock_mhz, after.clock_mhz
    if before_mhz and after_mhz and after_mhz < (1 - _MAX_CLOCK_LOSS) * before_mhz:
        warnings.append(
            f"the clock rate fell from {before_mhz:.0f} to {after_mhz:.0f} MHz during the"
            " measurement"
        )
    return warnings


def detect_drift(times_ms: Sequence[tuple[str, Sequence[float]]]) -> list[str]:
    """Describe which artifacts became slower or faster during a measurement.

    The median latency of the last quarter of an artifact's samples is compared with that of the
    first quarter. An artifact is reported if the two differ by more than 5% and each quarter has at
    least eight samples. Artifacts that changed in the same direction share one warning.

    Args:
        times_ms: Name of each artifact and its samples in milliseconds; the samples are in the
            order of measurement.

    Returns:
        At most two warnings: first the artifacts that became slower, then those that became faster.
    """
    changes = [(name, _relative_change(samples)) for name, samples in times_ms]
    warnings = []
    for direction, sign in (("slower", 1), ("faster", -1)):
        drifts = {name: sign * change for name, change in changes if sign * change > _MAX_DRIFT}
        if drifts:
            lowest, highest = f"{min(drifts.values()):.0%}", f"{max(drifts.values()):.0%}"
            amount = lowest if lowest == highest else f"{lowest} to {highest}"
            warnings.append(
                f"{', '.join(drifts)} became {amount} {direction} during the measurement"
            )
    return warnings


def _read_cpu_seconds(stat: Path) -> tuple[float | None, float | None]:
    """Return the busy and the stolen CPU seconds; None if the system does not report them."""
    try:
        words = stat.read_text(encoding="ascii").splitlines()[0].split()
        ticks_per_s = os.sysconf("SC_CLK_TCK")
        seconds = {name: int(word) / ticks_per_s for name, word in zip(_TICK_NAMES, words[1:])}
        return sum(seconds[name] for name in _BUSY_NAMES), seconds["steal"]
    except (OSError, ValueError, KeyError, IndexError):
        return None, None


def _read_throttle_count(cpus: Path) -> int | None:
    """Return how often cores were slowed down by heat; None if the system does not report it."""
    with suppress(OSError, ValueError):
        counts = [
            int(file.read_text())
            for file in cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
        ]
        return sum(counts) if counts else None
    return None


def _difference(before: float | None, after: float | None) -> float | None:
    """Subtract two counters; None if either is missing."""
    return None if before is None or after is None else after - before


def _relative_change(samples_ms: Sequence[float]) -> float:
    """Return the relative change from the first to the last quarter's median; 0 for few samples."""
    quarter = len(samples_ms) // 4
    if quarter < _MIN_DRIFT_SAMPLES:
        return 0.0
    first, last = statistics.median(samples_ms[:quarter]), statistics.median(samples_ms[-quarter:])
    return last / first - 1
