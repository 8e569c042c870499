"""Copies files to a device and runs commands there: over ssh, or on this machine."""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Protocol

from tinyvit.bench.devices.process import (
    SSH_FAILURE_CODE,
    CompletedCommand,
    make_device_error,
    quote_command,
    run_process,
)
from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.files.file_io import explain_os_error
from tinyvit.files.staging import temporary_folder

_HOST_PATTERN = re.compile(r"(?:\w[\w.-]*@)?[\w.:%\[\]][\w.:%\[\]-]*")
"""Pattern of USER@HOST or HOST. Neither part may begin with a hyphen, since ssh would take it for
an option."""
_SSH_OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
)
"""Options with which ssh never asks for a password, and notices a lost connection in 15 seconds."""
_FOLDER_TIMEOUT_S = 60
_UPLOAD_TIMEOUT_S = 3600
_REMOVAL_TIMEOUT_S = 120


class Transport(Protocol):
    """Access to a device. All methods raise RequestError with the name of the device if they fail.

    Attributes:
        name: Name of the device for messages.
    """

    name: str

    def make_folder(self, is_kept: bool) -> str:
        """Create an empty temporary folder on the device, and return its absolute path.

        Args:
            is_kept: Whether the folder remains after the end of this process.
        """
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

    def __init__(self) -> None:
        """Create no folder yet."""
        self._folders: dict[str, ExitStack] = {}

    def make_folder(self, is_kept: bool) -> str:
        """Create an empty temporary folder, and return its absolute path.

        Args:
            is_kept: Whether the folder remains. Otherwise, a later command deletes it if this
                process is killed.
        """
        try:
            if is_kept:
                return tempfile.mkdtemp(prefix="tinyvit-")
            stack = ExitStack()
            folder = str(stack.enter_context(temporary_folder()))
        except OSError as error:
            raise self._make_error("no temporary folder can be created", error) from error
        self._folders[folder] = stack
        return folder

    def upload(self, folder: Path, remote_folder: str) -> None:
        """Copy the content of a folder.

        Args:
            folder: The folder to copy.
            remote_folder: An existing folder to copy to.
        """
        try:
            shutil.copytree(folder, remote_folder, dirs_exist_ok=True)
        except OSError as error:
            raise self._make_error("the files cannot be written", error) from error

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
        """Delete a folder.

        Args:
            remote_folder: Absolute path of the folder.
        """
        with self._folders.pop(remote_folder, ExitStack()):  # which releases the folder's lock
            try:
                shutil.rmtree(remote_folder)
            except OSError as error:
                raise self._make_error(f"{remote_folder} cannot be deleted", error) from error

    def _make_error(self, failure: str, error: OSError) -> RequestError:
        """Return the error that states a failure and the reason of the operating system."""
        reason, remedy = explain_os_error(error)
        return RequestError(f"{failure} on {self.name} ({reason})", remedy)


class SshTransport:
    """A host to which the installed ssh program can connect without a password.

    ssh checks host keys and uses private keys as usual; none of its checks is turned off.

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
            config: Configuration file that replaces ~/.ssh/config; None to use ~/.ssh/config.

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
        options = []
        for option in _SSH_OPTIONS:
            options += ["-o", option]
        if config:
            options += ["-F", str(config)]
        if port:
            options += ["-p", str(port)]
        if identity:
            options += ["-i", str(identity)]
        self._ssh_command = ["ssh", "-T", *options, "--", host]

    def make_folder(self, is_kept: bool) -> str:
        """Create an empty temporary folder on the host, and return its absolute path.

        Args:
            is_kept: Not used: no other process deletes the folder.
        """
        result = self.run(["mktemp", "-d", "-t", "tinyvit-XXXXXXXX"], _FOLDER_TIMEOUT_S)
        folder = result.stdout.strip()
        if result.exit_code or not folder.startswith("/"):
            raise make_device_error(self.name, result, "no temporary folder can be created")
        return folder

    def upload(self, folder: Path, remote_folder: str) -> None:
        """Copy the content of a local folder as a tar archive, since small devices may lack sftp.

        Args:
            folder: The local folder.
            remote_folder: An existing folder on the host.
        """
        with tempfile.TemporaryFile() as tar_file:
            with tarfile.open(fileobj=tar_file, mode="w") as archive:
                archive.add(folder, ".")
            tar_file.seek(0)
            command = ["tar", "-xf", "-", "-C", remote_folder]
            result = self._run_over_ssh(command, _UPLOAD_TIMEOUT_S, stdin=tar_file)
        if result.exit_code:
            raise make_device_error(self.name, result, "the files cannot be written")

    def run(
        self, command: Sequence[str], timeout_s: float, cwd: str | None = None
    ) -> CompletedCommand:
        """Run a command on the host as `Transport.run` specifies.

        Args:
            command: The program and its arguments.
            timeout_s: Seconds after which the command is stopped.
            cwd: Working directory; the home directory if None.
        """
        return self._run_over_ssh(command, timeout_s, stdin=None, cwd=cwd)

    def remove_folder(self, remote_folder: str) -> None:
        """Delete a folder on the host.

        Args:
            remote_folder: Absolute path of the folder.
        """
        result = self.run(["rm", "-rf", "--", remote_folder], _REMOVAL_TIMEOUT_S)
        if result.exit_code:
            raise make_device_error(self.name, result, f"{remote_folder} cannot be deleted")

    def _run_over_ssh(
        self,
        command: Sequence[str],
        timeout_s: float,
        stdin: IO[bytes] | None,
        cwd: str | None = None,
    ) -> CompletedCommand:
        """Run a command on the host, with a file as its standard input (empty if None)."""
        line = quote_command(command, cwd)
        result = run_process([*self._ssh_command, line], self.name, timeout_s, stdin)
        if result.exit_code == SSH_FAILURE_CODE:
            raise make_device_error(self.name, result, "the connection was lost")
        return result
