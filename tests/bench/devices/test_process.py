"""Programs are stopped at limits, whatever they print and whatever they leave running."""

from __future__ import annotations

import os
import sys
import time

import pytest

from tinyvit.bench.devices.process import run_process
from tinyvit.errors import RequestError


def run_code(code: str, timeout_s: float = 60) -> tuple[int, str, str]:
    command = [sys.executable, "-c", f"import os, sys, time\n{code}"]
    result = run_process(command, "the device", timeout_s)
    return result.exit_code, result.stdout, result.stderr


def test_only_the_end_of_standard_error_is_kept() -> None:
    # More than a pipe holds, so that nothing else than reading it all lets the program end.
    code = "sys.stderr.write('a' * 10_000_000 + 'end'); print('done'); sys.exit(3)"
    assert run_code(code) == (3, "done\n", "a" * 3997 + "end")


def test_errors_without_end_are_stopped_and_fill_no_disk() -> None:
    start_s = time.monotonic()
    with pytest.raises(RequestError, match="on the device took more than 2 s"):
        run_code("while True: os.write(2, bytes(65536))", timeout_s=2)
    assert time.monotonic() - start_s < 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork a process")
def test_a_process_left_behind_does_not_prolong_the_time_limit() -> None:
    start_s = time.monotonic()
    with pytest.raises(RequestError, match="took more than 2 s"):
        run_code("os.fork() or time.sleep(60); time.sleep(60)", timeout_s=2)
    # ssh's master keeps only standard error open.
    code = "print('a', flush=True)\nif not os.fork(): os.close(1); time.sleep(60)"
    assert run_code(code) == (0, "a\n", "")
    assert time.monotonic() - start_s < 40


def test_a_path_with_a_null_character_is_refused() -> None:
    with pytest.raises(RequestError, match=r"cannot be started for the device .*null character"):
        run_process(["ssh", "rm /tmp/a\0b"], "the device", 10)
