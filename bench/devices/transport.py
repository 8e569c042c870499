"""Copying files to a device and running commands there: on this machine, or over ssh."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from tinyvit.errors import MissingDependencyError, RequestError

MAX_OUTPUT_BYTES = 256 * 2**20
"""Bytes that a command may print on standard output."""

_MAX_ERROR_BYTES = 4000
"""Bytes of the end of standard error that are kept."""
_SSH_FAILURE_CODE = 255
"""Exit code of ssh when ssh itself failed, rather than the command (man 1 ssh)."""
_HOST_PATTERN = re.compile(r"(?:\w[\w.-]*@)?[\w.:%\[\]][\w.:%\[\]-]*")
"""USER@HOST; neither part may begin with a hyphen, which ssh would take for an option."""
_SSH_OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
)
_DISK_FULL_MESSAGES = ("no space left", "quota exceeded")
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
        "check --port, and whether its ssh server is running",
    ),
    ("timed out", "does not answer", "check whether it is switched on, and its network"),
)
"""Text in ssh's error output, in lower case -> cause and remedy."""


@dataclass(frozen=True)
class CompletedCommand:
    """A command that has ended.

    Attributes:
        exit_code: Its exit code.
        stdout: What it printed on standard output.
        stderr: The end of what it printed on standard error.
    """

    exit_code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line on standard error, at most 300 characters; the exit code if it is empty."""
        return (self.stderr.strip().splitlines() or [f"exit code {self.exit_code}"])[-1][:300]


class Transport(Protocol):
    """Access to a device. Its errors are RequestErrors that name the device.

    Attributes:
        name: Name of the device for messages.
    """

    name: str

    def make_folder(self) -> str:
        """Create an empty temporary folder on the device, and return its absolute path."""
        ...

    def upload(self, folder: Path, remote_folder: str) -> None:
        """Copy the content of a local folder to the device.

        Args:
            folder: The local folder.
            remote_folder: An existing folder on the device.
        """
        ...

    def run(
        self, command: Sequence[str], timeout_s: float, cwd: str | None = None
    ) -> CompletedCommand:
        """Run a command on the device.

        Args:
            command: The program and its arguments; no shell interprets them.
            timeout_s: Seconds after which the command is stopped.
            cwd: Working directory; the device's default if None.

        Raises:
            RequestError: The command takes longer, prints more than `MAX_OUTPUT_BYTES`, or the
                connection is lost.
        """
        ...

    def remove_folder(self, remote_folder: str) -> None:
        """Delete a folder on the device.

        Args:
            remote_folder: Absolute path of the folder.
        """
        ...


class LocalTransport:
    """This machine, treated like another device.

    Attributes:
        name: Name of the device for messages.
    """

    name = "this machine"

    def make_folder(self) -> str:
        """Create an empty temporary folder, and return its absolute path."""
        return tempfile.mkdtemp(prefix="tinyvit-")

    def upload(self, folder: Path, remote_folder: str) -> None:
        """Copy the content of a folder.

        Args:
            folder: The source.
            remote_folder: An existing folder.
        """
        shutil.copytree(folder, remote_folder, dirs_exist_ok=True)

    def run(
        self, command: Sequence[str], timeout_s: float, cwd: str | None = None
    ) -> CompletedCommand:
        """Run a command, see `Transport.run`.

        Args:
            command: The program and its arguments.
            timeout_s: Seconds after which the command is stopped.
            cwd: Working directory; the current one if None.
        """
        return run_process(command, self.name, timeout_s, cwd=cwd)

    def remove_folder(self, remote_folder: str) -> None:
        """Delete a folder; errors are ignored.

        Args:
            remote_folder: Absolute path of the folder.
        """
        shutil.rmtree(remote_folder, ignore_errors=True)


class SshTransport:
    """A host that the installed ssh program reaches without a password.

    Host keys and identities are handled by ssh as always; none of its checks is turned off.

    Attributes:
        name: Name of the device for messages.
    """

    def __init__(
        self,
        host: str,
        port: int | None = None,
        identity: Path | None = None,
        config: Path | None = None,
    ) -> None:
        """Prepare the ssh command line; no connection is made yet.

        Args:
            host: "user@host" or "host", as for ssh.
            port: Port of the ssh server; ssh's default if None.
            identity: Private key file; ssh's default if None.
            config: Configuration file that replaces ~/.ssh/config.

        Raises:
            RequestError: `host` is not a host name.
            MissingDependencyError: ssh is not installed.
        """
        if not _HOST_PATTERN.fullmatch(host):
            raise RequestError(f"{host!r} is not a host name", "give USER@HOST, as for ssh")
        if shutil.which("ssh") is None:
            raise MissingDependencyError(
                "ssh is not installed",
                "install the OpenSSH client (Debian: apt-get install openssh-client)",
            )
        self.name = host
        options = [word for option in _SSH_OPTIONS for word in ("-o", option)]
        options += ["-F", str(config)] if config else []
        options += ["-p", str(port)] if port else []
        options += ["-i", str(identity)] if identity else []
        self._ssh = ["ssh", "-T", *options, "--", host]

    def make_folder(self) -> str:
        """Create an empty temporary folder on the host, and return its absolute path."""
        result = self.run(["mktemp", "-d", "-t", "tinyvit-XXXXXXXX"], 60)
        folder = result.stdout.strip()
        if result.exit_code or not folder.startswith("/"):
            raise device_error(self.name, result, "no temporary folder can be created")
        return folder

    def upload(self, folder: Path, remote_folder: str) -> None:
        """Copy the content of a local folder as a tar stream, since small devices have no sftp.

        Args:
            folder: The local folder.
            remote_folder: An existing folder on the host.
        """
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(fileobj=packed, mode="w") as archive:
                archive.add(folder, ".")
            packed.seek(0)
            result = self._run(["tar", "-xf", "-", "-C", remote_folder], 3600, stdin=packed)
        if result.exit_code:
            raise device_error(self.name, result, "the files cannot be written")

    def run(
        self, command: Sequence[str], timeout_s: float, cwd: str | None = None
    ) -> CompletedCommand:
        """Run a command on the host, see `Transport.run`.

        Args:
            command: The program and its arguments.
            timeout_s: Seconds after which the command is stopped.
            cwd: Working directory; the home directory if None.
        """
        return self._run(command, timeout_s, cwd=cwd)

    def remove_folder(self, remote_folder: str) -> None:
        """Delete a folder on the host.

        Args:
            remote_folder: Absolute path of the folder.
        """
        result = self.run(["rm", "-rf", "--", remote_folder], 120)
        if result.exit_code:
            raise device_error(self.name, result, f"{remote_folder} cannot be deleted")

    def _run(
        self,
        command: Sequence[str],
        timeout_s: float,
        stdin: IO[bytes] | None = None,
        cwd: str | None = None,
    ) -> CompletedCommand:
        """Run a command; ssh passes one string to the host's shell, so each word is quoted."""
        line = shlex.join(command)
        if cwd:
            line = f"cd -- {shlex.quote(cwd)} && {line}"
        result = run_process([*self._ssh, line], self.name, timeout_s, stdin)
        if result.exit_code == _SSH_FAILURE_CODE:
            raise device_error(self.name, result, "the connection was lost")
        return result


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
        name: Name of the device for an error.
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
                "give a longer --timeout, or run the command there by hand to see what it does",
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
        result: The command. What ssh or the device printed decides the cause and the remedy.
        failure: What could not be done, a clause for a failure whose cause is not recognized.
    """
    stderr = result.stderr.lower()
    if any(message in stderr for message in _DISK_FULL_MESSAGES):
        return RequestError(
            f"{name} has no space left",
            "free some space there, or set TMPDIR there to a larger disk",
        )
    if result.exit_code == _SSH_FAILURE_CODE:
        for message, cause, remedy in _SSH_CAUSES:
            if message in stderr:
                return RequestError(f"{name} {cause}", remedy)
    return RequestError(
        f"{failure} on {name} ({result.last_line[:200]})",
        "run the command there by hand to see what fails",
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
