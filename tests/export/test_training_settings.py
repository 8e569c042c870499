"""An export of a training's checkpoint uses its preprocessing and labels, and says so."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch

from tests.helpers.exports import shorten_timing
from tinyvit import Classifier
from tinyvit.export.cli import main
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import read_artifact

NAMES = list("abcdefghijkl")
TIMM_SOURCE = "the arguments of timm's train.py in the checkpoint"


@pytest.fixture(scope="module")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as timm's train.py saves it, of a small image size so that tests are quick."""
    args = argparse.Namespace(
        model="tiny_vit_5m_224",
        img_size=64,
        input_size=None,
        crop_pct=0.8,
        interpolation="bilinear",
        mean=[0.5] * 3,
        std=[0.25] * 3,
    )
    path = tmp_path_factory.mktemp("run") / "model_best.pth.tar"
    state = load_released("demo").at_size(64, "scaled").state_dict
    class_to_idx = {name: index for index, name in enumerate(NAMES)}
    torch.save({"state_dict": state, "args": args, "class_to_idx": class_to_idx}, path)
    return path


def test_the_artifact_has_the_preprocessing_and_labels_of_the_training(
    checkpoint_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], images: Path
) -> None:
    with shorten_timing():
        assert main(["--checkpoint", str(checkpoint_file), "-o", f"{tmp_path}/"]) == 0
    output = capsys.readouterr().out
    assert "input:  resize to 80, center crop to 64, bilinear, mean 0.5/0.5/0.5" in output
    assert f"from: {TIMM_SOURCE}" in output
    assert "labels: 'a' to 'l', from: class_to_idx in the checkpoint" in output
    manifest = read_artifact(tmp_path / "model_best.onnx").manifest
    assert manifest is not None
    expected = Preprocess(64, 80, "center", "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert manifest.preprocess == expected
    assert manifest.preprocess_source == TIMM_SOURCE
    assert manifest.labels_source == "class_to_idx in the checkpoint"
    assert [label.name for label in manifest.labels] == NAMES
    with Classifier(tmp_path / "model_best.onnx") as classifier:
        logits = classifier.logits(images / "coffee.jpg")
    assert np.isfinite(logits).all()


def test_options_replace_the_preprocessing_and_labels_of_the_training(
    checkpoint_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.txt").write_text("\n".join(f"name {name}" for name in NAMES))
    options = ["--mean", "0.1,0.2,0.3", "--std", "0.5", "--crop-pct", "1", "--json"]
    labels = ["--labels", str(tmp_path / "names.txt"), "--interpolation", "lanczos"]
    arguments = ["--checkpoint", str(checkpoint_file), "-o", f"{tmp_path}/", *options, *labels]
    with shorten_timing():
        assert main(arguments) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)["artifacts"][0]
    assert record["preprocess"] == {
        "size": 64,
        "resize": 64,
        "crop": "center",
        "interpolation": "lanczos",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.5, 0.5],
    }
    assert record["preprocess_source"] == "--mean and --std and --interpolation and --crop-pct"
    assert record["labels_source"] == "--labels names.txt"
    assert any(note.startswith("different values of mean are stated: ") for note in record["notes"])
