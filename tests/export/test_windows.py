"""Exports at an image size in which the attention windows of the checkpoint do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
import torch
from PIL import Image

from tests.helpers.demo_network import load_demo
from tests.helpers.recorded_progress import RecordedProgress
from tinyvit import Classifier
from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.export import ExportConfig, export
from tinyvit.export.command_line.arguments import config_from_arguments, make_export_parser
from tinyvit.export.manifest_builder import build_manifest
from tinyvit.export.plan import ExportPlan
from tinyvit.export.source_network import load_source_network
from tinyvit.export.targets import get_target, target_names
from tinyvit.image_sizes import Windows
from tinyvit.manifest import Manifest
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.quant.accuracy_budget import AccuracyBudget
from tinyvit.quant.quantizer import QuantizationConfig
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.commands.manifest_summary import summarize_manifest
from tinyvit.runtimes.verify import verify

SIZE = 256
"""Image size in pixels, at which the windows of all stages of the demo model need padding."""

QUICK_TARGETS = ("onnx", "openvino")
"""Targets whose files take seconds to make."""

ANY_ACCURACY = AccuracyBudget(max_drop=100, min_agreement=0)


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK_TARGETS else pytest.param(name, marks=pytest.mark.slow)
        for name in target_names()
    ],
)
def test_every_target_computes_the_padded_network(name: str, images: Path, tmp_path: Path) -> None:
    target = get_target(name)
    config = ExportConfig(
        model="demo",
        targets=(name,),
        img_size=SIZE,
        windows="checkpoint",
        output_path=tmp_path / f"padded{target.suffix}",
    )
    try:
        artifact = export(config)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    manifest = read_artifact(artifact.path).manifest
    assert manifest is not None
    assert (manifest.img_size, manifest.windows) == (SIZE, "checkpoint")
    assert manifest.parity is not None
    assert manifest.parity.max_abs_diff < 1e-4
    if target.parity_method == "graph":
        return
    photograph = images / "cat.jpg"
    pixels = torch.from_numpy(manifest.preprocess(Image.open(photograph)))
    network = load_demo().at_size(SIZE, "checkpoint").build()
    with torch.inference_mode():
        expected = network(pixels[None]).numpy()
    with Classifier(artifact.path, target.reference_engine) as classifier:
        logits = classifier.logits(photograph)
    assert np.abs(logits - expected).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "name"),
    [
        *(("int8", name) for name in target_names()),
        ("int8-weights", "onnx"),
        ("int8-weights", "openvino"),
        ("float16", "openvino"),
    ],
)
def test_other_precisions_verify(precision: str, name: str, crops: Path, tmp_path: Path) -> None:
    quantization = None
    if precision != "float16":
        quantization = QuantizationConfig(
            calib_data=crops,
            calib_count=32,
            budget=ANY_ACCURACY,
            weights_only=precision == "int8-weights",
        )
    config = ExportConfig(
        model="demo",
        targets=(name,),
        img_size=96,
        quantization=quantization,
        float16=precision == "float16",
        output_path=tmp_path / f"padded{get_target(name).suffix}",
    )
    try:
        artifact = export(config)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert (artifact.manifest.windows, artifact.manifest.precision) == ("checkpoint", precision)
    if get_target(name).parity_method == "graph":
        return
    verification = verify(artifact.path, get_target(name).reference_engine)
    assert verification.passed, verification.reasons


def load_at_64(windows: Windows | None) -> tuple[Manifest, list[str]]:
    """Load the demo model at 64 pixels; return its manifest and the messages on the screen."""
    progress = RecordedProgress()
    config = ExportConfig(model="demo", img_size=64, windows=windows)
    source = load_source_network(ExportPlan(config, artifacts=(), labels=None), progress)
    return build_manifest(source.checkpoint, source.labels, 1, "host"), progress.messages


def test_the_screen_tells_which_windows_were_chosen() -> None:
    manifest, messages = load_at_64(None)
    assert manifest.windows == "checkpoint"
    assert (
        "attention windows: 7, 14, 7 tokens as in the checkpoint, with padded feature maps"
        " (timm's TinyViT does so; --windows scaled makes another network)"
    ) in messages
    assert summarize_manifest(manifest, is_unchanged=True)["windows"].startswith(
        "as in the checkpoint"
    )


def test_requested_windows_need_no_explanation() -> None:
    manifest, messages = load_at_64("scaled")
    assert manifest.windows == "scaled"
    assert (
        "attention windows: scaled to 2, 4, 2 tokens, with interpolated attention biases"
    ) in messages
    assert summarize_manifest(manifest, is_unchanged=True)["windows"].startswith("scaled")


def test_a_recipe_belongs_to_one_kind_of_windows(crops: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    sha256 = load_released("demo").sha256
    Recipe(sha256, 64, {"a:in": 1.0}, 7, (), "method", "images", 32, windows="scaled").save(path)
    quantization = QuantizationConfig(calib_data=crops, budget=ANY_ACCURACY, recipe=path)
    config = ExportConfig(
        model="demo",
        img_size=64,
        windows="checkpoint",
        quantization=quantization,
        output_path=tmp_path,
    )
    with pytest.raises(RequestError, match="image size, kind of attention windows"):
        export(config)


def test_the_command_line_has_the_option() -> None:
    parser = make_export_parser()
    assert config_from_arguments(parser.parse_args([])).windows is None
    assert config_from_arguments(parser.parse_args(["--windows", "scaled"])).windows == "scaled"
    with pytest.raises(RequestError, match="--windows half is not possible"):
        ExportConfig(windows="half").validate()  # type: ignore[arg-type]
