"""The command tinyvit-bench sensitivity, and tinyvit-export --sensitivity, on exported files.

The network is the shortened demo model at 64 pixels. The scale of the input of one layer is 60
times too large.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx
import torch

from tests.helpers.demo_network import calibrate_on_noise
from tests.helpers.exports import full_demo, reuse_network
from tinyvit.bench import cli as bench_cli
from tinyvit.bench.record import Record, read_record
from tinyvit.bench.sensitivity.inputs import read_inputs
from tinyvit.bench.sensitivity.measure import measure_sensitivity
from tinyvit.export import ExportConfig, export
from tinyvit.export import cli as export_cli
from tinyvit.export.targets.onnx.target import TARGET
from tinyvit.manifest import MANIFEST_KEY
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.nn.fold import fold_model
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.quantizer import QuantizationConfig
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.sensitivity import SimulatedNetwork
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.image_input import ImageInput

SPOILED_UNIT = "stages.2.blocks.0.mlp.fc1"
IMAGE_COUNT = 8


@pytest.fixture(scope="module")
def crop_inputs(demo_source: Any, crops: Path) -> torch.Tensor:
    """Normalized crops of photographs, float32 (IMAGE_COUNT, 3, 64, 64)."""
    preprocess = demo_source.checkpoint.preprocess
    inputs = read_inputs(crops, ImageInput("host", "NCHW", preprocess, batch_size=1), IMAGE_COUNT)
    return torch.from_numpy(np.concatenate(inputs.batches))


@pytest.fixture(scope="module")
def spoiled_recipe(demo_source: Any, crop_inputs: torch.Tensor) -> Recipe:
    scales = calibrate(demo_source.folded, crop_inputs)
    key = f"{SPOILED_UNIT}:in"
    return replace(
        calibrate_on_noise(demo_source.folded),
        checkpoint_sha256=demo_source.checkpoint.sha256,
        windows="scaled",
        scales={**scales, key: 60 * scales[key]},
    )


@pytest.fixture(scope="module")
def recipe_path(spoiled_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "spoiled.json"
    spoiled_recipe.save(path)
    return path


@pytest.fixture(scope="module")
def int8_path(
    demo_source: Any, recipe_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The int8 .onnx file of the spoiled recipe."""
    config = ExportConfig(
        model="demo",
        img_size=64,
        quantization=QuantizationConfig(recipe=recipe_path),
        output_path=tmp_path_factory.mktemp("int8") / "demo.int8.onnx",
    )
    with reuse_network(demo_source):
        return export(config).path


