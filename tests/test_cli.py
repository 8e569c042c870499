"""How a command ends: every error is one line, and whatever stops it, nothing is left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tinyvit.cli import run_guarded
from tinyvit.errors import RequestError

FULL = Path("/dev/full")


def failing(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RequestError("a\nb", "c"), "error: a b: c\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.onnx"),
            "error: x.onnx cannot be read or written (the disk is full): free",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "x"),
            "error: x cannot be read or written (Permission denied): check its permissions",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "x"),
            "error: x cannot be read or written (No such file): check the path",
        ),
        (OSError("odd"), "error: unexpected OSError: odd: report this"),
        (
            ValueError("first\nsecond"),
            "error: unexpected ValueError: first: report this with the output of the same command with TINYVIT_DEBUG=1",
        ),
        (AssertionError(), "error: unexpected AssertionError: report this"),
        (KeyboardInterrupt(), "interrupted: "),
    ],
)
def test_every_error_is_one_line_and_exit_1(
    error: BaseException,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TINYVIT_DEBUG", raising=False)
    assert run_guarded(failing(error)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert len(err.splitlines()) == 1


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYVIT_DEBUG", "1")
    assert run_guarded(failing(ValueError("odd"))) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in command" in err
    assert err.splitlines()[-1].startswith("error: unexpected ValueError: odd")


def python(code: str, *arguments: object, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(not FULL.exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with FULL.open("w") as full:
        done = python(
            "import sys; from tinyvit.cli import run_guarded; sys.exit(run_guarded(lambda: print('x') or 0))",
            stdout=full.fileno(),
        )
        err = done.communicate()[1]
    assert done.returncode == 1
    assert err.startswith("error: a file cannot be read or written (the disk is full)")
    assert len(err.splitlines()) == 1


def test_a_closed_pipe_is_silent() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = python(
        "import sys; from tinyvit.cli import run_guarded; sys.exit(run_guarded(lambda: print('x') or 0))",
        stdout=writing,
    )
    os.close(writing)
    assert (done.communicate()[1], done.returncode) == ("", 1)


def appeared(folder: Path, process: subprocess.Popen[str]) -> bool:
    """Wait for something to be in the folder while the process lives."""
    end = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < end:
        if any(folder.iterdir()):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.skipif(os.name == "nt", reason="there, SIGTERM ends a process at once")
@pytest.mark.parametrize("times", [1, 5])
def test_sigterm_cleans_up(tmp_path: Path, times: int) -> None:
    code = """
import sys, time
from pathlib import Path
from tinyvit.cli import run_guarded
from tinyvit.files import staging_folder

def command():
    with staging_folder(Path(sys.argv[1])) as folder:
        for i in range(2000):
            (folder / str(i)).touch()
        while True:
            time.sleep(0.01)

sys.exit(run_guarded(command))
"""
    process = python(code, tmp_path / "out.onnx")
    assert appeared(tmp_path, process)
    for _ in range(times):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.005)
    err = process.communicate(timeout=60)[1]
    if times == 1:
        assert process.returncode == 143
        assert err == "terminated: nothing was left behind\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="there, SIGTERM ends a process at once")
def test_an_export_that_is_terminated_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    code = "import sys; from tinyvit.export.cli import main; sys.exit(main(sys.argv[1:]))"
    process = python(code, "--model", "demo", "-o", tmp_path / "demo.onnx")
    assert appeared(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 143
    assert err.splitlines()[-1] == "terminated: nothing was left behind"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_the_programs_own_handler_stays() -> None:
    def mine(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)
    try:
        assert run_guarded(lambda: int(signal.getsignal(signal.SIGTERM) is not mine)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_handler_is_for_the_command_alone() -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert run_guarded(lambda: int(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)) == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
