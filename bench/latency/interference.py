"""Whether anything but the measured file was at work on the machine: what the kernel counted before and after.

Only Linux tells; elsewhere that is said.
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

_PROC, _SYS = Path("/proc"), Path("/sys/devices/system/cpu")
_STOLEN, _OTHERS, _CLOCK, _DRIFT = 0.01, 0.05, 0.1, 0.05
"""Parts of one core's time, of the clock, and of a file's own time, from which on it is said."""
_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


@dataclass(frozen=True)
class Snapshot:
    """Counters at one moment, None where the system has none. Seconds of all cores together, but wall_s. own_s: this process's and its
    ended children's. throttled: how often a core was slowed by its heat."""

    wall_s: float
    own_s: float
    busy_s: float | None
    stolen_s: float | None
    throttled: int | None
    clock_mhz: float | None

    @property
    def sees(self) -> bool:
        """Whether the system tells what else runs."""
        return self.busy_s is not None


def take_snapshot(proc: Path = _PROC, cpus: Path = _SYS) -> Snapshot:
    """Now."""
    times = os.times()
    busy = stolen = None
    with suppress(OSError, ValueError, KeyError):
        line = (proc / "stat").read_text(encoding="ascii").splitlines()[0].split()
        ticks = {
            name: int(value) / os.sysconf("SC_CLK_TCK") for name, value in zip(_FIELDS, line[1:])
        }
        busy, stolen = (
            sum(ticks[name] for name in ("user", "nice", "system", "irq", "softirq")),
            ticks["steal"],
        )
    throttled = None
    with suppress(OSError, ValueError):
        counts = [
            int(file.read_text())
            for file in cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
        ]
        throttled = sum(counts) if counts else None
    return Snapshot(time.perf_counter(), sum(times[:4]), busy, stolen, throttled, read_clock_mhz())


def detect_interference(before: Snapshot, after: Snapshot) -> list[str]:
    """What a reader of the figures must know, in words."""
    found = (
        [] if before.sees else ["this system does not tell whether other processes were at work"]
    )
    wall = max(after.wall_s - before.wall_s, 1e-9)
    if (
        before.stolen_s is not None
        and after.stolen_s is not None
        and (part := (after.stolen_s - before.stolen_s) / wall) > _STOLEN
    ):
        found.append(
            f"the hypervisor took {part:.0%} of a core for other machines: measure on a machine of your own, or longer"
        )
    if before.busy_s is not None and after.busy_s is not None:
        part = (after.busy_s - before.busy_s - (after.own_s - before.own_s)) / wall
        if part > _OTHERS:
            found.append(
                f"other processes used {part:.0%} of a core while it was measured: stop them, and measure again"
            )
    if (after.throttled or 0) > (before.throttled or 0):
        found.append(
            f"cores were slowed by their heat {(after.throttled or 0) - (before.throttled or 0)} times: cool the device, or wait"
        )
    if before.clock_mhz and after.clock_mhz and after.clock_mhz < (1 - _CLOCK) * before.clock_mhz:
        found.append(
            f"the clock fell from {before.clock_mhz:.0f} to {after.clock_mhz:.0f} MHz while it was measured"
        )
    return found


def detect_drift(times_ms: Sequence[tuple[str, Sequence[float]]]) -> list[str]:
    """Which files, of (name, times), became slower or faster while they were measured, by the medians of their first and last quarters:
    a line for either."""
    changes = [(name, _change(times)) for name, times in times_ms]
    said = []
    for way, sign in (("slower", 1), ("faster", -1)):
        found = {name: sign * change for name, change in changes if sign * change > _DRIFT}
        if found:
            least, most = (f"{share:.0%}" for share in (min(found.values()), max(found.values())))
            share = least if least == most else f"{least} to {most}"
            said.append(
                f"{', '.join(found)} became {share} {way} while {'they were' if len(found) > 1 else 'it was'} measured"
            )
    return said


def _change(times_ms: Sequence[float]) -> float:
    """Of the last quarter against the first, as a share; 0 where they are too few to tell."""
    quarter = len(times_ms) // 4
    if quarter < 8:
        return 0.0
    first, last = statistics.median(times_ms[:quarter]), statistics.median(times_ms[-quarter:])
    return last / first - 1
