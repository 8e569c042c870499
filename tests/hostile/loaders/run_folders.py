"""Hostile folders of training runs: run.toml, and state.pt with the history of the run."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.commands import run_command
from tests.hostile.crafting import EXTREME_VALUES, craft_special_files
from tests.hostile.hostile_files import HostileFile, Loader, make_file
from tinyvit.cli import run_guarded
from tinyvit.distill.training.config import TrainingConfig, read_config

_CONFIG = TrainingConfig("paper")
_DESCRIPTION = {"student": "tiny_vit_5m_224", "data": "photos"}
_SUMMARY = {"loss": 1.5, "learning_rate": 0.1, "top1": 50.0, "seconds": 9.0}
_PROGRESS = {"step": 3, "loss_sum": 1.5, "best_top1": 50.0, "seconds": 2.0, "history": [_SUMMARY]}


def make_samples(folder: Path) -> Sequence[Path]:
    """Make the settings and the state of a run."""
    pytest.importorskip("torch", reason="trains")
    pytest.importorskip("tomli_w", reason="writes the settings")
    from tinyvit.distill.training.run_folder import RUN_FILE, STATE_FILE, open_run_folder

    open_run_folder(folder / "run", _DESCRIPTION, _CONFIG, overwrite=False)
    (folder / "state").mkdir()
    (folder / "state" / STATE_FILE).write_bytes(_make_state(_PROGRESS))
    return [folder / "run" / RUN_FILE, folder / "state" / STATE_FILE]


def _make_state(progress: Any) -> bytes:
    import torch

    content = io.BytesIO()
    torch.save({"progress": progress, "layer": torch.nn.Linear(2, 2).state_dict()}, content)
    return content.getvalue()


def resume(path: Path) -> None:
    """Read settings or a state, as a run that is resumed, and draw the history."""
    if path.suffix == ".toml":
        folder = Path("run")
        folder.mkdir()
        (folder / path.name).symlink_to(path)
        run_command(_run_guarded, ["open", folder])
        run_command(_run_guarded, ["read", path])
    else:
        run_command(_run_guarded, ["state", path.parent])


def _run_guarded(arguments: Sequence[str]) -> int:
    """Do what tinyvit-distill train does with a path, with the error messages of a command."""
    import torch

    from tinyvit.distill.training import run_folder
    from tinyvit.distill.training.history import draw_history

    action, path = arguments

    def act() -> int:
        if action == "open":
            run_folder.open_run_folder(Path(path), _DESCRIPTION, _CONFIG, overwrite=False)
        elif action == "read":
            read_config(Path(path))
        else:
            state = run_folder.load_state(Path(path), {"layer": torch.nn.Linear(2, 2)}, "cpu")
            draw_history(state.history, Path("history.png"))
        return 0

    return run_guarded(act)


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield settings and states with extreme values."""
    yield from craft_special_files("run.toml")
    yield from craft_special_files("state.pt")
    training = "\n".join(f"{k} = {v!r}" for k, v in asdict(_CONFIG).items() if k != "augmentation")
    values = (
        "nan",
        "inf",
        "-inf",
        "1e308",
        "-1",
        "0",
        "9" * 300,
        "true",
        '""',
        "[]",
        "{}",
        "1979-05-27",
    )
    values += (
        '"' + "x" * 100_000 + '"',
        "[" * 1000 + "]" * 1000,
        "{a={b={c=1}}}",
        "07:32:00",
        "[[]]",
    )
    for key in (*asdict(_CONFIG), "unknown", "'\x1b'", HOSTILE_TEXT.split("\n")[0]):
        value = generator.choice(values)
        lines = [line for line in training.splitlines() if not line.startswith(f"{key} =")]
        text = "[training]\n" + "\n".join([*lines, f"{key} = {value}"])
        data = text.encode("utf-8", "surrogatepass")
        yield make_file("run.toml", f"{key!a} is {value:.40}", data)
    for table in ("training", "run"):
        for value in values:
            yield make_file("run.toml", f"{table} is {value:.40}", f"{table} = {value}".encode())
    tables = "".join(f"[training.{'a.' * depth}b]\n" for depth in range(1, 300))
    yield make_file("run.toml", "deep tables", tables.encode())
    yield from _craft_states(generator)


def _craft_states(generator: random.Random) -> Iterator[HostileFile]:
    """Yield states with other types and with packed zeros."""
    for key in _PROGRESS:
        for value in generator.sample(EXTREME_VALUES, 8):
            yield _write_state(f"{key} is {value!a:.40}", {**_PROGRESS, key: value})
    for key in _SUMMARY:
        for value in generator.sample(EXTREME_VALUES, 4):
            history = [{**_SUMMARY, key: value}]
            yield _write_state(f"{key} is {value!a:.40}", {**_PROGRESS, "history": history})
    for count in (0, 1000, 10_000):
        yield _write_state(f"{count} epochs", {**_PROGRESS, "history": [_SUMMARY] * count})
    for exponent in (28, 31):
        yield HostileFile(f"2^{exponent} packed zeros", _PackedZeros(2**exponent))


def _write_state(description: str, progress: Any) -> HostileFile:
    def write(folder: Path) -> Path:
        (folder / "state.pt").write_bytes(_make_state(progress))
        return folder / "state.pt"

    return HostileFile(description, write)


class _PackedZeros:
    """Writes a state whose entries are packed, with one entry of zeros."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes

    def __call__(self, folder: Path) -> Path:
        path = folder / "state.pt"
        with (
            zipfile.ZipFile(io.BytesIO(_make_state(_PROGRESS))) as source,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        ):
            for entry in source.infolist():
                archive.writestr(entry.filename, source.read(entry))
            root = source.namelist()[0].partition("/")[0]
            with archive.open(f"{root}/data/99", "w", force_zip64=True) as file:
                for _ in range(self._size_bytes // 2**24):
                    file.write(bytes(2**24))
        return path


LOADERS = (Loader("training: resumed runs", resume, make_samples, craft),)
