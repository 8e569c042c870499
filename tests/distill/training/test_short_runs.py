"""The warm-up of a short run is shortened, unless the user has chosen it, and the run says so."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tinyvit.distill.commands import train
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.presets import PRESETS, describe_scaled_warmup, scale_warmup
from tinyvit.distill.training.run.comparison import find_differences

RUN_TOML = """\
[run]
[training]
preset = "scratch-1k"
patience = 0
epochs = {epochs}
warmup_epochs = {warmup}
"""


def make_config(*arguments: str) -> TrainingConfig:
    """Return the settings that the options of the command train give."""
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return train._make_config(parser.parse_args(["--data", "d", "-o", "o", *arguments]))


@pytest.mark.parametrize(
    ("preset", "epochs", "warmup"),
    [
        ("scratch-1k", 300, 20),
        ("scratch-1k", 80, 20),
        ("scratch-1k", 79, 5.2667),
        ("scratch-1k", 3, 0.2),
        ("finetune-1k", 3, 0.5),
        ("transfer", 20, 2),
        ("transfer", 3, 0.15),
        ("qat", 1, 0.1),
    ],
)
def test_the_warmup_takes_the_share_of_the_preset_in_short_runs(
    preset: str, epochs: int, warmup: float
) -> None:
    config = make_config("--preset", preset, "--epochs", str(epochs))
    assert (config.epochs, config.warmup_epochs) == (epochs, warmup)


def test_a_chosen_warmup_is_kept(tmp_path: Path) -> None:
    options = ("--preset", "scratch-1k", "--epochs", "3")
    assert make_config(*options, "--set", "warmup_epochs=2").warmup_epochs == 2
    file = tmp_path / "run.toml"
    file.write_text('[training]\npreset = "scratch-1k"\nepochs = 3\nwarmup_epochs = 2.5\n')
    assert make_config("--config", str(file)).warmup_epochs == 2.5


def test_the_run_says_that_its_warmup_is_shorter() -> None:
    short = scale_warmup(replace(PRESETS["finetune-1k"], epochs=3))
    assert describe_scaled_warmup(short) == [
        "the learning rate rises during the first 0.5 epochs, instead of the 5 of 30 epochs of the"
        " preset, because the run is short (--set warmup_epochs=N changes that)"
    ]
    assert describe_scaled_warmup(PRESETS["finetune-1k"]) == []
    assert describe_scaled_warmup(replace(short, warmup_epochs=1.0)) == []


def test_a_short_run_continues_with_the_warmup_of_a_longer_one(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(RUN_TOML.format(epochs=3, warmup=0.2))
    assert find_differences(file, RUN_TOML.format(epochs=300, warmup=20.0)) == []
    assert find_differences(file, RUN_TOML.format(epochs=3, warmup=20.0)) == [
        "training.warmup_epochs"
    ]
