"""One process holds a lock, others wait or are refused, and a dead process holds nothing."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers.processes import start_python, wait_for_entry
from tinyvit.errors import RequestError
from tinyvit.files import file_locks
from tinyvit.files.file_locks import hold_lock, take_lock

HOLD_LOCK = """
import sys, time
from pathlib import Path
from tinyvit.files.file_locks import hold_lock
with hold_lock(Path(sys.argv[1]), "the store x", "use another"):
    Path(sys.argv[2], "held").touch()
    time.sleep(float(sys.argv[3]))
"""

FORK_WHILE_HELD = """
import os, sys, time
from pathlib import Path
from tinyvit.files.file_locks import take_lock
lock = take_lock(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    lock.release()  # has no effect in the child
    Path(sys.argv[2], "held").touch()
    time.sleep(float(sys.argv[3]))
    os._exit(0)
time.sleep(float(sys.argv[3]))
"""

CODES = [
    HOLD_LOCK,
    pytest.param(
        FORK_WHILE_HELD,
        marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    ),
]


@pytest.fixture
def signal_folder(tmp_path: Path) -> Path:
    """An empty folder in which the other process makes a file when it holds the lock."""
    folder = tmp_path / "signals"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("code", CODES, ids=["alone", "with a forked child"])
def test_a_lock_excludes_others_until_its_process_is_killed(
    code: str, tmp_path: Path, signal_folder: Path
) -> None:
    path = tmp_path / "new" / ".lock"
    path.parent.mkdir()
    process = start_python(code, path, signal_folder, 30)
    assert wait_for_entry(signal_folder, process)
    try:
        with (
            pytest.raises(RequestError) as error,
            hold_lock(path, "the store logits", "use -o with another folder"),
        ):
            pass
        assert str(error.value) == (
            "another process is using the store logits: wait until it ends, or use -o with another"
            " folder"
        )
        assert path.is_file()
    finally:
        process.kill()
        process.wait()
    assert path.is_file()  # remains, but nobody holds it
    with hold_lock(path, "the store logits", "use -o with another folder"):
        assert path.is_file()
    assert list(path.parent.iterdir()) == []


def test_a_process_waits_for_another(tmp_path: Path, signal_folder: Path) -> None:
    path = tmp_path / ".lock"
    process = start_python(HOLD_LOCK, path, signal_folder, 0.5)
    assert wait_for_entry(signal_folder, process)
    with hold_lock(path, "the cache folder", "use another", max_wait_s=60):
        assert process.wait(timeout=60) == 0
    assert not path.exists()


def test_the_wait_is_limited(tmp_path: Path) -> None:
    lock = take_lock(tmp_path / ".lock")
    assert lock is not None
    start_s = time.monotonic()
    with (
        pytest.raises(RequestError, match="another process is using it"),
        hold_lock(tmp_path / ".lock", "it", "use another", max_wait_s=0.3),
    ):
        pass
    assert time.monotonic() - start_s >= 0.3
    lock.release()


def test_two_parts_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    first = take_lock(path)
    assert first is not None
    assert first.excludes_others
    assert take_lock(path) is None
    first.release()
    first.release()
    assert not path.exists()
    second = take_lock(path)
    assert second is not None
    second.release()


def test_folders_made_for_a_lock_are_removed_unless_something_was_written(tmp_path: Path) -> None:
    with hold_lock(tmp_path / "a" / "b" / ".lock", "b", "use another"):
        pass
    assert not (tmp_path / "a").exists()
    with hold_lock(tmp_path / "a" / "b" / ".lock", "b", "use another"):
        (tmp_path / "a" / "b" / "file").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_a_removed_file_is_not_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder may remove the file after another process has opened it."""
    path, attempts = tmp_path / ".lock", []
    lock_descriptor = file_locks._lock_descriptor

    def remove_before_locking(descriptor: int) -> None:
        if not attempts:
            path.unlink()
        attempts.append(descriptor)
        lock_descriptor(descriptor)

    monkeypatch.setattr(file_locks, "_lock_descriptor", remove_before_locking)
    lock = take_lock(path)
    assert lock is not None
    assert len(attempts) == 2
    monkeypatch.undo()
    assert take_lock(path) is None
    lock.release()


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "folder").mkdir()
    names = ["link", "folder"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        names.append("pipe")
    for name in names:
        with pytest.raises(OSError, match="not a regular file"):
            take_lock(tmp_path / name)
    assert (tmp_path / "target").read_text() == "kept"


def test_a_file_system_without_locks_excludes_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(file_locks, "_lock_descriptor", refuse)
    locks = [take_lock(tmp_path / ".lock") for _ in range(2)]
    for lock in locks:
        assert lock is not None
        assert not lock.excludes_others
        lock.release()
    assert list(tmp_path.iterdir()) == []


def test_windows_locks_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part of the module for Windows, with a module `msvcrt` that records its calls."""
    calls = []

    def locking(descriptor: int, mode: int, byte_count: int) -> None:
        if len(calls) == 1:
            raise PermissionError(13, "Permission denied")
        calls.append((mode, byte_count))

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=locking))
    source = file_locks.__file__
    spec = importlib.util.spec_from_file_location("file_locks_of_windows", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lock = module.take_lock(tmp_path / ".lock")
    assert module.take_lock(tmp_path / ".lock") is None
    assert calls == [(2, 1)]
    lock.release()
    assert list(tmp_path.iterdir()) == []
