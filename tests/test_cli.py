"""Every command ends with one line that explains an error, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT, has_control_characters
from tests.helpers.processes import start_python, wait_for_entry
from tinyvit.cli import explain_interrupt, make_parser, positive_int, run_guarded
from tinyvit.errors import RequestError

FULL_DEVICE = Path("/dev/full")

PRINT_CODE = """
import sys
from tinyvit.cli import run_guarded
sys.exit(run_guarded(lambda: print("x") or 0))
"""


def failing(error: BaseException) -> Callable[[], int]:
    """Return a command that raises an error."""

    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "line"),
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
            "error: unexpected ValueError: first: report this with the output of the same command"
            " with TINYVIT_DEBUG=1",
        ),
        (AssertionError(), "error: unexpected AssertionError: report this"),
        (
            MemoryError(),
            "error: the memory of this machine, or the limit on that of this process, is not "
            "sufficient: use smaller files, images or batches, or a machine with more memory",
        ),
        (KeyboardInterrupt(), "interrupted: nothing was left behind\n"),
    ],
)
def test_every_error_is_one_line_and_exit_code_1(
    error: BaseException,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TINYVIT_DEBUG", raising=False)
    assert run_guarded(failing(error)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert len(err.splitlines()) == 1


def test_an_interrupted_command_can_state_what_it_leaves(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> int:
        with explain_interrupt(lambda: "the same command goes on"):
            raise KeyboardInterrupt

    assert run_guarded(command) == 1
    assert capsys.readouterr().err == "interrupted: the same command goes on\n"


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYVIT_DEBUG", "1")
    assert run_guarded(failing(ValueError("odd"))) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in command" in err
    assert err.splitlines()[-1].startswith("error: unexpected ValueError: odd")


@pytest.mark.parametrize("debug", ["", "1"])
@pytest.mark.parametrize(
    "error",
    [
        RequestError(HOSTILE_TEXT, HOSTILE_TEXT),
        ValueError(HOSTILE_TEXT),
        FileNotFoundError(errno.ENOENT, HOSTILE_TEXT, HOSTILE_TEXT),
        KeyboardInterrupt(HOSTILE_TEXT),
    ],
)
def test_errors_cannot_steer_the_terminal(
    error: BaseException,
    debug: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TINYVIT_DEBUG", debug)
    assert run_guarded(failing(error)) == 1
    output = capsys.readouterr().err
    assert "a\\u001b[2J" in output
    assert not has_control_characters(output)


@pytest.mark.parametrize(
    "arguments", [[f"--{HOSTILE_TEXT}"], ["run", HOSTILE_TEXT], [HOSTILE_TEXT]]
)
def test_arguments_cannot_steer_the_terminal(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = make_parser("program", "Description.", "  program")
    parser.add_subparsers(required=True).add_parser("run").add_argument("count", type=positive_int)
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    output = capsys.readouterr().err
    assert output.startswith("error: ")
    assert len(output.splitlines()) == 1
    assert not has_control_characters(output)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "one", ""])
def test_positive_int_refuses_other_texts(text: str) -> None:
    assert positive_int("12") == 12
    with pytest.raises(ArgumentTypeError, match="is not a whole number of at least 1"):
        positive_int(text)


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with FULL_DEVICE.open("w") as full:
        process = start_python(PRINT_CODE, stdout=full.fileno())
        err = process.communicate()[1]
    assert process.returncode == 1
    assert err.startswith("error: a file cannot be read or written (the disk is full)")
    assert len(err.splitlines()) == 1


def test_a_closed_pipe_is_silent() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = start_python(PRINT_CODE, stdout=write_end)
    os.close(write_end)
    assert (process.communicate()[1], process.returncode) == ("", 1)


@pytest.mark.skipif(os.name == "nt", reason="on Windows, SIGTERM ends a process at once")
@pytest.mark.parametrize("times", [1, 5])
def test_sigterm_cleans_up(tmp_path: Path, times: int) -> None:
    code = """
import sys, time
from pathlib import Path
from tinyvit.cli import run_guarded
from tinyvit.files.staging import staging_folder

def command():
    with staging_folder(Path(sys.argv[1])) as folder:
        for i in range(2000):
            (folder / str(i)).touch()
        while True:
            time.sleep(0.01)

sys.exit(run_guarded(command))
"""
    process = start_python(code, tmp_path / "out.onnx")
    assert wait_for_entry(tmp_path, process)
    for _ in range(times):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.005)  # so that the later signals arrive during the cleanup
    err = process.communicate(timeout=60)[1]
    if times == 1:
        assert process.returncode == 143
        assert err == "terminated: nothing was left behind\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="on Windows, SIGTERM ends a process at once")
def test_a_terminated_export_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    code = "import sys; from tinyvit.export.cli import main; sys.exit(main(sys.argv[1:]))"
    process = start_python(code, "--model", "demo", "-o", tmp_path / "demo.onnx")
    assert wait_for_entry(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 143
    assert err.splitlines()[-1] == "terminated: nothing was left behind"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_handler_of_the_program_stays() -> None:
    def own_handler(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, own_handler)
    try:
        assert run_guarded(lambda: int(signal.getsignal(signal.SIGTERM) is not own_handler)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_handler_is_removed_after_the_command() -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert run_guarded(lambda: int(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)) == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("redirections", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_command_may_run_with_closed_streams(tmp_path: Path, redirections: str) -> None:
    """A file that the command opens must not get the descriptor of a closed stream."""
    code = (
        "import os, sys\n"
        "from tinyvit.cli import run_guarded\n"
        "def command():\n"
        "    print('text')\n"
        "    print('warning', file=sys.stderr)\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        os.write(1, b'native output\\n')\n"
        "        os.write(2, b'native output\\n')\n"
        "        file.write('result')\n"
        "    return 3 + (sys.stdout.encoding is None)\n"
        "sys.exit(run_guarded(command))"
    )
    output = tmp_path / "result.txt"
    process = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" "$2" {redirections}', sys.executable, code, str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 3
    assert output.read_text() == "result"
    assert process.stdout == ("text\nnative output\n" if redirections == "2>&-" else "")
    assert process.stderr == ("warning\nnative output\n" if redirections == ">&-" else "")
