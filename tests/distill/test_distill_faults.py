"""Stores and training runs survive full disks, killed processes and a second process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.distill_data import TEACHER
from tests.helpers.full_disk import fill_disk, mount_small_disk, require_one_error, run_command
from tests.helpers.processes import start_python
from tinyvit.distill.logits import convert
from tinyvit.distill.logits.convert import convert_store
from tinyvit.distill.logits.save import save_logits
from tinyvit.distill.logits.store import Store
from tinyvit.distill.logits.teacher_predictions import LogitsRequest
from tinyvit.distill.training.presets import get_preset
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.train import train_student
from tinyvit.errors import RequestError
from tinyvit.files.file_locks import take_lock

COMMAND = "tinyvit.distill.cli"
DISK_BYTES = 256 * 2**20


def save_arguments(image_folder: Path, output: Path) -> list[object]:
    """Return the arguments that make the store of the fixture `store`, with one epoch."""
    options = ["--epochs", 1, "--top-k", 5, "--img-size", 32, "--batch", 5]
    precision = ["--precision", "float32"]
    data = ["--data", image_folder, "--teacher", TEACHER]
    return ["save-logits", *data, *options, *precision, "-o", output]


def train_arguments(image_folder: Path, output: Path) -> list[object]:
    """Return the arguments of a run of one epoch of three steps."""
    network = ["--student", "tiny_vit_5m_224", "--img-size", 32, "--epochs", 1, "--batch", 4]
    options = ["--set", "warmup_epochs=0", "--workers", 0]
    return ["train", "--data", image_folder, *network, *options, "-o", output]


def test_a_store_that_another_process_fills_is_refused(image_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "store"
    output.mkdir()
    lock = take_lock(output / ".lock")
    assert lock is not None
    request = LogitsRequest(
        data=image_folder, teachers=(TEACHER,), epochs=1, output=output, top_k=5, size=32
    )
    with pytest.raises(RequestError) as error:
        save_logits(request)
    assert str(error.value) == (
        f"another process is using the store {output}: wait until it ends, or use -o with another"
        " folder"
    )
    lock.release()
    assert save_logits(request).epochs == 1
    assert sorted(path.name for path in output.iterdir()) == ["epoch-0000.bin", "store.json"]


@pytest.mark.slow
def test_two_processes_that_fill_one_store_do_not_damage_it(
    image_folder: Path, store: Store, tmp_path: Path
) -> None:
    output = tmp_path / "store"
    code = f"import sys; from {COMMAND} import main; sys.exit(main(sys.argv[1:]))"
    arguments = save_arguments(image_folder, output)
    processes = [start_python(code, *arguments) for _ in range(3)]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert 0 in codes
    for exit_code, text in zip(codes, errors):
        if exit_code:
            assert f"error: another process is using the store {output}: wait" in text
    assert (output / "epoch-0000.bin").read_bytes() == store.epoch_path(0).read_bytes()


def test_a_store_whose_first_writer_was_killed_is_begun_again(
    image_folder: Path, tmp_path: Path
) -> None:
    """The writer was killed while it wrote the header."""
    output = tmp_path / "store"
    (output / ".store.json.0123456789").mkdir(parents=True)
    (output / ".store.json.0123456789" / "store.json").write_text("{")
    for name in (".store.json.0123456789.lock", ".lock"):
        (output / name).touch()
    request = LogitsRequest(
        data=image_folder, teachers=(TEACHER,), epochs=1, output=output, top_k=5, size=32
    )
    assert save_logits(request).epochs == 1
    assert sorted(path.name for path in output.iterdir()) == ["epoch-0000.bin", "store.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")
@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_training_and_its_workers_is_one_line(
    image_folder: Path, tmp_path: Path, stop_signal: signal.Signals
) -> None:
    """A terminal and `timeout` send a signal to the workers too."""
    arguments = train_arguments(image_folder, tmp_path / "run")
    arguments[arguments.index("--workers") + 1] = 2
    arguments[arguments.index("--epochs") + 1] = 1000
    command = [sys.executable, "-m", COMMAND, *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("  epoch 1 of 1000, steps: "):
            os.killpg(process.pid, stop_signal)
            break
    rest = process.stderr.read()
    assert process.wait(60) == {signal.SIGTERM: 143, signal.SIGINT: 1}[stop_signal], rest
    assert "  starting at step 0 of 3000\n" in lines
    word = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}[stop_signal]
    last_lines = [line for line in rest.splitlines() if not line.startswith("  epoch ")]
    assert len(last_lines) == 1, rest
    assert last_lines[0].startswith(
        (f"{word}: no step was saved in ", f"{word}: run the same command again to resume ")
    )


@pytest.mark.parametrize("max_file_bytes", [10, 70_000])
def test_save_logits_with_a_limit_on_files(
    max_file_bytes: int, image_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "store"
    arguments = [*save_arguments(image_folder, output), "--views", 256]
    process = run_command(COMMAND, *arguments, max_file_bytes=max_file_bytes)
    file = {10: "store.json", 70_000: "epoch-0000.part"}[max_file_bytes]
    require_one_error(process, f"{file} cannot be read or written (the disk is full): free space")
    if max_file_bytes == 10:
        assert not output.exists()
    else:
        assert sorted(path.name for path in output.iterdir()) == ["epoch-0000.part", "store.json"]


def test_save_logits_continues_after_a_full_disk(
    image_folder: Path, store: Store, tmp_path: Path
) -> None:
    with mount_small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        filler = fill_disk(disk)
        arguments = save_arguments(image_folder, disk / "store")
        process = run_command(COMMAND, *arguments)
        require_one_error(process, "store.json cannot be read or written (the disk is full)")
        assert [path.name for path in disk.iterdir()] == ["filler"]
        filler.unlink()
        filler = fill_disk(disk, free_bytes=128 * 1024)
        (disk / "store").mkdir()
        (disk / "store" / "store.json").write_bytes(
            store.folder.joinpath("store.json").read_bytes()
        )
        filler.unlink()
        filler = fill_disk(disk)
        process = run_command(COMMAND, *arguments)
        require_one_error(process, "epoch-0000.part cannot be read or written (the disk is full)")
        filler.unlink()
        process = run_command(COMMAND, *arguments)
        assert process.returncode == 0, process.stderr
        assert (disk / "store" / "epoch-0000.bin").read_bytes() == (
            store.epoch_path(0).read_bytes()
        )


def test_a_conversion_that_fails_leaves_nothing(
    image_folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = convert_store(store.folder, image_folder, "paper", tmp_path / "paper")
    assert paths == [tmp_path / "paper" / f"logits_top5_epoch{epoch}" for epoch in (0, 1)]

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert.StoreWriter, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        convert_store(tmp_path / "paper", image_folder, "store", tmp_path / "back")
    assert [path.name for path in tmp_path.iterdir()] == ["paper"]
    monkeypatch.undo()
    paths = convert_store(tmp_path / "paper", image_folder, "store", tmp_path / "back")
    assert paths == [tmp_path / "back" / f"epoch-000{epoch}.bin" for epoch in (0, 1)]
    assert paths[1].read_bytes() == store.epoch_path(1).read_bytes()


def test_a_run_folder_that_another_process_uses_is_refused(
    image_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    output.mkdir()
    lock = take_lock(output / ".lock")
    assert lock is not None
    config = replace(get_preset("scratch-1k"), epochs=1, batch=4)
    request = TrainingRequest(image_folder, output, config, student="tiny_vit_5m_224", img_size=32)
    with pytest.raises(RequestError) as error:
        train_student(request)
    assert str(error.value) == (
        f"another process is using the run folder {output}: wait until it ends, or use -o with"
        " another folder"
    )
    lock.release()
    assert list(output.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("max_file_bytes", "file"),
    [(10, "run.toml"), (1_000_000, "last.safetensors")],
)
def test_train_with_a_limit_on_files(
    max_file_bytes: int, file: str, image_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    arguments = train_arguments(image_folder, output)
    process = run_command(COMMAND, *arguments, max_file_bytes=max_file_bytes)
    require_one_error(process, f"{file} cannot be read or written (the disk is full): free space")
    if file == "run.toml":
        assert not output.exists()
    else:
        assert sorted(path.name for path in output.iterdir()) == ["run.toml", "tensorboard"]


RECORD_STEPS = """
import resource, sys
from pathlib import Path
from tinyvit.cli import run_guarded
from tinyvit.distill.training.run.history import TensorBoardLog

