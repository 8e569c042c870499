"""The CPU time of all processes that a process started counts, also that of orphans."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinyvit.bench.latency.process_times import read_own_seconds

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
_BUSY = "import time\nwhile time.process_time() < 0.3: pass\n"
"""Python code that uses 0.3 s of CPU time."""


def _write_stat(proc: Path, pid: int, name: str, parent: int, ticks: str) -> None:
    (proc / str(pid)).mkdir()
    stat = f"{pid} ({name}) S {parent} 1 1 0 -1 4194304 1 2 3 4 {ticks} 20 0 1 0 100\n"
    (proc / str(pid) / "stat").write_text(stat)


def test_times_of_descendants_are_added(tmp_path: Path) -> None:
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    own, second = os.getpid(), ticks_per_s
    _write_stat(tmp_path, own, "python", 1, f"{100 * second} 0 0 0")  # os.times() has its time.
    _write_stat(tmp_path, own + 1, "a) R 1 (", own, f"{second} {second} {second} {second}")
    _write_stat(tmp_path, own + 2, "grandchild", own + 1, f"{8 * second} 0 0 0")
    _write_stat(tmp_path, own + 3, "stranger", 1, f"{1000 * second} 0 0 0")
    (tmp_path / str(own + 4)).mkdir()  # A process that ended while its folder was read.
    before = sum(os.times()[:4])
    assert 12 <= read_own_seconds(tmp_path) - before < 13


def test_without_information_the_own_time_remains(tmp_path: Path) -> None:
    before = sum(os.times()[:4])
    assert before <= read_own_seconds(tmp_path / "missing") < before + 1


@linux_only
def test_running_children_count() -> None:
    before = read_own_seconds()
    code = f"{_BUSY}print(flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        grown = read_own_seconds() - before
        child.kill()
    assert grown >= 0.25


@linux_only
@pytest.mark.parametrize("adopts", [True, False])
def test_orphans_count_after_they_ended_if_they_are_adopted(adopts: bool, tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(_BUSY)
    (tmp_path / "leave.py").write_text(
        "import subprocess, sys; subprocess.Popen([sys.executable, 'busy.py'])"
    )
    (tmp_path / "watch.py").write_text(f"""\
import os, subprocess, sys, time
from contextlib import nullcontext
from tinyvit.bench.latency.process_times import adopt_orphans, read_own_seconds

def measure_orphan():
    before = read_own_seconds()
    # The end of busy.py, which leave.py does not wait for, closes the pipe.
    reading, writing = os.pipe()
    subprocess.run([sys.executable, "leave.py"], stdout=writing, check=True)
    os.close(writing)
    os.read(reading, 1)
    time.sleep(0.2)
    return read_own_seconds() - before

with adopt_orphans() if {adopts} else nullcontext():
    print(measure_orphan())
print(measure_orphan())  # No orphan is adopted any more.
""")
    output = subprocess.run(
        [sys.executable, "watch.py"], cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    seconds, seconds_afterwards = map(float, output.split())
    assert (seconds >= 0.25) == adopts
    assert seconds_afterwards < 0.25
