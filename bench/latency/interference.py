"""Detects disturbances of a measurement with the counters of the Linux kernel.

Operating systems other than Linux do not have these counters, and the user gets a warning.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench.latency.process_times import PROC, read_own_seconds
from tinyvit.bench.machine import read_clock_mhz

_CPUS = Path("/sys/devices/system/cpu")
_TICK_NAMES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
"""Columns of the first line of /proc/stat (man 5 proc_stat)."""
_BUSY_NAMES = ("user", "nice", "system", "irq", "softirq")
"""Columns that count the time in which this machine's own processes and interrupts used a core."""

# A disturbance above one of these fractions causes a warning.
_MAX_STOLEN_SHARE = 0.01
"""CPU time that the hypervisor used for other virtual machines, as a fraction of one core."""
_MAX_OTHERS_SHARE = 0.05
"""CPU time of other processes, as a fraction of one core."""
_MAX_CLOCK_LOSS = 0.1
"""Decrease of the clock rate, as a fraction of the rate before the measurement."""
_MAX_DRIFT = 0.05
"""Change of an artifact's median latency, as a fraction of the median at the start."""

_DISTURBANCE_PHRASES = (
    "of a core for other virtual machines",
    "of a core during the measurement",
    "because they were too hot",
    "the clock rate fell from",
    "slower during the measurement",
    "faster during the measurement",
)
"""Each warning about a disturbance contains one of these; other warnings contain none."""

_MIN_DRIFT_SAMPLES = 8
"""A quarter of an artifact's samples needs at least this many for its median to be meaningful."""


@dataclass(frozen=True)
class Snapshot:
    """Counters at one moment; a counter that the system does not have is None.

    Attributes:
        wall_s: Wall-clock time in seconds since an arbitrary moment.
        own_s: CPU seconds of this process and of the processes that it started.
        busy_s: CPU seconds of all processes of this machine, summed over all cores.
        stolen_s: CPU seconds that the hypervisor used for other virtual machines, summed over all
            cores.
        throttle_count: Number of times that cores were slowed down because they were too hot.
        clock_mhz: Clock rate of the first core.
    """

    wall_s: float
    own_s: float
    busy_s: float | None
    stolen_s: float | None
    throttle_count: int | None
    clock_mhz: float | None


def take_snapshot(proc: Path = PROC, cpus: Path = _CPUS) -> Snapshot:
    """Read the counters as they are now.

    Args:
        proc: Folder of the kernel's process information; tests pass another one.
        cpus: Folder of the kernel's processor information; tests pass another one.
    """
    busy_s, stolen_s = _read_cpu_seconds(proc / "stat")
    return Snapshot(
        wall_s=time.perf_counter(),
        own_s=read_own_seconds(proc),
        busy_s=busy_s,
        stolen_s=stolen_s,
        throttle_count=_read_throttle_count(cpus),
        clock_mhz=read_clock_mhz(),
    )


def detect_interference(
    before: Snapshot, after: Snapshot, min_share: float | None = None
) -> list[str]:
    """Describe the disturbances of a measurement.

    Args:
        before: Counters before the measurement.
        after: Counters after the measurement.
        min_share: CPU time of other processes or virtual machines, as a fraction of one core, from
            which it is a disturbance; None for the strict limits of tinyvit-bench.

    Returns:
        One warning per disturbance that exceeds its threshold, and one if the system does not
        report the CPU time of other processes.
    """
    warnings = []
    if before.busy_s is None:
        warnings.append("this system does not report whether other processes were running")
    wall_s = max(after.wall_s - before.wall_s, 1e-9)
    stolen_share = (_subtract(after.stolen_s, before.stolen_s) or 0) / wall_s
    if stolen_share > (min_share or _MAX_STOLEN_SHARE):
        warnings.append(
            f"the hypervisor used {stolen_share:.0%} of a core for other virtual machines:"
            " measure on a machine that is not shared, or for longer"
        )
    busy_s = _subtract(after.busy_s, before.busy_s)
    if busy_s is not None:
        own_s = after.own_s - before.own_s
        others_share = (busy_s - own_s) / wall_s
        if others_share > (min_share or _MAX_OTHERS_SHARE):
            warnings.append(
                f"other processes used {others_share:.0%} of a core during the measurement:"
                " stop them and measure again"
            )
    slowdowns = (after.throttle_count or 0) - (before.throttle_count or 0)
    if slowdowns > 0:
        warnings.append(
            f"cores were slowed down {slowdowns} times because they were too hot:"
            " cool the device, or wait"
        )
    before_mhz, after_mhz = before.clock_mhz, after.clock_mhz
    if before_mhz and after_mhz and after_mhz < (1 - _MAX_CLOCK_LOSS) * before_mhz:
        warnings.append(
            f"the clock rate fell from {before_mhz:.0f} to {after_mhz:.0f} MHz during the"
            " measurement"
        )
    return warnings


