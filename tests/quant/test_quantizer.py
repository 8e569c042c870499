"""What int8 needs before a target comes into it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tinyvit.nn.hub import load_released
from tinyvit.quant.quantizer import PROBE, QuantizationConfig, prepare_quantization


def test_a_recipe_and_labeled_pictures_need_no_calibration_images(
    small, recipe, images: Path, tmp_path: Path, monkeypatch
):
    """Synthetic ones take minutes: they are made only when damage has to be ranked."""
    monkeypatch.setenv("TINYVIT_CACHE", str(tmp_path / "cache"))
    source = load_released("demo").at_size(64)
    assert source.labels is not None
    (tmp_path / "val" / "n07920052").mkdir(parents=True)
    shutil.copy(images / "coffee.jpg", tmp_path / "val" / "n07920052")
    replace(recipe, checkpoint_sha256=source.sha256, weight_bits=7).save(tmp_path / "recipe.json")
    asked = QuantizationConfig(recipe=tmp_path / "recipe.json", val_data=tmp_path / "val")
    told = []
    prepared = prepare_quantization(
        asked, source, source.labels, source.build(), small, told.append
    )
    pixels, classes = next(prepared.images())
    assert (pixels.shape, classes.tolist()) == ((1, 64, 64, 3), [9])
    assert not (tmp_path / "cache").exists()
    assert prepared.probe().shape == (PROBE, 3, 64, 64)
    assert (tmp_path / "cache").exists()
    assert [line for line in told if "%" in line] == [
        f"synthetic images: {percent}%" for percent in (25, 50, 75)
    ]


def test_validation_images_that_cannot_be_read_are_told_once(
    small, recipe, images: Path, tmp_path: Path
):
    source = load_released("demo").at_size(64)
    assert source.labels is not None
    (tmp_path / "val" / "n07920052").mkdir(parents=True)
    for i in range(39):
        shutil.copy(images / "coffee.jpg", tmp_path / "val" / "n07920052" / f"{i}.jpg")
    (tmp_path / "val" / "n07920052" / "x.jpg").write_bytes(b"no picture")
    replace(recipe, checkpoint_sha256=source.sha256, weight_bits=7).save(tmp_path / "recipe.json")
    told = []
    asked = QuantizationConfig(recipe=tmp_path / "recipe.json", val_data=tmp_path / "val")
    prepared = prepare_quantization(
        asked, source, source.labels, source.build(), small, told.append
    )
    assert [sum(len(pixels) for pixels, _ in prepared.images()) for _ in range(2)] == [39, 39]
    assert told[0].startswith("taking the quantization from")
    assert told[1:] == ["1 of 40 images to validate on cannot be read and do not count"]