def record_steps():
    log = TensorBoardLog(Path(sys.argv[1]), first_step=1)
    try:
        for step in range(1, 100_000):
            log.add_step(step, loss=1.0, rate=1.0)
    finally:
        log.close()

resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))
sys.exit(run_guarded(record_steps))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_an_event_file_that_cannot_grow_is_one_error(tmp_path: Path) -> None:
    """The thread of TensorBoard, which writes the file, prints nothing."""
    pytest.importorskip("tensorboard")
    process = start_python(RECORD_STEPS, tmp_path / "tensorboard")
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 1
    assert errors == (
        f"error: {tmp_path / 'tensorboard'} cannot be read or written (the disk is full): free"
        " space there, or give another path\n"
    )


@pytest.mark.slow
def test_train_continues_after_a_full_disk(image_folder: Path, tmp_path: Path) -> None:
    with mount_small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        # Room for the two checkpoints of 20 MB, but not for the state, which is larger.
        filler = fill_disk(disk, free_bytes=60_000_000)
        arguments = train_arguments(image_folder, disk / "run")
        process = run_command(COMMAND, *arguments)
        require_one_error(process, "cannot be read or written (the disk is full)")
        assert not [path.name for path in (disk / "run").iterdir() if path.name.startswith(".")]
        filler.unlink()
        process = run_command(COMMAND, *arguments)
        assert process.returncode == 0, process.stderr
        again = run_command(COMMAND, *train_arguments(image_folder, tmp_path / "run"))
        assert again.returncode == 0, again.stderr
        assert (disk / "run" / "best.safetensors").read_bytes() == (
            tmp_path / "run" / "best.safetensors"
        ).read_bytes()
