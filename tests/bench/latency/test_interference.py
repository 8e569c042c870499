"""What the kernel counted is turned into what a reader must know, and nothing is said of a quiet machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tinyvit.bench.latency.interference import (
    Snapshot,
    detect_drift,
    detect_interference,
    take_snapshot,
)

QUIET = Snapshot(wall_s=0, own_s=0, busy_s=0, stolen_s=0, throttled=0, clock_mhz=3000)
LATER = Snapshot(wall_s=10, own_s=18, busy_s=18.2, stolen_s=0.05, throttled=0, clock_mhz=2900)


def test_a_quiet_machine_is_not_spoken_of() -> None:
    assert detect_interference(QUIET, LATER) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stolen_s": 0.5}, "hypervisor took 5% of a core"),
        ({"busy_s": 20.0}, "other processes used 20% of a core"),
        ({"throttled": 3}, "slowed by their heat 3 times"),
        ({"clock_mhz": 2000.0}, "fell from 3000 to 2000 MHz"),
    ],
)
def test_what_disturbed_is_said(change: dict[str, float], said: str) -> None:
    (line,) = detect_interference(QUIET, replace(LATER, **change))  # type: ignore[arg-type]
    assert said in line


def test_a_system_that_tells_nothing_is_not_guessed_about() -> None:
    blind = Snapshot(0, 0, None, None, None, None)
    assert detect_interference(blind, replace(blind, wall_s=10, own_s=1)) == [
        "this system does not tell whether other processes were at work"
    ]


def test_counters_are_read_from_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  100 0 200 5000 7 0 0 300 0 0\ncpu0 1 1\n")
    for core, count in (("cpu0", 2), ("cpu1", 3)):
        (tmp_path / core / "thermal_throttle").mkdir(parents=True)
        (tmp_path / core / "thermal_throttle" / "core_throttle_count").write_text(f"{count}\n")
    found = take_snapshot(tmp_path, tmp_path)
    assert (found.busy_s, found.stolen_s, found.throttled) == (3, 3, 5)
    assert found.sees


def test_no_kernel_files(tmp_path: Path) -> None:
    found = take_snapshot(tmp_path, tmp_path)
    assert (found.busy_s, found.stolen_s, found.throttled) == (None, None, None)


def test_drift_is_said_with_its_direction() -> None:
    slower, faster, more = (
        [10.0] * 20 + [12.0] * 20,
        [10.0] * 20 + [5.0] * 20,
        [10.0] * 20 + [13.0] * 20,
    )
    assert detect_drift([("a", slower)]) == ["a became 20% slower while it was measured"]
    assert detect_drift([("a", faster), ("b", [10.0, 10.3] * 20)]) == [
        "a became 50% faster while it was measured"
    ]
    assert detect_drift([("a", slower), ("b", faster), ("c", more)]) == [
        "a, c became 20% to 30% slower while they were measured",
        "b became 50% faster while it was measured",
    ]
    assert detect_drift([("a", [10.0] * 4 + [20.0] * 4)]) == []
