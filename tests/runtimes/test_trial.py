"""A file that may crash an engine is run in another process first, which reports that it ran."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest

from tinyvit.errors import ArtifactError
from tinyvit.processes.limited_function import limit_memory_growth
from tinyvit.runtimes import trial
from tinyvit.runtimes.trial import TRIAL_REPORT, run_trial

PATH = Path("demo.engine")


@pytest.fixture(autouse=True)
def no_tested_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_TESTED_SHA256", set())


def succeed(file_bytes: bytes) -> bytes:
    assert file_bytes == b"a file"
    return TRIAL_REPORT


def fail(file_bytes: bytes) -> NoReturn:
    raise ValueError("no network\nin this file")


def exit_early(file_bytes: bytes) -> NoReturn:
    os._exit(0)


def exit_with_an_error(file_bytes: bytes) -> NoReturn:
    os._exit(100)


def crash(file_bytes: bytes) -> NoReturn:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def wait(file_bytes: bytes) -> NoReturn:
    time.sleep(60)
    raise AssertionError


def fill_memory(file_bytes: bytes) -> bytes:
    limit_memory_growth(2**28)
    return bytes(2**30)


def test_a_file_that_ran_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run_trial(PATH, b"a file", "an engine", succeed)
    monkeypatch.setattr(trial, "call_in_process", lambda *_: pytest.fail("ran again"))
    run_trial(PATH, b"a file", "an engine", succeed)


@pytest.mark.parametrize(
    ("run_once", "reason"),
    [
        (fail, "ValueError: no network in this file"),
        (exit_early, "the library that reads it ends the process"),
        (exit_with_an_error, "no reason"),
        (crash, "the library that reads it crashes"),
    ],
)
def test_a_file_that_did_not_run_is_refused_every_time(run_once: object, reason: str) -> None:
    for _ in range(2):
        with pytest.raises(ArtifactError) as error:
            run_trial(PATH, b"a file", "an engine", run_once)
        assert error.value.cause == (
            "demo.engine is first run with an engine in another process, which may crash, and that"
            f" failed ({reason})"
        )


def test_a_process_that_cannot_import_the_engine_has_not_run_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(ArtifactError, match=r"that failed \(\w*Error: No module named"):
        run_trial(PATH, b"a file", "an engine", succeed)


def test_the_trial_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TRIAL_TIMEOUT_S", 1)
    with pytest.raises(ArtifactError, match="the process that reads it took more than 1 s"):
        run_trial(PATH, b"a file", "an engine", wait)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux states the memory there")
def test_the_memory_of_the_other_process_is_limited() -> None:
    with pytest.raises(ArtifactError, match="MemoryError"):
        run_trial(PATH, b"a file", "an engine", fill_memory)


def test_the_current_folder_is_not_searched_for_modules(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tinyvit.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *sys.path])
    run_trial(PATH, b"a file", "an engine", succeed)
