"""Disturbances that kernel counters show become warnings; an undisturbed machine causes none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tinyvit.bench.latency.interference import (
    Snapshot,
    detect_drift,
    detect_interference,
    select_disturbances,
    take_snapshot,
)

BEFORE = Snapshot(wall_s=0, own_s=0, busy_s=0, stolen_s=0, throttle_count=0, clock_mhz=3000)
AFTER = Snapshot(wall_s=10, own_s=18, busy_s=18.2, stolen_s=0.05, throttle_count=0, clock_mhz=2900)


def test_quiet_machine_causes_no_warning() -> None:
    assert detect_interference(BEFORE, AFTER) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"stolen_s": 0.5}, "the hypervisor used 5% of a core"),
        ({"busy_s": 20.0}, "other processes used 20% of a core"),
        ({"throttle_count": 3}, "slowed down 3 times because they were too hot"),
        ({"clock_mhz": 2000.0}, "fell from 3000 to 2000 MHz"),
    ],
)
def test_each_disturbance_causes_one_warning(change: dict[str, float], text: str) -> None:
    (warning,) = detect_interference(BEFORE, replace(AFTER, **change))  # type: ignore[arg-type]
    assert text in warning
    assert select_disturbances(["the governor is slow", warning]) == (warning,)


def test_system_without_counters_is_reported_as_such() -> None:
    before = Snapshot(0, 0, None, None, None, None)
    warnings = detect_interference(before, replace(before, wall_s=10, own_s=1))
    assert warnings == ["this system does not report whether other processes were running"]
    assert select_disturbances(warnings) == ()


def test_counters_are_read_from_the_kernel_files(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  100 0 200 5000 7 0 0 300 0 0\ncpu0 1 1\n")
    for core, count in (("cpu0", 2), ("cpu1", 3)):
        (tmp_path / core / "thermal_throttle").mkdir(parents=True)
        (tmp_path / core / "thermal_throttle" / "core_throttle_count").write_text(f"{count}\n")
    snapshot = take_snapshot(tmp_path, tmp_path)
    assert (snapshot.busy_s, snapshot.stolen_s, snapshot.throttle_count) == (3, 3, 5)


@pytest.mark.parametrize("stat", [None, "", "cpu\n", "cpu 1 x\n"])
def test_missing_or_unreadable_kernel_files_give_no_counters(
    stat: str | None, tmp_path: Path
) -> None:
    if stat is not None:
        (tmp_path / "stat").write_text(stat)
    snapshot = take_snapshot(tmp_path, tmp_path)
    assert (snapshot.busy_s, snapshot.stolen_s, snapshot.throttle_count) == (None, None, None)


def test_drift_is_reported_with_its_direction() -> None:
    slower, faster = [10.0] * 20 + [12.0] * 20, [10.0] * 20 + [5.0] * 20
    much_slower = [10.0] * 20 + [13.0] * 20
    assert detect_drift([("a", slower)]) == ["a became 20% slower during the measurement"]
    assert detect_drift([("a", faster), ("b", [10.0, 10.3] * 20)]) == [
        "a became 50% faster during the measurement"
    ]
    assert detect_drift([("a", slower), ("b", faster), ("c", much_slower)]) == [
        "a, c became 20% to 30% slower during the measurement",
        "b became 50% faster during the measurement",
    ]
    assert detect_drift([("a", [10.0] * 4 + [20.0] * 4)]) == []
