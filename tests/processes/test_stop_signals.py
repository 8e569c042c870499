"""A command ends after SIGINT or SIGTERM, also if a library loses the exception."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.processes import start_python, wait_for_entry
from tinyvit.files import file_locks
from tinyvit.files.staging import staging_folder
from tinyvit.processes.stop_signals import raise_if_stopped, restore_interrupt

pytestmark = pytest.mark.skipif(os.name == "nt", reason="on Windows, SIGTERM ends a process")

LOSE_EXCEPTION = """
import sys, time
from pathlib import Path
from tinyvit.cli import explain_interrupt, run_guarded
from tinyvit.errors import MissingDependencyError
from tinyvit.files.file_io import write_atomically
from tinyvit.progress import NullProgress

ready, output = map(Path, sys.argv[1:])

class Slow:
    def __del__(self):
        Path(ready, "ready").touch()
        time.sleep(60)

def lose_in_destructor():
    del [Slow()][0]

def become_import_error():
    try:
        Path(ready, "ready").touch()
        time.sleep(60)
    except KeyboardInterrupt as error:  # as pybind11 does while a module is imported
        raise ImportError("the module cannot be imported") from error

def become_package_error():
    try:
        become_import_error()
    except ImportError as error:
        raise MissingDependencyError("torch is not installed", "pip install torch") from error

def publish():
    lose_in_destructor()
    write_atomically(output, "text")
    return 0

def report_progress():
    lose_in_destructor()
    while True:
        NullProgress().advance("images", 1, 10)
        time.sleep(0.01)

def explain():
    with explain_interrupt(lambda: "repeat the command"):
        become_package_error()
"""


@pytest.mark.parametrize(
    "command", ["publish", "report_progress", "become_import_error", "become_package_error"]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_lost_exception_ends_the_command(
    command: str, number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "ready").mkdir()
    code = f"{LOSE_EXCEPTION}\nsys.exit(run_guarded({command}))"
    process = start_python(code, tmp_path / "ready", tmp_path / "output.txt")
    assert wait_for_entry(tmp_path / "ready", process)
    process.send_signal(number)
    err = process.communicate(timeout=50)[1]
    reason = "terminated" if number == signal.SIGTERM else "interrupted"
    assert err == f"{reason}: nothing was left behind\n"
    assert process.returncode == (143 if number == signal.SIGTERM else 1)
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]


def test_an_exception_that_became_an_error_gets_its_explanation(tmp_path: Path) -> None:
    code = f"{LOSE_EXCEPTION}\nsys.exit(run_guarded(explain))"
    process = start_python(code, tmp_path, tmp_path)
    assert wait_for_entry(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=50)[1] == "terminated: repeat the command\n"
    assert process.returncode == 143


@pytest.mark.parametrize("function", ["_remove_empty", "rmtree"])
def test_a_signal_during_the_cleanup_leaves_nothing(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = file_locks if function == "_remove_empty" else shutil
    remove = getattr(module, function)
    interrupts = [KeyboardInterrupt]

    def interrupt_once(*arguments: Any, **options: Any) -> None:
        if interrupts:
            raise interrupts.pop()
        remove(*arguments, **options)

    monkeypatch.setattr(module, function, interrupt_once)
    with pytest.raises(KeyboardInterrupt), staging_folder(tmp_path / "new" / "demo.onnx") as folder:
        (folder / "demo.onnx").touch()
    assert not interrupts
    assert list(tmp_path.iterdir()) == []


def test_without_a_signal_errors_stay() -> None:
    raise_if_stopped()
    with pytest.raises(ValueError, match="damaged"), restore_interrupt():
        raise ValueError("damaged")


def test_other_lost_exceptions_are_shown() -> None:
    code = """
import sys
from tinyvit.cli import run_guarded

class Broken:
    def __del__(self):
        raise ValueError("in a destructor")

sys.exit(run_guarded(lambda: [Broken()].clear() or 0))
"""
    process = start_python(code)
    assert "ValueError: in a destructor" in process.communicate(timeout=50)[1]
    assert process.returncode == 0