@pytest.fixture(scope="module")
def record(
    int8_path: Path,
    float32_artifacts: dict[str, Any],
    crops: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Record:
    """The record of a measurement on the images of `crop_inputs`."""
    options = ["--data", str(crops), "--limit", str(IMAGE_COUNT)]
    folder = tmp_path_factory.mktemp("record")
    return run_sensitivity(int8_path, float32_artifacts["onnx"].path, folder, options)


def run_sensitivity(
    int8: Path, reference: Path, folder: Path, options: Sequence[str] = ()
) -> Record:
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("tinyvit.bench.commands.sensitivity.print_lines", lines.append)
        arguments = ["sensitivity", str(int8), "--reference", str(reference), "--json"]
        assert bench_cli.main([*arguments, "--threads", "1", *options]) == 0
    (folder / "record.json").write_text(lines[0])
    return read_record(folder / "record.json")


def test_the_spoiled_unit_comes_first(record: Record) -> None:
    (result,) = record.sensitivity
    network = result.network
    assert not result.is_simulated
    assert record.dataset["images"] == network.image_count == IMAGE_COUNT
    worst, *others = network.units
    assert worst.unit == SPOILED_UNIT
    assert worst.share > 0.3
    assert worst.snr_db is not None
    assert worst.snr_db < 20
    assert min(unit.snr_db for unit in others if unit.snr_db is not None) > worst.snr_db
    assert [unit.share for unit in network.units] == sorted(
        (unit.share for unit in network.units), reverse=True
    )


def test_onnxruntime_and_pytorch_agree_on_the_figures(
    record: Record, demo_source: Any, spoiled_recipe: Recipe, crop_inputs: torch.Tensor
) -> None:
    simulated = measure_sensitivity(
        SimulatedNetwork(demo_source.folded, spoiled_recipe, TARGET.scheme, crop_inputs)
    )
    measured = record.sensitivity[0].network
    assert measured.mean_square_error == pytest.approx(simulated.mean_square_error, rel=0.1)
    assert measured.units[0].share == pytest.approx(simulated.units[0].share, abs=0.05)
    measured_units = {unit.unit: unit for unit in measured.units}
    assert measured_units.keys() == {unit.unit for unit in simulated.units}
    for unit in simulated.units:
        assert measured_units[unit.unit].macs == unit.macs
        assert measured_units[unit.unit].snr_db == pytest.approx(unit.snr_db, abs=0.5)


def test_the_table_begins_with_the_spoiled_unit(
    int8_path: Path,
    float32_artifacts: dict[str, Any],
    crops: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reference = str(float32_artifacts["onnx"].path)
    arguments = ["sensitivity", str(int8_path), "--reference", reference, "--data", str(crops)]
    assert bench_cli.main([*arguments, "--limit", str(IMAGE_COUNT), "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"the first 8 of 120 images in {crops.name}; ")
    header = lines.index("| unit | share of error | SNR, dB | cosine | MACs |")
    assert lines[header + 2].startswith(f"| {SPOILED_UNIT} | ")
    assert lines[header + 5].endswith("of the error together (--json lists them)")
    assert len(lines) == header + 6


def save_as_made_from_another_checkpoint(path: Path, copy: Path) -> Path:
    manifest = read_artifact(path).manifest
    assert manifest is not None
    manifest = replace(manifest, source=replace(manifest.source, sha256="0" * 64))
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {MANIFEST_KEY: manifest.to_json()})
    onnx.save(model, copy)
    return copy


def test_files_of_other_kinds_are_refused_with_the_remedy(
    int8_path: Path,
    float32_artifacts: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    float32 = str(float32_artifacts["onnx"].path)
    other = str(save_as_made_from_another_checkpoint(Path(float32), tmp_path / "other.onnx"))
    for arguments, message in (
        ([float32, "--reference", float32], "--int8 wrote"),
        ([str(int8_path), "--reference", str(int8_path)], "is not a float32 .onnx file"),
        ([str(int8_path), "--reference", other], "was not made from the same checkpoint"),
        ([str(int8_path), "--reference", float32, "--limit", "3"], "--limit is an option of"),
        (
            [str(int8_path), "--reference", float32, "--data", "x", "--limit", "2000"],
            "--limit 2000 is more than 1024",
        ),
    ):
        assert bench_cli.main(["sensitivity", *arguments]) == 1
        assert message in capsys.readouterr().err


def test_another_format_is_refused_with_the_remedy(
    demo_source: Any, recipe_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    config = ExportConfig(
        model="demo",
        targets=("openvino",),
        img_size=64,
        quantization=QuantizationConfig(recipe=recipe_path),
        output_path=tmp_path / "demo.xml",
    )
    with reuse_network(demo_source):
        path = export(config).path
    assert bench_cli.main(["sensitivity", str(path), "--reference", "demo.onnx"]) == 1
    error = capsys.readouterr().err
    assert "single layers cannot be returned to float32" in error
    assert "--target onnx" in error
    assert "--sensitivity" in error


@pytest.mark.slow
def test_an_export_prints_and_records_the_sensitivity(
    recipe_path: Path,
    demo_source: Any,
    crops: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record_path = tmp_path / "sensitivity.json"
    arguments = ["--model", "demo", "--img-size", "64", "--windows", "scaled", "--int8"]
    arguments += ["--recipe", str(recipe_path), "--calib-data", str(crops), "--calib-count", "64"]
    arguments += ["--min-agreement", "0", "-o", str(tmp_path / "demo.onnx")]
    with reuse_network(demo_source):
        assert export_cli.main([*arguments, "--sensitivity", str(record_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = lines.index("| unit | share of error | SNR, dB | cosine | MACs |")
    assert lines[header + 2].startswith(f"| {SPOILED_UNIT} | ")
    record = read_record(record_path)
    (result,) = record.sensitivity
    assert result.is_simulated
    assert result.network.image_count == 16
    assert result.network.units[0].unit == SPOILED_UNIT
    assert record.dataset["source"] == f"16 images of {crops.name}"
    with reuse_network(demo_source):
        assert export_cli.main([*arguments, "--overwrite", "--json", "--sensitivity"]) == 0
    (artifact,) = json.loads(capsys.readouterr().out)["artifacts"]
    assert artifact["sensitivity"]["units"][0]["unit"] == SPOILED_UNIT


def test_an_existing_record_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "record.json").write_text("mine")
    arguments = ["--model", "demo", "--int8", "-o", str(tmp_path / "demo.onnx")]
    assert export_cli.main([*arguments, "--sensitivity", str(tmp_path / "record.json")]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "record.json").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_the_option_needs_int8(capsys: pytest.CaptureFixture[str]) -> None:
    assert export_cli.main(["--model", "demo", "--sensitivity"]) == 1
    assert "--sensitivity is an option of --int8" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_gives_the_same_figures_as_the_float32_file(tmp_path: Path) -> None:
    checkpoint = load_released("demo").at_size(64, "scaled")
    recipe = replace(
        calibrate_on_noise(fold_model(checkpoint.build())),
        checkpoint_sha256=checkpoint.sha256,
        windows="scaled",
    )
    recipe.save(tmp_path / "recipe.json")
    config = ExportConfig(
        model="demo", img_size=64, windows="scaled", output_path=tmp_path / "demo.onnx"
    )
    quantization = QuantizationConfig(recipe=tmp_path / "recipe.json")
    int8 = replace(config, quantization=quantization, output_path=tmp_path / "demo.int8.onnx")
    with full_demo():
        paths = [export(options).path for options in (config, int8)]
    packaged = Path(__file__).parents[2] / "src" / "tinyvit" / "assets" / "demo.safetensors"
    networks = [
        run_sensitivity(paths[1], reference, tmp_path).sensitivity[0].network
        for reference in (paths[0], packaged)
    ]
    assert networks[0] == networks[1]
