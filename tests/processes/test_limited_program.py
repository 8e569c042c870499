"""Programs are stopped at limits on time, output and files, and none is started without limits."""

from __future__ import annotations

import ast
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.module_graph import ROOT
from tinyvit.processes import limited_program
from tinyvit.processes.limited_function import ProcessLimits, call_in_process
from tinyvit.processes.limited_program import (
    EndedProcess,
    ProcessLimitError,
    RunLimits,
    describe_crash,
    run_bounded,
)

FOLDERS = ("bench", "distill", "examples", "export", "quant", "runtimes", "src/tinyvit", "studies")


LIMITS = RunLimits(seconds=60, output_bytes=2**20)


def run_code(code: str, limits: RunLimits = LIMITS, stdin: bytes = b"") -> EndedProcess:
    return run_bounded([sys.executable, "-c", f"import os, sys, time\n{code}"], limits, stdin)


def test_input_and_output_are_passed_on() -> None:
    code = "sys.stdout.write(sys.stdin.read()[::-1]); sys.stderr.write('b'); sys.exit(3)"
    # More than a pipe holds, in both directions at once.
    ended = run_code(code, stdin=b"a" * 500_000 + b"end")
    assert ended == EndedProcess(3, b"dne" + b"a" * 500_000, b"b")
    assert run_code("print(sys.stdin.read())") == EndedProcess(0, f"{os.linesep}".encode(), b"")


def test_a_program_that_reads_no_input_is_no_problem() -> None:
    assert run_code("pass", stdin=bytes(10**7)) == EndedProcess(0, b"", b"")


@pytest.mark.parametrize(
    ("output_bytes", "message"), [(2**20, "printed more than 1 MiB"), (9, "more than 9 bytes")]
)
def test_output_without_end_is_stopped(output_bytes: int, message: str) -> None:
    with pytest.raises(ProcessLimitError, match=message):
        run_code("while True: print('x' * 1000)", RunLimits(60, output_bytes))


def test_a_program_without_end_is_stopped() -> None:
    start_s = time.monotonic()
    with pytest.raises(ProcessLimitError, match=r"^took more than 0\.5 s$"):
        run_code("time.sleep(60)", RunLimits(0.5, 100))
    assert time.monotonic() - start_s < 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
def test_a_file_without_end_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    code = f"file = open({str(path)!r}, 'wb')\nwhile True: file.write(bytes(1000))"
    ended = run_code(code, RunLimits(60, 2**20, file_bytes=100_000))
    assert b"File too large" in ended.stderr
    assert path.stat().st_size == 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the size of files")
def test_the_size_of_files_is_limited_before_the_program_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_file_size = limited_program._limit_file_size

    def limit_late(process_id: int, max_bytes: int) -> None:
        time.sleep(0.5)
        limit_file_size(process_id, max_bytes)

    monkeypatch.setattr(limited_program, "_limit_file_size", limit_late)
    command = ["/bin/sh", "-c", 'cat; printf 12345678901 > "$0"', str(tmp_path / "file")]
    ended = run_bounded(command, RunLimits(60, 2**20, file_bytes=10), stdin=b"a\nb")
    assert ended.stdout == b"a\nb"
    assert (tmp_path / "file").read_bytes() == b"1234567890"
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        run_bounded(["no-such-program"], RunLimits(60, 2**20, file_bytes=10))


def print_without_end(argument: bytes) -> bytes:
    return bytes(2**24 + 1)


def test_the_result_of_a_function_in_another_process_is_bounded() -> None:
    with pytest.raises(ValueError, match="the process that reads it printed more than 16 MiB"):
        call_in_process(print_without_end, b"", ProcessLimits(None, 60))


def list_started_processes() -> Iterator[tuple[str, str]]:
    """List the places that start a process, as (file, function with "timeout" if it has one)."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "node_modules" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    module = node.func.value
                    if isinstance(module, ast.Name) and module.id == "subprocess":
                        names = {keyword.arg for keyword in node.keywords}
                        suffix = " with timeout" if "timeout" in names else ""
                        yield path.relative_to(ROOT).as_posix(), node.func.attr + suffix


@pytest.mark.parametrize(
    ("exit_code", "description"),
    [
        *((0, None), (1, None), (255, None), (-11, "signal 11"), (-9, "signal 9")),
        (3221225477, "error 0xC0000005"),  # an access violation on Windows
        (3221226505, "error 0xC0000409"),  # a stack buffer overrun on Windows
    ],
)
def test_crashes_are_recognized_on_all_systems(exit_code: int, description: str | None) -> None:
    assert describe_crash(exit_code) == description


def test_no_process_is_started_without_limits() -> None:
    assert set(list_started_processes()) == {
        ("src/tinyvit/processes/limited_program.py", "Popen"),
        # Its output is not read: it goes to the terminal.
        ("runtimes/limited_verification.py", "run with timeout"),
        # Workers of an export, which print nothing. The export may take any time, and ends them.
        ("export/workers/target_processes.py", "Popen"),
        # These kill the process themselves after a time.
        ("runtimes/rockchip/simulator.py", "Popen"),
        ("studies/faults.py", "Popen"),
        ("studies/before_after/measurement.py", "Popen"),
        ("studies/before_after/programs/measure_command.py", "Popen"),
        # These run the project's own programs and git, and have a limit of time.
        ("studies/before_after/builds.py", "run with timeout"),
        ("studies/before_after/history.py", "run with timeout"),
        # These are in a group of processes that measurement.py kills after a time.
        ("studies/before_after/programs/measure_cpp.py", "run"),
        ("studies/before_after/programs/measure_web.py", "run"),
        ("examples/web/screenshot.py", "Popen"),
    }
