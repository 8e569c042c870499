"""Copies files to a device and runs commands there: over ssh, or on this machine."""

from __future__ import annotations

import re
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

from tinyvit.bench.devices.process import (
    SSH_FAILURE_CODE,
    CompletedCommand,
    device_error,
    run_process,
)
from tinyvit.errors import MissingDependencyError, RequestError

_HOST_PATTERN = re.compile(r"(?:\w[\w.-]*@)?[\w.:%\[\]][\w.:%\[\]-]*")
"""USER@HOST; neither part may begin with a hyphen, since ssh would parse it as an option."""
_SSH_OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
)


class Transport(Protocol):
    """Access to a device. Errors are of type RequestError and name the device.

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
            RequestError: The command takes longer than `timeout_s`, prints more than
                `process.MAX_OUTPUT_BYTES`, or the connection is lost.
        """
        ...

    def remove_folder(self, remote_folder: str) -> None:
        """Delete a folder on the device.

        Args:
            remote_folder: Absolute path of the folder.
        """
        ...


class LocalTransport:
    """This machine, used like another device.

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
        """Run a command as `Transport.run` specifies.

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
    """A host to which the installed ssh program can connect without a password.

    ssh handles host keys and identities as usual; none of its checks is turned off.

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
        """Copy the content of a local folder as a tar stream, since small devices may lack sftp.

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
        """Run a command on the host as `Transport.run` specifies.

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
        """Run a command; each word is quoted, since ssh passes one string to the host's shell."""
        line = shlex.join(command)
        if cwd:
            line = f"cd -- {shlex.quote(cwd)} && {line}"
        result = run_process([*self._ssh, line], self.name, timeout_s, stdin)
        if result.exit_code == SSH_FAILURE_CODE:
            raise device_error(self.name, result, "the connection was lost")
        return result
