"""Runs a command under strace, and reports its network calls and the paths that it wrote.

strace sees the system calls of all threads and child processes, so native libraries cannot hide
anything. A name lookup appears as a socket of the family AF_INET, over which the DNS is asked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

TIMEOUT_S = 900

_SYSTEM_CALLS = (
    "socket,connect,sendto,sendmsg,sendmmsg,bind,listen,"
    "open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,truncate,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir"
)
_CALL = re.compile(r"^\d+\s+(\w+)\((.*)")
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
"""Pattern of a path in the arguments; group 1 is the folder to which it is relative, if any."""
_FAILED = re.compile(r"= -1 E\w+ \(.*\)$")
_LOCAL_SOCKET_FAMILIES = ("AF_UNIX", "AF_NETLINK")
"""Families of sockets that only reach this machine: other processes, and the kernel."""
_OPENING_CALLS = ("open", "openat", "openat2")
_SYSTEM_FOLDERS = (Path("/dev"), Path("/proc"))
"""Semaphores, devices and settings of the process itself; nothing in them is a file on a disk."""

_CI_VARIABLES = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL")
"""Variables with which onnxruntime and OpenVINO send nothing, whatever this package does."""
_TINYVIT_VARIABLES = (
    "ORT_DISABLE_TELEMETRY",
    "HF_HUB_DISABLE_TELEMETRY",
    "RAY_USAGE_STATS_ENABLED",
    "MPLCONFIGDIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "TINYVIT_CACHE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
)
"""Variables that this process may have, and that the command must set by itself."""


@dataclass(frozen=True)
class Observation:
    """What a command did.

    Attributes:
        exit_code: Its exit code.
        output: Its standard output and standard error.
        network_calls: The system calls that reach beyond this machine, as strace prints them.
        written_paths: Paths that were created, changed or deleted, other than in the temporary
            folder and in `/dev` and `/proc`.
        remaining_paths: What the command left in the home folder, the temporary folder and the
            working directory, relative to the parent of the three.
    """

    exit_code: int
    output: str
    network_calls: list[str]
    written_paths: list[Path]
    remaining_paths: list[str]


def require_strace() -> None:
    """Skip the test if strace is missing, or if this machine does not allow it to trace."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("needs strace: apt-get install strace")
    if subprocess.run([program, "-f", "-o", os.devnull, "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace processes on this machine")


def observe(command: Sequence[object], folder: Path, **variables: str) -> Observation:
    """Run a command under strace with an empty home folder, and report what it did.

    Args:
        command: The program and its arguments.
        folder: An empty folder, in which the home folder, the temporary folder and the working
            directory are created.
        **variables: Environment variables for the command.
    """
    folders = {name: folder / name for name in ("home", "temporary", "working")}
    for path in folders.values():
        path.mkdir(parents=True)
    environment = _make_environment() | {
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["temporary"]),
        **variables,
    }
    trace = folder / "trace"
    strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-y", "-s", "4096", "-o", str(trace)]
    process = subprocess.run(
        [*strace, "-e", f"trace={_SYSTEM_CALLS}", "-e", "signal=none", *map(str, command)],
        cwd=folders["working"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    calls = _read_calls(trace)
    written = {
        folders["working"] / path for name, text in calls for path in _list_paths(name, text)
    }
    unchecked = (folders["temporary"], *_SYSTEM_FOLDERS)
    return Observation(
        exit_code=process.returncode,
        output=process.stdout + process.stderr,
        network_calls=[f"{name}({text}" for name, text in calls if _is_network_call(name, text)],
        written_paths=sorted(
            path for path in written if not any(path.is_relative_to(part) for part in unchecked)
        ),
        remaining_paths=sorted(
            str(path.relative_to(folder)) for root in folders.values() for path in root.rglob("*")
        ),
    )


def _make_environment() -> dict[str, str]:
    """Return the environment of this process without the variables that would hide a fault."""
    removed = _CI_VARIABLES + _TINYVIT_VARIABLES
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}  # Python would write beside the modules.


def _read_calls(trace: Path) -> list[tuple[str, str]]:
    """Return the name and the arguments of each system call of a trace that did not fail.

    A failed network call is returned too, because the data may be lost only on this machine.
    """
    calls = []
    for line in trace.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match and (_is_network_call(*match.groups()) or not _FAILED.search(line)):
            calls.append((match[1], match[2]))
    return calls


def _is_network_call(name: str, text: str) -> bool:
    """Return whether a system call makes or uses a socket that reaches beyond this machine."""
    if name == "socket":
        return not text.startswith(_LOCAL_SOCKET_FAMILIES)
    return name in ("connect", "bind", "sendto", "sendmsg", "sendmmsg") and "AF_INET" in text


def _list_paths(name: str, text: str) -> list[Path]:
    """Return the paths that a system call creates, changes or deletes."""
    paths = [Path(folder, path) for folder, path in _PATH.findall(text)]
    if name in _OPENING_CALLS:
        writes = re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", text)
        return paths[:1] if writes else []
    if name.startswith(("link", "symlink")):
        return paths[-1:]
    return paths if name.startswith(("creat", "mk", "truncate", "rename", "unlink", "rm")) else []
