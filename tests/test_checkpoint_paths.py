"""Checkpoints are named after their files, their folders, or the folders of their trainings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit.checkpoint_paths import BEST_CHECKPOINT, LAST_CHECKPOINT, RUN_FILE, name_checkpoint


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A folder with the names of the files that a training writes."""
    folder = tmp_path / "flowers.v2"
    folder.mkdir()
    for name in (RUN_FILE, BEST_CHECKPOINT, LAST_CHECKPOINT, "other.safetensors"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model_best.pth.tar", "model_best"),
        ("weights.v2.safetensors", "weights.v2"),
        ("weights.v2.other", "weights.v2"),
        ("best.safetensors", "best"),  # not in the folder of a training
    ],
)
def test_a_file_has_its_name_without_suffixes(name: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert name_checkpoint(tmp_path / name) == expected


@pytest.mark.parametrize("name", [BEST_CHECKPOINT, LAST_CHECKPOINT])
def test_the_result_of_a_training_has_the_name_of_its_folder(
    name: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name_checkpoint(run_folder / name) == "flowers.v2"
    assert name_checkpoint(run_folder / "other.safetensors") == "other"
    monkeypatch.chdir(run_folder)
    assert name_checkpoint(Path(name)) == "flowers.v2"
    assert name_checkpoint(Path(".")) == "flowers.v2"
