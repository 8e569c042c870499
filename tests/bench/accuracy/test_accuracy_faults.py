"""A journal survives full disks and a second process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.full_disk import fill_disk, mount_small_disk, require_one_error, run_command
from tinyvit.bench.accuracy.journal import PredictionLimits, open_journal
from tinyvit.bench.accuracy.predictions import ImagePrediction
from tinyvit.errors import RequestError
from tinyvit.files.file_locks import take_lock

COMMAND = "tinyvit.bench.cli"
DISK_BYTES = 2**20
SETTINGS = {"artifact": "a"}
LIMITS = PredictionLimits(image_count=100_000, class_count=4)
PREDICTION = ImagePrediction((3, 1), 0.5, "")


def accuracy_arguments(artifact: Path, data: Path, journal: Path) -> list[object]:
    return ["accuracy", artifact, "--data", data, "--threads", 1, "--resume", journal]


def add_predictions(path: Path, count: int) -> None:
    with open_journal(path, SETTINGS, LIMITS) as journal:
        for _ in range(count):
            journal.add(PREDICTION)


def test_a_journal_that_another_process_writes_is_refused(
    small_classifier: Path, class_folders: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    lock = take_lock(tmp_path / ".journal.lock")
    assert lock is not None
    arguments = accuracy_arguments(small_classifier, class_folders, journal)
    require_one_error(
        run_command(COMMAND, *arguments),
        f"another process is using the journal {journal}: wait until it ends, or give --resume the"
        " name of another file",
    )
    assert not journal.exists()
    lock.release()
    assert run_command(COMMAND, *arguments).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "val"]


def test_accuracy_with_a_limit_on_files(
    small_classifier: Path, class_folders: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    arguments = accuracy_arguments(small_classifier, class_folders, journal)
    process = run_command(COMMAND, *arguments, max_file_bytes=10)
    require_one_error(process, f"{journal} cannot be read or written (the disk is full)")
    assert [path.name for path in tmp_path.iterdir()] == ["val"]
    process = run_command(COMMAND, *arguments, max_file_bytes=700)
    require_one_error(process, f"{journal} cannot be read or written (the disk is full)")
    # Only the first line fits, which states the settings.
    assert list(map(type, map(json.loads, journal.read_text().splitlines()))) == [dict]
    assert journal.read_bytes().endswith(b"\n")
    assert run_command(COMMAND, *arguments).returncode == 0


def test_accuracy_continues_after_a_full_disk(
    small_classifier: Path, class_folders: Path, tmp_path: Path
) -> None:
    with mount_small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        filler = fill_disk(disk)
        arguments = accuracy_arguments(small_classifier, class_folders, disk / "journal")
        require_one_error(run_command(COMMAND, *arguments), "journal cannot be read or written")
        assert [path.name for path in disk.iterdir()] == ["filler"]
        filler.unlink()
        process = run_command(COMMAND, *arguments)
        assert process.returncode == 0, process.stderr
        assert "100.00%" in process.stdout


def test_a_line_that_does_not_fit_is_removed(tmp_path: Path) -> None:
    with mount_small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        path = disk / "journal"
        add_predictions(path, 1)
        complete = path.read_bytes()
        filler = fill_disk(disk)
        # A page of the file system has 4,096 bytes, so some of these predictions fit.
        with pytest.raises(OSError, match="No space left") as error:
            add_predictions(path, 2_000)
        assert error.value.filename == str(path)
        written = path.read_bytes()
        assert written.startswith(complete)
        assert written.endswith(b"\n")
        filler.unlink()
        with open_journal(path, SETTINGS, LIMITS) as journal:
            assert set(journal.initial_predictions) == {PREDICTION}
            assert len(journal.initial_predictions) % 64 == 1  # whole lines of 64 predictions


def test_another_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(RequestError, match="is not a journal of tinyvit-bench accuracy"),
        open_journal(tmp_path / "notes.txt", SETTINGS, LIMITS),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
