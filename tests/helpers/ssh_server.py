"""A real OpenSSH server on the loopback address, with its own keys and configuration."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench.devices.transport import SshTransport

_INSTALLED_SSHD = Path("/usr/sbin/sshd")
SSHD = shutil.which("sshd") or (str(_INSTALLED_SSHD) if _INSTALLED_SSHD.exists() else None)
"""Path of the server program; None if it is not installed."""

ADDRESS = "127.0.0.1"


@dataclass
class SshServer:
    """A running server.

    Attributes:
        process: The server's process.
        client_config: Configuration file for the ssh client.
        known_hosts: File with the server's public key; the client configuration names it.
        user_key: Private key that the server accepts; the client configuration names it.
        temporary_folder: The folder that TMPDIR names in sessions on the server.
    """

    process: subprocess.Popen[bytes]
    client_config: Path
    known_hosts: Path
    user_key: Path
    temporary_folder: Path

    def make_transport(self) -> SshTransport:
        """Make a transport that connects to this server."""
        return SshTransport(ADDRESS, config=self.client_config)

    def kill(self) -> None:
        """Kill the server and all processes that it started, as a loss of power would."""
        kill_process_tree(self.process.pid)
        self.process.wait()


@contextmanager
def run_ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run a server until the block ends.

    Args:
        folder: An empty folder for the server's files.

    Yields:
        The server, which accepts connections.
    """
    assert SSHD is not None
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd refuses to start as root without it
    port = find_free_port()
    host_key, user_key = make_key(folder / "host"), make_key(folder / "user")
    known_hosts, authorized_keys = folder / "known_hosts", folder / "authorized_keys"
    authorized_keys.write_text(user_key.with_suffix(".pub").read_text())
    known_hosts.write_text(f"[{ADDRESS}]:{port} {host_key.with_suffix('.pub').read_text()}")
    temporary_folder = folder / "temporary"
    temporary_folder.mkdir()
    server_config, client_config = folder / "sshd_config", folder / "ssh_config"
    server_config.write_text(
        f"Port {port}\nListenAddress {ADDRESS}\nHostKey {host_key}\n"
        f"AuthorizedKeysFile {authorized_keys}\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nPermitRootLogin yes\nPidFile {folder / 'pid'}\n"
        f"SetEnv TMPDIR={temporary_folder}\n"
    )
    client_config.write_text(
        f"Port {port}\nIdentityFile {user_key}\nIdentitiesOnly yes\n"
        f"UserKnownHostsFile {known_hosts}\nStrictHostKeyChecking yes\n"
    )
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", server_config], stderr=subprocess.DEVNULL)
    server = SshServer(process, client_config, known_hosts, user_key, temporary_folder)
    wait_for_port(port)
    try:
        yield server
    finally:
        if process.poll() is None:
            server.kill()


def make_key(path: Path) -> Path:
    """Make a key pair without a passphrase; return the path of the private key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def find_free_port() -> int:
    """Return the number of a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind((ADDRESS, 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    """Wait until something listens on a port, but not longer than five seconds."""
    for _ in range(100):
        with socket.socket() as connection:
            if connection.connect_ex((ADDRESS, port)) == 0:
                return
        time.sleep(0.05)


def kill_process_tree(pid: int) -> None:
    """Kill a process and all its descendants."""
    parents = {}  # process id -> process id of its parent
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # the process has ended
    family = {pid}
    while children := {child for child, parent in parents.items() if parent in family} - family:
        family |= children
    for member in family:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue
