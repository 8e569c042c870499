"""Staging folders are removed: by their own process, or by a later one if theirs was killed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import start_python, wait_for_entry
from tinyvit.files.file_io import write_atomically
from tinyvit.files.file_locks import take_lock
from tinyvit.files.staging import staging_folder, temporary_folder

STAGE_AND_WAIT = """
import sys, time
from pathlib import Path
from tinyvit.files.staging import staging_folder
with staging_folder(Path(sys.argv[1])) as folder:
    (folder / "model.onnx").write_bytes(b"complete")
    Path(sys.argv[2], "staged").touch()
    time.sleep(60)
"""

WRITE_OFTEN = """
import sys
from pathlib import Path
from tinyvit.files.file_io import write_atomically
for number in range(150):
    write_atomically(Path(sys.argv[1], f"{sys.argv[2]}-{number}"), "text")
"""


@pytest.fixture
def stage_elsewhere(tmp_path_factory: pytest.TempPathFactory):
    """A function that stages a path in another process, and returns this process."""
    processes = []

    def stage(path: Path) -> subprocess.Popen[str]:
        signals = tmp_path_factory.mktemp("signals")
        processes.append(start_python(STAGE_AND_WAIT, path, signals))
        assert wait_for_entry(signals, processes[-1])
        return processes[-1]

    yield stage
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", ["demo.onnx", "with space\nand line.xml", "x" * 230])
def test_the_folder_of_a_killed_process_is_removed(
    name: str, stage_elsewhere, tmp_path: Path
) -> None:
    process = stage_elsewhere(tmp_path / name)
    process.kill()
    process.wait()
    assert len(list(tmp_path.iterdir())) == 2  # the folder and its lock
    write_atomically(tmp_path / "other.txt", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_the_folder_of_a_living_process_stays(stage_elsewhere, tmp_path: Path) -> None:
    process = stage_elsewhere(tmp_path / "demo.onnx")
    entries = set(tmp_path.iterdir())
    write_atomically(tmp_path / "other.txt", "text")
    assert set(tmp_path.iterdir()) == entries | {tmp_path / "other.txt"}
    assert [path.read_bytes() for path in tmp_path.glob(".demo.onnx.*/model.onnx")] == [b"complete"]
    process.terminate()


def test_other_hidden_entries_stay(tmp_path: Path) -> None:
    names = [
        ".demo.onnx.0123456789",  # a folder without a lock
        ".git",
        ".cache.0123456789.lock",
        ".lock",
        ".a.0123456789.locked",
        ".b.01234567890.lock",
        ".c.012345678G.lock",
    ]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    write_atomically(tmp_path / "text.txt", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "text.txt"])
    assert len(list(tmp_path.rglob("file"))) == len(names)


def test_links_are_not_followed(tmp_path: Path) -> None:
    precious, output = tmp_path / "precious", tmp_path / "output"
    for folder in (precious, output):
        folder.mkdir()
    (precious / "file").touch()
    (precious / "lock").touch()
    (output / ".a.0123456789").symlink_to(precious)
    (output / ".a.0123456789.lock").touch()
    (output / ".b.0123456789").mkdir()
    (output / ".b.0123456789" / "link").symlink_to(precious)
    (output / ".b.0123456789.lock").touch()
    (output / ".c.0123456789.lock").symlink_to(precious / "lock")
    write_atomically(output / "text.txt", "text")
    assert sorted(path.name for path in precious.iterdir()) == ["file", "lock"]
    assert sorted(path.name for path in output.iterdir()) == [
        ".a.0123456789",
        ".c.0123456789.lock",
        "text.txt",
    ]


def test_a_lock_that_is_just_tested_delays_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may hold the new lock for a moment, to see whether it is abandoned."""
    from tinyvit.files import staging

    monkeypatch.setattr(staging.secrets, "token_hex", lambda byte_count: "0123456789")
    lock = take_lock(tmp_path / ".a.0123456789.lock")
    assert lock is not None
    monkeypatch.setattr(staging.time, "sleep", lambda seconds: lock.release())
    with staging_folder(tmp_path / "a") as folder:
        assert folder == tmp_path / ".a.0123456789"
        assert (tmp_path / ".a.0123456789.lock").is_file()
    assert list(tmp_path.iterdir()) == []


def test_many_processes_write_into_one_folder(tmp_path: Path) -> None:
    processes = [start_python(WRITE_OFTEN, tmp_path, number) for number in range(4)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{process}-{number}" for process in range(4) for number in range(150)
    )


def test_temporary_folders_of_killed_processes_are_removed(
    stage_elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    process = stage_elsewhere(tmp_path / "tinyvit")
    process.kill()
    process.wait()
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            folder.name,
            f"{folder.name}.lock",
        ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the permissions of Windows differ")
def test_a_folder_that_cannot_be_listed_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinyvit.files import staging

    def refuse(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(staging.os, "listdir", refuse)
    write_atomically(tmp_path / "text.txt", "text")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


USE_TEMPORARY_FOLDERS = """
import os, sys, time
from pathlib import Path
from tinyvit.bench.devices.transport import LocalTransport
from tinyvit.cli import run_guarded

def command():
    LocalTransport().make_folder(is_kept=False)
    os.makedirs(os.environ["MPLCONFIGDIR"])
    Path(os.environ["MPLCONFIGDIR"], "fontlist.json").touch()
    Path(sys.argv[1], "ready").touch()
    time.sleep(60)

run_guarded(command)
"""


def test_a_later_command_removes_the_temporary_folders_of_a_killed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, signals = tmp_path / "temporary", tmp_path / "signals"
    temporary.mkdir()
    signals.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    process = start_python(USE_TEMPORARY_FOLDERS, signals)
    assert wait_for_entry(signals, process)
    process.kill()
    process.wait()
    assert len(list(temporary.glob("*/matplotlib/fontlist.json"))) == 1
    later = start_python("from tinyvit.cli import run_guarded; run_guarded(lambda: 0)")
    assert later.communicate()[1] == ""
    assert list(temporary.iterdir()) == []


def test_only_staging_makes_temporary_folders() -> None:
    """The module tempfile makes folders that remain if the process is killed."""
    root = Path(__file__).parents[2]
    kept_on_request = root / "bench" / "devices" / "transport.py"
    folders = ("src/tinyvit", "bench", "distill", "export", "quant", "runtimes")
    sources = {source for folder in folders for source in (root / folder).rglob("*.py")}
    users = {
        source
        for source in sources
        if re.search(r"TemporaryDirectory|mkdtemp|NamedTemporaryFile|mkstemp", source.read_text())
    }
    assert users == {kept_on_request}
