"""Loads one hostile file in a child process with limits, and judges what happened.

The child is forked from a server process that has imported the engines already, so a child takes
tens of milliseconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import stat
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.helpers.hostile_text import has_control_characters
from tests.hostile.hostile_files import GIB, HostileFile, Loader
from tinyvit.errors import TinyViTError

_PRELOADED = ("tests.hostile.preloaded",)
_WALL_SECONDS_PER_CPU_SECOND = 5
"""Two campaigns and other programs may share a processor."""
_MORE_ADDRESS_SPACE = 8 * GIB
"""Engines reserve more address space than they use. Beyond this, an allocation fails."""
_KILLED_AFTER_SECONDS = 5
_UNKNOWN_END = "exit code 255"
"""What `multiprocessing` reports if the server process could not tell how the child ended. Such a
file is loaded once more."""


class Outcome(Enum):
    """What a loader did with a file."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """The result of loading one file.

    Attributes:
        outcome: What the loader did.
        reason: The message of a refusal, or why it counts as a failure; empty if accepted.
        seconds: Duration, in seconds.
        memory_bytes: Growth of the resident memory; None if the process was killed.
    """

    outcome: Outcome
    reason: str
    seconds: float
    memory_bytes: int | None


@dataclass(frozen=True)
class _Folders:
    """The folders of one trial.

    Attributes:
        hostile: Contains the hostile file, and nothing else.
        current: The current folder of the child.
        temporary: Its folder for temporary files.
        cache: Its cache.
        report: Contains what the child prints, and its result.
    """

    hostile: Path
    current: Path
    temporary: Path
    cache: Path
    report: Path

    @classmethod
    def create(cls, root: Path) -> _Folders:
        """Create the folders in an existing folder."""
        folders = cls(*(root / name for name in cls.__dataclass_fields__))
        for name in cls.__dataclass_fields__:
            getattr(folders, name).mkdir()
        return folders


def try_file(loader: Loader, file: HostileFile) -> Trial:
    """Load a hostile file in a child process.

    Args:
        loader: What loads it.
        file: The file.

    Returns:
        What happened. It is a failure if the process crashes, exceeds its memory or time, raises
        another exception than `TinyViTError`, prints control characters, changes or creates files
        outside of its current folder, or accepts a file that it must refuse.
    """
    root = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        folders = _Folders.create(root)
        path = file.write(folders.hostile)
        before = _list_states(folders.hostile)
        start_s = time.monotonic()
        end = _run_child(loader, path, folders)
        if end == _UNKNOWN_END:
            end = _run_child(loader, path, folders)
        seconds = time.monotonic() - start_s
        trial = _judge(loader, folders, end, seconds)
        if trial.outcome is not Outcome.FAILED:
            changes = _find_changes(folders, before)
            if changes:
                return Trial(Outcome.FAILED, changes, seconds, trial.memory_bytes)
        return trial
    finally:
        _make_removable(root)
        shutil.rmtree(root, ignore_errors=True)


def _run_child(loader: Loader, path: Path, folders: _Folders) -> str:
    """Run the child; return why it ended early, or an empty text."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    process = context.Process(target=_load_in_child, args=(loader, path, folders))
    process.start()
    process.join(loader.cpu_seconds * _WALL_SECONDS_PER_CPU_SECOND)
    if process.is_alive():
        process.kill()
        process.join()
        return "it did not end"
    if process.exitcode == -24:  # SIGXCPU
        return f"it took more than {loader.cpu_seconds} s of CPU time"
    if process.exitcode and process.exitcode < 0:
        return f"signal {-process.exitcode} ended the process"
    return f"exit code {process.exitcode}" if process.exitcode else ""


def _load_in_child(loader: Loader, path: Path, folders: _Folders) -> None:
    """Load a file and write the result, in the child."""
    for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        descriptor = os.open(folders.report / name, os.O_CREAT | os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
    os.chdir(folders.current)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folders.temporary)
    os.environ["TINYVIT_CACHE"] = str(folders.cache)
    os.environ["HOME"] = str(folders.cache)
    pages = Path("/proc/self/statm").read_text().split()
    address_space, resident = (int(count) * resource.getpagesize() for count in pages[:2])
    most = address_space + loader.memory_bytes + _MORE_ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    spent = int(time.process_time()) + loader.cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (spent, spent + _KILLED_AFTER_SECONDS))
    result = {"outcome": Outcome.ACCEPTED.value, "reason": ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            loader.load(path)
    except TinyViTError as error:
        result = {"outcome": Outcome.REFUSED.value, "reason": str(error)}
        if not error.cause or not error.remedy or has_control_characters(str(error)):
            result = {"outcome": Outcome.FAILED.value, "reason": f"a bad message: {error!r}"}
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        reason = f"{type(error).__name__} at {place}: {str(error)[:300]!a}"
        (folders.report / "traceback").write_text(traceback.format_exc(), errors="replace")
        result = {"outcome": Outcome.FAILED.value, "reason": reason}
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own_kib, children_kib = (usage.ru_maxrss for usage in usages)
    grown = max(own_kib * 1024 - resident, children_kib * 1024)
    text = json.dumps({**result, "memory_bytes": grown})
    (folders.report / "result").write_text(text)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _judge(loader: Loader, folders: _Folders, end: str, seconds: float) -> Trial:
    """Judge what the child reported and printed."""
    if end:
        return Trial(Outcome.FAILED, end, seconds, None)
    result = json.loads((folders.report / "result").read_text())
    outcome, reason, memory = Outcome(result["outcome"]), result["reason"], result["memory_bytes"]
    problem = ""
    printed = "".join(
        (folders.report / name).read_text("utf-8", "replace") for name in ("stdout", "stderr")
    )
    if outcome is Outcome.FAILED:
        problem = reason
    elif memory > loader.memory_bytes:
        problem = f"{memory / GIB:.1f} GiB of memory were used ({reason or 'accepted'})"
    elif has_control_characters(printed.replace("\t", "")):
        problem = f"control characters were printed: {printed[:200]!a}"
    elif outcome is Outcome.ACCEPTED and loader.must_refuse:
        problem = "it was accepted"
    if problem:
        return Trial(Outcome.FAILED, problem, seconds, memory)
    return Trial(outcome, reason, seconds, memory)


def _list_states(folder: Path) -> list[tuple[str, int, int]]:
    """List the paths in a folder with their modes and their sizes (0 for folders)."""
    states = []
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        states.append((str(path.relative_to(folder)), status.st_mode, size))
    return states


def _find_changes(folders: _Folders, before: list[tuple[str, int, int]]) -> str:
    """Return what was changed or left behind, as a clause, or an empty text."""
    if _list_states(folders.hostile) != before:
        return "the folder of the hostile file was changed"
    left = [path.name for path in folders.temporary.iterdir()]
    return f"temporary files were left: {left[:3]}" if left else ""


def _make_removable(root: Path) -> None:
    """Allow the removal of folders that a hostile file has made read-only."""
    for path in root.rglob("*"):
        if stat.S_ISDIR(path.lstat().st_mode):
            path.chmod(0o700)