def detect_drift(samples_ms: Sequence[tuple[str, Sequence[float]]]) -> list[str]:
    """Describe which artifacts became slower or faster during a measurement.

    The median latency of the last quarter of an artifact's samples is compared with that of the
    first quarter. An artifact is reported if the two differ by more than 5% and each quarter has at
    least eight samples. Artifacts that changed in the same direction share one warning.

    Args:
        samples_ms: Name of each artifact and its samples in milliseconds; the samples are in the
            order of measurement.

    Returns:
        At most two warnings: first the artifacts that became slower, then those that became faster.
    """
    slowdowns = [(name, _compute_slowdown(samples)) for name, samples in samples_ms]
    slower = {name: slowdown for name, slowdown in slowdowns if slowdown > _MAX_DRIFT}
    faster = {name: -slowdown for name, slowdown in slowdowns if slowdown < -_MAX_DRIFT}
    warnings = []
    for direction, drifts in (("slower", slower), ("faster", faster)):
        if drifts:
            lowest, highest = f"{min(drifts.values()):.0%}", f"{max(drifts.values()):.0%}"
            amount = lowest if lowest == highest else f"{lowest} to {highest}"
            warnings.append(
                f"{', '.join(drifts)} became {amount} {direction} during the measurement"
            )
    return warnings


def select_disturbances(warnings: Sequence[str]) -> tuple[str, ...]:
    """Return the warnings of a record that are about a disturbance of the measurement.

    Args:
        warnings: All warnings of the record, such as those of `detect_interference` and
            `detect_drift`.
    """
    return tuple(
        warning for warning in warnings if any(phrase in warning for phrase in _DISTURBANCE_PHRASES)
    )


def _read_cpu_seconds(stat: Path) -> tuple[float | None, float | None]:
    """Return the busy and the stolen CPU seconds; None if the system does not report them."""
    try:
        _, *ticks = stat.read_text(encoding="ascii").splitlines()[0].split()
        ticks_per_s = os.sysconf("SC_CLK_TCK")
        seconds = {name: int(count) / ticks_per_s for name, count in zip(_TICK_NAMES, ticks)}
        return sum(seconds[name] for name in _BUSY_NAMES), seconds["steal"]
    except (OSError, ValueError, KeyError, IndexError):
        return None, None


def _read_throttle_count(cpus: Path) -> int | None:
    """Return the number of slowdowns by heat, summed over all cores; None if not reported."""
    with suppress(OSError, ValueError):
        counts = [
            int(file.read_text())
            for file in cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
        ]
        return sum(counts) if counts else None
    return None


def _subtract(after: float | None, before: float | None) -> float | None:
    """Return the increase of a counter; None if a value of the counter is missing."""
    return None if before is None or after is None else after - before


def _compute_slowdown(samples_ms: Sequence[float]) -> float:
    """Compare the median of the last quarter of the samples with that of the first quarter.

    Returns:
        The change as a fraction of the first quarter's median, below 0 if the artifact became
        faster; 0 if there are too few samples.
    """
    quarter = len(samples_ms) // 4
    if quarter < _MIN_DRIFT_SAMPLES:
        return 0.0
    first_ms = statistics.median(samples_ms[:quarter])
    last_ms = statistics.median(samples_ms[-quarter:])
    return last_ms / first_ms - 1
