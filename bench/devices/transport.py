"""How files and commands get to a device: by ssh, or not at all where it is this machine."""

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

MAX_OUTPUT = 256 * 2**20
_LOST, _SSH_FAILED = "the connection was lost", 255
_HOST = re.compile(r"(?:\w[\w.-]*@)?[\w.:%\[\]][\w.:%\[\]-]*")


@dataclass(frozen=True)
class CompletedCommand:
    """A command that ended: its exit code, what it printed, and the end of what it said on stderr."""

    code: int
    stdout: str
    stderr: str


class Transport(Protocol):
    """A way to a device. Its errors are RequestErrors that name the device."""

    name: str

    def make_folder(self) -> str:
        """A new empty folder there."""
        ...

    def put(self, folder: Path, there: str) -> None:
        """Copy what is in a folder here into one there."""
        ...

    def run(
        self, argv: Sequence[str], timeout_s: float, cwd: str | None = None
    ) -> CompletedCommand:
        """Run a command there, in `cwd`. Raises where it takes longer, prints too much, or the device is lost."""
        ...

    def remove(self, there: str) -> None:
        """Delete a folder there."""
        ...


class Local:
    """This machine, as though it were another."""

    name = "this machine"

    def make_folder(self) -> str:
        """See `Transport`."""
        return tempfile.mkdtemp(prefix="tinyvit-")

    def put(self, folder: Path, there: str) -> None:
        """See `Transport`."""
        shutil.copytree(folder, there, dirs_exist_ok=True)

    def run(
        self, argv: Sequence[str], timeout_s: float, cwd: str | None = None
    ) -> CompletedCommand:
        """See `Transport`."""
        return run_process(argv, self.name, timeout_s, cwd=cwd)

    def remove(self, there: str) -> None:
        """See `Transport`."""
        shutil.rmtree(there, ignore_errors=True)


class Ssh:
    """A host that the system's ssh reaches without asking for a password; its known hosts and keys are ssh's own affair."""

    def __init__(
        self,
        host: str,
        port: int | None = None,
        identity: Path | None = None,
        config: Path | None = None,
    ) -> None:
        """host: "user@name", as ssh takes it. Raises RequestError for what is no host's name, MissingDependencyError without ssh."""
        if not _HOST.fullmatch(host):
            raise RequestError(f"{host!r} is no host", "give USER@HOST, as for ssh")
        if shutil.which("ssh") is None:
            raise MissingDependencyError(
                "ssh is not installed",
                "install OpenSSH's client (Debian: apt-get install openssh-client)",
            )
        self.name = host
        options = [
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=15",
            "-o",
            "ServerAliveInterval=5",
            "-o",
            "ServerAliveCountMax=3",
        ]
        options += ["-F", str(config)] if config else []
        options += ["-p", str(port)] if port else []
        options += ["-i", str(identity)] if identity else []
        self._ssh = ["ssh", "-T", *options, "--", host]

    def make_folder(self) -> str:
        """See `Transport`."""
        done = self.run(["mktemp", "-d", "-t", "tinyvit-XXXXXXXX"], 60)
        folder = done.stdout.strip()
        if done.code or not folder.startswith("/"):
            raise refusal(self.name, done, "no folder can be made there")
        return folder

    def put(self, folder: Path, there: str) -> None:
        """See `Transport`. As a tar through ssh: small devices have no sftp."""
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(fileobj=packed, mode="w") as archive:
                archive.add(folder, ".")
            packed.seek(0)
            done = self._finished(["tar", "-xf", "-", "-C", there], 3600, packed)
        if done.code:
            raise refusal(self.name, done, "the files cannot be written there")

    def run(
        self, argv: Sequence[str], timeout_s: float, cwd: str | None = None
    ) -> CompletedCommand:
        """See `Transport`."""
        return self._finished(argv, timeout_s, None, cwd)

    def remove(self, there: str) -> None:
        """See `Transport`."""
        done = self.run(["rm", "-rf", "--", there], 120)
        if done.code:
            raise refusal(self.name, done, f"{there} cannot be deleted there")

    def _finished(
        self, argv: Sequence[str], timeout_s: float, stdin: IO[bytes] | None, cwd: str | None = None
    ) -> CompletedCommand:
        command = " ".join(map(shlex.quote, argv))
        command = f"cd {shlex.quote(cwd)} && {command}" if cwd else command
        done = run_process([*self._ssh, command], self.name, timeout_s, stdin)
        if done.code == _SSH_FAILED:
            raise refusal(self.name, done, _LOST)
        return done


def run_process(
    argv: Sequence[str],
    name: str,
    timeout_s: float,
    stdin: IO[bytes] | None = None,
    cwd: str | None = None,
) -> CompletedCommand:
    """Run a command here; of what it prints no more than MAX_OUTPUT is taken."""
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=stdin or subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=cwd,
            )
        except OSError as error:
            raise RequestError(
                f"{argv[0]} cannot be started ({error.strerror})", "check that it is installed"
            ) from error
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(timeout_s, stop)
        timer.start()
        try:
            assert process.stdout is not None
            with process.stdout as stream:
                printed = stream.read(MAX_OUTPUT + 1)
            too_much = len(printed) > MAX_OUTPUT
            if too_much:
                process.kill()
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        if late.is_set() or too_much:
            how = (
                f"printed more than {MAX_OUTPUT >> 20} MiB"
                if too_much
                else f"took more than {timeout_s:g} s"
            )
            raise RequestError(
                f"{name}: {' '.join(argv)[-80:]} {how}",
                "give a longer --timeout, or see what it does there by hand",
            )
        said.seek(max(0, said.seek(0, io.SEEK_END) - 4000))
        return CompletedCommand(
            code, printed.decode("utf-8", "replace"), said.read().decode("utf-8", "replace")
        )


_FULL = ("has no space left", "free some there, or set TMPDIR there to a larger disk")
_CAUSES = (
    (
        "permission denied",
        "does not let this key in",
        "check the user, --identity, and authorized_keys there",
    ),
    (
        "host key verification failed",
        "is not known",
        "connect once by hand, ssh HOST, and accept its key",
    ),
    ("could not resolve", "cannot be found", "check its name"),
    ("connection refused", "refuses the connection", "check --port, and that its ssh server runs"),
    ("timed out", "does not answer", "check that it is on, and its network"),
)


def refusal(name: str, done: CompletedCommand, otherwise: str) -> RequestError:
    """For a command that failed there: what ssh or the device said, for people, and `otherwise` what could not be done."""
    said = done.stderr.lower()
    if "no space left" in said or "quota exceeded" in said:
        return RequestError(f"{name} {_FULL[0]}", _FULL[1])
    for sign, what, remedy in _CAUSES if done.code == _SSH_FAILED else ():
        if sign in said:
            return RequestError(f"{name} {what}", remedy)
    last = (done.stderr.strip().splitlines() or [f"exit code {done.code}"])[-1][:200]
    return RequestError(f"{name}: {otherwise} ({last})", "see what ssh says by hand")
