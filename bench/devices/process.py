"""Runs the commands of devices with limits, and makes the errors for those that fail."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple

from tinyvit.errors import RequestError
from tinyvit.processes.limited_program import ProcessLimitError, RunLimits, run_bounded
from tinyvit.processes.python_process import read_last_line

MAX_OUTPUT_BYTES = 256 * 2**20
"""Largest number of bytes that a command may print on standard output if a caller sets no other."""
SSH_FAILURE_CODE = 255
"""Exit code of ssh if ssh itself failed; otherwise ssh returns that of the command (man 1 ssh)."""

_MAX_REASON_CHARACTERS = 200
"""Number of characters of the last line that the error for a failed command shows."""
_MAX_COMMAND_CHARACTERS = 80
"""Number of characters of a command in an error message, counted from its end."""
_DISK_FULL_MESSAGES = ("no space left", "quota exceeded", ": wrote only")
"""Parts of error messages, in lower case, that mean a full disk. GNU tar prints the last one."""


class _SshFailure(NamedTuple):
    """A reason why ssh itself fails, and how to recognize it.

    Attributes:
        message: Part of ssh's error message, in lower case.
        cause: Clause that follows the name of the device in the error, such as "cannot be found".
        remedy: What the user can do.
    """

    message: str
    cause: str
    remedy: str


_SSH_FAILURES = (
    _SshFailure(
        message="permission denied",
        cause="does not accept this key",
        remedy="check the user name, --identity, and authorized_keys on the device",
    ),
    _SshFailure(
        message="host key verification failed",
        cause="is not a known host",
        remedy="connect once by hand with ssh HOST, and accept its key",
    ),
    _SshFailure(message="could not resolve", cause="cannot be found", remedy="check its name"),
    _SshFailure(
        message="connection refused",
        cause="refuses the connection",
        remedy="check --port, and that its ssh server is running",
    ),
    _SshFailure(
        message="timed out",
        cause="does not answer",
        remedy="check that it is switched on and connected to the network",
    ),
)


@dataclass(frozen=True)
class CompletedCommand:
    """A command that has ended.

    Attributes:
        exit_code: Exit code of the command.
        stdout: Everything that the command printed on standard output.
        stderr: The end of what the command printed on standard error, at most 4000 bytes.
    """

    exit_code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line of standard error, shortened; the exit code if nothing was printed."""
        return read_last_line(self.stderr, if_empty=f"exit code {self.exit_code}")


def quote_command(command: Sequence[str], cwd: str | None = None) -> str:
    """Make the command line with which the shell of a device runs a command.

    ssh and adb pass one string to that shell. Each word is quoted, so that the shell interprets no
    character of it.

    Args:
        command: The program and its arguments.
        cwd: Absolute path of the working directory; the device's default if None.

    Returns:
        The command line for a POSIX shell.
    """
    line = shlex.join(command)
    return line if cwd is None else f"cd -- {shlex.quote(cwd)} && {line}"


def run_process(
    command: Sequence[str],
    device_name: str,
    timeout_s: float,
    stdin: IO[bytes] | None = None,
    cwd: str | None = None,
    max_output_bytes: int | None = None,
) -> CompletedCommand:
    """Run a program on this machine, with limits on its time and output.

    Args:
        command: The program and its arguments. The program may be ssh or adb, which run a command
            on a device.
        device_name: Name of the device for error messages.
        timeout_s: Seconds after which the program is killed.
        stdin: Standard input of the program; empty if None.
        cwd: Working directory of the program; the current one if None.
        max_output_bytes: Largest number of bytes that it may print on standard output;
            `MAX_OUTPUT_BYTES` if None.

    Raises:
        RequestError: The program cannot be started, takes too long, or prints more than
            `max_output_bytes`.
    """
    if max_output_bytes is None:
        max_output_bytes = MAX_OUTPUT_BYTES
    limits = RunLimits(timeout_s, max_output_bytes)
    try:
        process = run_bounded(command, limits, stdin or b"", cwd)
    except OSError as error:
        raise RequestError(
            f"{command[0]} cannot be started ({error.strerror})",
            "check whether it is installed",
        ) from error
    except ProcessLimitError as error:
        end_of_command = " ".join(command)[-_MAX_COMMAND_CHARACTERS:]
        raise RequestError(
            f"the command '{end_of_command}' on {device_name} {error}",
            "give a longer --timeout, or run the command there by hand to find the cause",
        ) from error
    except ValueError as error:  # a device can state a path with a null character
        raise RequestError(
            f"{command[0]} cannot be started for {device_name} (a path has a null character)",
            "run the command there by hand to find the cause",
        ) from error
    return CompletedCommand(
        exit_code=process.exit_code,
        stdout=process.stdout.decode("utf-8", "replace"),
        stderr=process.stderr.decode("utf-8", "replace"),
    )


def make_device_error(
    device_name: str,
    result: CompletedCommand,
    description: str,
    remedy: str = "run the command there by hand to find the cause",
    uses_ssh: bool = True,
) -> RequestError:
    """Make the error for a command that failed on a device.

    Args:
        device_name: Name of the device.
        result: The failed command. What it printed on standard error determines the cause and the
            remedy.
        description: A clause that describes the failure, such as "the files cannot be written".
            It is used if the cause is not recognized.
        remedy: What the user can do if the cause is not recognized.
        uses_ssh: Whether ssh ran the command, so that its exit code 255 is that of ssh.
    """
    stderr = result.stderr.lower()
    if any(message in stderr for message in _DISK_FULL_MESSAGES):
        return RequestError(
            f"{device_name} has no space left",
            "free some space there, or set TMPDIR there to a larger disk",
        )
    if uses_ssh and result.exit_code == SSH_FAILURE_CODE:
        for failure in _SSH_FAILURES:
            if failure.message in stderr:
                return RequestError(f"{device_name} {failure.cause}", failure.remedy)
    return RequestError(
        f"{description} on {device_name} ({result.last_line[:_MAX_REASON_CHARACTERS]})",
        remedy,
    )
