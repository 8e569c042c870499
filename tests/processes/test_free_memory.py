"""The free memory is that of the system, or that which the container allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit.processes import free_memory


def test_free_memory_is_that_of_the_system_or_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(free_memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(free_memory, "_CGROUP", tmp_path)
    assert free_memory.measure_free_memory() == 4 * 2**30
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:    8000 kB\n")
    assert free_memory.measure_free_memory() == 8_192_000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_memory.measure_free_memory() == 8_192_000
    (tmp_path / "memory.max").write_text("5001000\n")
    assert free_memory.measure_free_memory() == 5_000_000
