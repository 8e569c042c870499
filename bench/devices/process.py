"""Runs programs with limits on time and output, and makes the error of a failed command."""

from __future__ import annotations

import io
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from tinyvit.errors import RequestError

MAX_OUTPUT_BYTES = 256 * 2**20
"""Maximum number of bytes that a command may print on standard output."""
SSH_FAILURE_CODE = 255
"""Exit code of ssh if ssh itself failed, and not the remote command (man 1 ssh)."""

_MAX_ERROR_BYTES = 4000
"""Number of bytes that are kept from the end of standard error."""
_DISK_FULL_MESSAGES = ("no space left", "quota exceeded", ": wrote only")
"""Parts of error messages, in lower case; GNU tar prints the last one if a write fails."""
_SSH_CAUSES = (
    (
        "permission denied",
        "does not accept this key",
        "check the user name, --identity, and authorized_keys on the device",
    ),
    (
        "host key verification failed",
        "is not a known host",
        "connect once by hand with ssh HOST, and accept its key",
    ),
    ("could not resolve", "cannot be found", "check its name"),
    (
        "connection refused",
        "refuses the connection",
        "check --port, and that its ssh server is running",
    ),
    ("timed out", "does not answer", "check that it is switched on and connected to the network"),
)
"""Part of ssh's error messages in lower case, cause, and remedy."""


@dataclass(frozen=True)
class CompletedCommand:
    """A command that has ended.

    Attributes:
        exit_code: Its exit code.
        stdout: Its standard output.
        stderr: The end of its standard error, at most 4000 bytes.
    """

    exit_code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line of standard error, at most 300 characters; the exit code if it is empty."""
        return (self.stderr.strip().splitlines() or [f"exit code {self.exit_code}"])[-1][:300]


def run_process(
    command: Sequence[str],
    name: str,
    timeout_s: float,
    stdin: IO[bytes] | None = None,
    cwd: str | None = None,
) -> CompletedCommand:
    """Run a program on this machine, with limits on its time and output.

    Args:
        command: The program and its arguments.
        name: Name of the device for error messages.
        timeout_s: Seconds after which the program is killed.
        stdin: Its standard input; empty if None.
        cwd: Its working directory; the current one if None.

    Raises:
        RequestError: The program cannot be started, takes too long, or prints more than
            `MAX_OUTPUT_BYTES`.
    """
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                list(command),
                stdin=stdin or subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=cwd,
            )
        except OSError as error:
            raise RequestError(
                f"{command[0]} cannot be started ({error.strerror})",
                "check whether it is installed",
            ) from error
        output, is_late = _read_output(process, timeout_s)
        is_too_long = len(output) > MAX_OUTPUT_BYTES
        if is_late or is_too_long:
            excess = (
                f"printed more than {MAX_OUTPUT_BYTES >> 20} MiB"
                if is_too_long
                else f"took more than {timeout_s:g} s"
            )
            raise RequestError(
                f"the command '{' '.join(command)[-80:]}' on {name} {excess}",
                "give a longer --timeout, or run the command there by hand to find the cause",
            )
        stderr.seek(max(0, stderr.seek(0, io.SEEK_END) - _MAX_ERROR_BYTES))
        return CompletedCommand(
            process.returncode,
            output.decode("utf-8", "replace"),
            stderr.read().decode("utf-8", "replace"),
        )


def device_error(name: str, result: CompletedCommand, failure: str) -> RequestError:
    """Make the error for a command that failed on a device.

    Args:
        name: Name of the device.
        result: The failed command. Its standard error determines the cause and the remedy.
        failure: A clause that describes the failure; used if the cause is not recognized.
    """
    stderr = result.stderr.lower()
    if any(message in stderr for message in _DISK_FULL_MESSAGES):
        return RequestError(
            f"{name} has no space left",
            "free some space there, or set TMPDIR there to a larger disk",
        )
    if result.exit_code == SSH_FAILURE_CODE:
        for message, cause, remedy in _SSH_CAUSES:
            if message in stderr:
                return RequestError(f"{name} {cause}", remedy)
    return RequestError(
        f"{failure} on {name} ({result.last_line[:200]})",
        "run the command there by hand to find the cause",
    )


def _read_output(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[bytes, bool]:
    """Read the output of a process until it ends, and kill it if it exceeds a limit.

    Returns:
        At most one byte more than `MAX_OUTPUT_BYTES`, and whether the time limit was exceeded.
    """
    is_late = threading.Event()

    def stop() -> None:
        is_late.set()
        process.kill()

    timer = threading.Timer(timeout_s, stop)
    timer.start()
    try:
        assert process.stdout is not None  # it is a pipe
        with process.stdout as stream:
            output = stream.read(MAX_OUTPUT_BYTES + 1)
        if len(output) > MAX_OUTPUT_BYTES:
            process.kill()
        process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
    return output, is_late.is_set()
