"""Settings of a training: presets, overrides, and files of settings."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tinyvit.distill.cli import main
from tinyvit.distill.commands import train
from tinyvit.distill.training.config import (
    apply_overrides,
    parse_assignment,
    read_config,
)
from tinyvit.distill.training.presets import (
    PRESETS,
    choose_preset,
    select_drop_path_rate,
    select_image_size,
)
from tinyvit.distill.training.run.folder import open_run_folder
from tinyvit.distill.training.run.toml_files import parse_toml
from tinyvit.errors import RequestError
from tinyvit.variants import VARIANTS

_TRAINING_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "training.md"


@pytest.mark.parametrize("name", PRESETS)
def test_settings_are_read_as_the_run_file_states_them(name: str, tmp_path: Path) -> None:
    config = replace(PRESETS[name], seed=7, label_weight=0.25)
    open_run_folder(tmp_path / "run", {"student": "tiny_vit_5m_224"}, config, overwrite=False)
    assert read_config(tmp_path / "run" / "run.toml") == config


def test_presets_have_the_papers_values() -> None:
    """The values are those of microsoft/Cream, TinyViT/config.py and configs/."""
    scratch, pretrain, fine, larger = (
        PRESETS[name] for name in ("scratch-1k", "pretrain-22k", "finetune-1k", "finetune-384")
    )
    assert (
        scratch.epochs,
        scratch.lr,
        scratch.weight_decay,
        scratch.warmup_epochs,
        scratch.max_grad_norm,
    ) == (300, 5e-4, 0.05, 20, 5.0)
    assert (
        scratch.augmentation.mixup,
        scratch.augmentation.cutmix,
        scratch.augmentation.erase,
    ) == (0.8, 1.0, 0.25)
    assert (pretrain.epochs, pretrain.lr, pretrain.weight_decay, pretrain.augmentation.mixup) == (
        90,
        2.5e-4,
        0.01,
        0.0,
    )
    assert (
        fine.epochs,
        fine.lr,
        fine.min_lr,
        fine.layer_decay,
        fine.weight_decay,
        fine.frozen_batchnorm,
    ) == (30, 2.5e-4, 1e-5, 0.8, 1e-8, True)
    assert (larger.lr, larger.warmup_lr, larger.min_lr, larger.layer_decay) == (
        2e-5,
        2e-8,
        2e-7,
        1.0,
    )


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("scratch-1k", (0.0, 0.1, 0.2)),
        ("pretrain-22k", (0.0, 0.0, 0.1)),
        ("finetune-1k", (0.0, 0.0, 0.1)),
        ("finetune-512", (0.0, 0.0, 0.1)),
        ("transfer", (0.0, 0.0, 0.0)),
    ],
)
def test_drop_path_rates_are_the_papers(name: str, rates: tuple[float, ...]) -> None:
    """The values are those of DROP_PATH_RATE in microsoft/Cream, TinyViT/configs/."""
    variants = [VARIANTS[f"tiny_vit_{size}_224"] for size in ("5m", "11m", "21m")]
    assert tuple(select_drop_path_rate(PRESETS[name], variant) for variant in variants) == rates
    assert select_drop_path_rate(PRESETS["finetune-384"], VARIANTS["tiny_vit_21m_384"]) == 0.1
    assert select_drop_path_rate(replace(PRESETS[name], drop_path=0.3), variants[0]) == 0.3


def test_overrides_change_single_settings() -> None:
    config = apply_overrides(
        PRESETS["transfer"],
        dict(
            map(
                parse_assignment,
                ["lr=1e-3", "epochs = 3", "augmentation.scale=[0.5, 1]", "frozen_batchnorm=true"],
            )
        ),
    )
    assert (config.lr, config.epochs, config.augmentation.scale, config.frozen_batchnorm) == (
        1e-3,
        3,
        (0.5, 1),
        True,
    )


@pytest.mark.parametrize(
    ("has_init", "has_store", "is_qat", "preset"),
    [
        (False, False, False, "scratch-1k"),
        (False, True, False, "pretrain-22k"),
        (True, False, False, "transfer"),
        (True, True, False, "finetune-logits"),
        (True, True, True, "qat"),
    ],
)
def test_the_default_preset_depends_on_the_inputs(
    has_init: bool, has_store: bool, is_qat: bool, preset: str
) -> None:
    assert choose_preset(has_init, has_store, is_qat) == preset


def test_each_of_the_papers_runs_is_one_documented_command() -> None:
    """docs/reference/training.md has the runs of TinyViT/docs/TRAINING.md in microsoft/Cream."""
    text = _TRAINING_PAGE.read_text(encoding="utf-8")
    section = text.partition("The paper's runs are one command each.")[2].partition("The default")[
        0
    ]
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    runs = []
    for command in re.findall(r"^ +tinyvit-distill train (.*)", section, re.MULTILINE):
        args = parser.parse_args(shlex.split(command))
        config = train._make_config(args)
        size = select_image_size(config.preset, args.img_size)
        runs.append((config.preset, size, args.logits is not None, args.student, args.init))
    chain = [Path("pretrained/best.safetensors"), Path("at224/best.safetensors")]
    assert runs == [
        ("scratch-1k", None, False, "tiny_vit_21m_224", None),
        ("pretrain-22k", None, True, "tiny_vit_21m_224", None),
        ("finetune-1k", None, False, None, chain[0]),
        ("finetune-384", 384, False, None, chain[1]),
        ("finetune-512", 512, False, None, Path("at384/best.safetensors")),
    ]
    assert select_image_size("finetune-384", 256) == 256


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", (0.2, 0, False, "none", 40)),
        ("--val-split 0", (0.0, 0, False, "none", 40)),
        (
            "--val-split 0.5 --patience 5 --balance --freeze backbone --epochs 60",
            (0.5, 5, True, "backbone", 60),
        ),
        ("--set patience=3 --set balance=true --freeze none", (0.2, 3, True, "none", 40)),
        ("--preset finetune-1k", (0.0, 0, False, "none", 30)),
    ],
)
def test_options_for_transfer_become_settings(
    options: str, expected: tuple[float, int, bool, str, int]
) -> None:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    args = parser.parse_args(shlex.split(f"--init demo --data images -o run {options}"))
    config = train._make_config(args)
    found = (config.val_split, config.patience, config.balance, config.freeze, config.epochs)
    assert found == expected


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("lr", "cannot be parsed"),
        ("lr=fast", "cannot be parsed"),
        ("rate=1", "no setting is called 'rate'"),
        ("augmentation.color=1", "no setting is called"),
        ("lr.x=1", "no setting is called"),
        ("epochs=1.5", "epochs is not a whole number"),
        ("epochs=0", r"epochs must be at least 1 \(it is 0\)"),
        ("augmentation.flip=3", "augmentation settings are not valid"),
        ('precision="int4"', "precision"),
        ("val_split=1", r"val_split must be at least 0 and below 1 \(it is 1\)"),
        ("patience=-1", r"patience must not be negative \(it is -1\)"),
        ("balance=1", "balance"),
        ('freeze="head"', "freeze"),
    ],
)
def test_wrong_overrides_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        apply_overrides(PRESETS["transfer"], dict([parse_assignment(assignment)]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = ",
        "[training]\nepochs = 3",
        "[training]\npreset = 'a'\nnew = 1",
        "x = " + "[" * 100_000,
        f"[training]\npreset = 'a'\nepochs = {'9' * 5000}",
        f"[training]\npreset = 'a'\nepochs = {10**400}",
    ],
    ids=["empty", "no value", "no preset", "unknown", "deep", "5000 digits", "large"],
)
def test_unusable_settings_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    if text.endswith("epochs = 3"):
        with pytest.raises(RequestError, match="has no field preset"):
            read_config(tmp_path / "run.toml")
    else:
        with pytest.raises(RequestError, match=r"cannot be used|cannot be parsed"):
            read_config(tmp_path / "run.toml")


def test_the_default_batch_in_documents_and_help_is_that_of_the_preset(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = _TRAINING_PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)`[^|]*\|[^|]*\| (\d+) \| (\d+) \|", text, re.MULTILINE)
    assert {name: (int(epochs), int(batch)) for name, epochs, batch in rows} == {
        name: (config.epochs, config.batch) for name, config in PRESETS.items()
    }
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    batches = {name: config.batch for name, config in PRESETS.items()}
    other_presets = ("pretrain-22k", "transfer", "qat")
    assert [batches.pop(name) for name in other_presets] == [4096, 64, 32]
    assert set(batches.values()) == {1024}
    help_text = " ".join(capsys.readouterr().out.split())
    assert (
        "which is 4096 for pretrain-22k, 64 for transfer, 32 for qat, and 1024 for all others"
    ) in help_text


@pytest.mark.parametrize("key", ['"\\"x"', '"\\"."', "a"])
def test_keys_of_thousands_of_parts_are_refused_at_once(key: str) -> None:
    for text in ("{} = 1", "[{}]", "a = {{{} = 1}}"):
        with pytest.raises(ValueError, match="more than"):
            parse_toml(text.format(".".join([key] * 100_000)))
