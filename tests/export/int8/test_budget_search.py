"""int8 exports either write an artifact that runs, or refuse and leave no file.

The network is the demo model at 64 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")

from tests.helpers.exports import reuse_network, shorten_timing
from tests.helpers.golden_weights import make_golden_state
from tinyvit import Classifier
from tinyvit.errors import RequestError
from tinyvit.export import ExportConfig, ExportedArtifact, export, export_all
from tinyvit.export.command_line.json_records import make_artifact_record
from tinyvit.export.command_line.summary import format_summary
from tinyvit.export.int8 import budget_search
from tinyvit.quant.accuracy_budget import AccuracyBudget
from tinyvit.quant.quantizer import QuantizationConfig
from tinyvit.quant.recipe import read_recipe
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.verify import verify

ANY_ACCURACY = AccuracyBudget(max_drop=100, min_agreement=0)
SPOILED_UNIT = "stages.0.blocks.0.conv1"

ExportInt8 = Callable[..., ExportedArtifact]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe file that the first export writes."""
    return tmp_path_factory.mktemp("recipe") / "recipe.json"


@pytest.fixture(scope="module")
def artifacts(
    crops: Path, recipe: Path, demo_source: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ExportedArtifact]:
    """The int8 artifacts of two targets, calibrated on photographs."""
    quantization = QuantizationConfig(
        calib_data=crops, calib_count=64, recipe=recipe, budget=ANY_ACCURACY
    )
    config = ExportConfig(
        model="demo",
        targets=("onnx", "openvino"),
        img_size=64,
        windows="scaled",
        quantization=quantization,
        output_path=tmp_path_factory.mktemp("int8"),
    )
    with reuse_network(demo_source), shorten_timing():
        report = export_all(config)
    return {artifact.manifest.target: artifact for artifact in report.artifacts}


@pytest.fixture
def export_int8(crops: Path, recipe: Path, artifacts: dict[str, ExportedArtifact]) -> ExportInt8:
    """Export to a file in int8, with the recipe of `artifacts` and with other options."""

    def export_with(
        output: Path, quantization: dict[str, Any] | None = None, **options: Any
    ) -> ExportedArtifact:
        quantization_options = {
            "calib_data": crops,
            "calib_count": 64,
            "recipe": recipe,
            "budget": ANY_ACCURACY,
            **(quantization or {}),
        }
        config = ExportConfig(
            model="demo",
            img_size=64,
            windows="scaled",
            quantization=QuantizationConfig(**quantization_options),
            output_path=output,
        )
        return export(replace(config, **options))

    return export_with


@pytest.fixture
def spoiled_recipe(recipe: Path, artifacts: dict[str, ExportedArtifact], tmp_path: Path) -> Path:
    """A recipe in which the scale of one layer is far too coarse."""
    good = read_recipe(recipe)
    scales = {**good.scales, f"{SPOILED_UNIT}:in": 200 * good.scales[f"{SPOILED_UNIT}:in"]}
    replace(good, scales=scales).save(tmp_path / "spoiled.json")
    return tmp_path / "spoiled.json"


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_the_file_describes_its_quantization_and_verifies(artifacts, target, recipe):
    manifest = read_artifact(artifacts[target].path).manifest
    assert manifest is not None
    assert manifest.precision == "int8"
    quantization = manifest.quantization
    assert quantization is not None
    assert (quantization.weight_bits, quantization.required_cpu_feature) == (7, "any")
    assert (quantization.calibration_count, quantization.evaluation_count) == (53, 67)
    assert quantization.recipe_sha256 == read_recipe(recipe).sha256
    assert quantization.int8_mac_fraction is not None
    assert quantization.int8_mac_fraction > 0.85
    assert not quantization.forced
    assert verify(artifacts[target].path).passed


def test_the_file_classifies_in_int8(artifacts, images):
    with Classifier(artifacts["onnx"].path) as classifier:
        assert classifier.describe().runtime.precision == "int8"
        assert len(classifier.predict(images / "coffee.jpg")) == 5


def test_float32_is_three_times_as_large(artifacts, float32_artifacts):
    assert artifacts["onnx"].size_bytes <= 0.30 * float32_artifacts["onnx"].size_bytes


@pytest.mark.slow
def test_a_missed_budget_is_refused_with_the_measurements(
    export_int8, spoiled_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(budget_search, "MIN_INT8_SHARE", 1.0)  # ends the search after one step
    budget = AccuracyBudget(min_agreement=99)
    with pytest.raises(
        RequestError,
        match=r"misses its accuracy budget: 0 units in float32.* of 67 images get the same class",
    ) as error:
        export_int8(tmp_path / "x.onnx", {"budget": budget, "recipe": spoiled_recipe})
    assert "--force" in error.value.remedy
    assert [file.name for file in tmp_path.iterdir()] == ["spoiled.json"]


@pytest.mark.slow
def test_the_harmful_unit_returns_to_float32(export_int8, spoiled_recipe, tmp_path):
    budget = AccuracyBudget(min_agreement=95)
    artifact = export_int8(tmp_path / "x.onnx", {"budget": budget, "recipe": spoiled_recipe})
    quantization = artifact.manifest.quantization
    assert SPOILED_UNIT in quantization.float_units
    assert len(quantization.trials) > 1
    assert quantization.agreement >= 95


@pytest.mark.slow
def test_a_forced_file_is_marked(export_int8, spoiled_recipe, tmp_path):
    budget = AccuracyBudget(min_agreement=99)
    options = {"budget": budget, "recipe": spoiled_recipe, "force": True}
    assert export_int8(tmp_path / "x.onnx", options).manifest.quantization.forced


@pytest.mark.slow
def test_the_same_request_gives_the_same_bytes(export_int8, artifacts, tmp_path):
    first = artifacts["onnx"].path
    assert export_int8(tmp_path / first.name).path.read_bytes() == first.read_bytes()


@pytest.mark.slow
def test_a_missed_speedup_is_refused(export_int8, tmp_path):
    with pytest.raises(RequestError, match=r"times as fast as float32.* --min-speedup 1000"):
        export_int8(tmp_path / "x.onnx", {"min_speedup": 1000})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_eight_bit_weights_are_recorded(export_int8, tmp_path):
    artifact = export_int8(tmp_path / "x.onnx", {"cpu": "vnni", "recipe": None})
    quantization = artifact.manifest.quantization
    assert (quantization.weight_bits, quantization.required_cpu_feature) == (8, "vnni")
    with pytest.raises(RequestError, match="7"):
        export_int8(tmp_path / "y.onnx", {"cpu": "vnni"})


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino"])
@pytest.mark.parametrize(
    "options",
    [{"batch": None}, {"preprocess": "normalize"}, {"preprocess": "full"}, {"batch": 3}],
    ids=["dynamic batch", "normalize", "full", "fixed batch"],
)
def test_every_batch_and_preprocessing_works_in_int8(
    export_int8, tmp_path, images, options, target
):
    path = tmp_path / f"x{'.onnx' if target == 'onnx' else '.xml'}"
    artifact = export_int8(path, targets=(target,), **options)
    assert verify(artifact.path).passed
    with Classifier(artifact.path) as classifier:
        assert len(classifier.predict([images / "coffee.jpg", images / "cat.jpg"])) == 2


def test_a_recipe_without_images_measures_nothing(export_int8, tmp_path, monkeypatch):
    """Otherwise, an export would make synthetic images for minutes only to measure."""
    monkeypatch.setenv("TINYVIT_CACHE", str(tmp_path / "cache"))
    no_images = {"calib_data": None, "calib_count": None, "budget": AccuracyBudget()}
    artifact = export_int8(tmp_path / "x.onnx", no_images)
    quantization = artifact.manifest.quantization
    assert (quantization.evaluation_count, quantization.agreement) == (0, None)
    assert (quantization.top1, quantization.forced) == (None, False)
    assert quantization.trials[0].endswith("in int8: the accuracy was not measured")
    assert not (tmp_path / "cache").exists()
    assert verify(artifact.path).passed
    assert "int8:   the accuracy was not measured (--val-data, or" in "\n".join(
        format_summary(artifact)
    )
    assert artifact.speed is not None


@pytest.mark.slow
def test_synthetic_images_need_no_data(export_int8, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYVIT_CACHE", str(tmp_path / "cache"))
    artifact = export_int8(tmp_path / "x.onnx", {"recipe": None, "calib_data": "synthetic"})
    assert artifact.manifest.quantization.evaluation_count == 64
    assert list((tmp_path / "cache").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["tiny_vit_11m_224", "tiny_vit_21m_224"])
def test_the_larger_variants_are_exported_to_int8(variant, shared, tmp_path):
    """The weights follow a formula and are not trained, so that the best logits nearly tie.

    The logits are therefore correlated instead of counting equal classes.
    """
    from safetensors.torch import save_file

    save_file(make_golden_state(shared, variant, "timm"), tmp_path / f"{variant}.safetensors")
    photographs = shared / "data" / "imagenet-sample-250"
    config = ExportConfig(
        checkpoint=tmp_path / f"{variant}.safetensors",
        targets=("onnx", "openvino"),
        output_path=f"{tmp_path}/",
        quantization=QuantizationConfig(
            calib_data=photographs, calib_count=32, budget=ANY_ACCURACY
        ),
    )
    int8_artifacts = export_all(config).artifacts
    float32 = export(replace(config, targets=("onnx",), quantization=None))
    logits = []
    for artifact in (float32, *int8_artifacts):
        assert verify(artifact.path).passed
        with Classifier(artifact.path) as classifier:
            logits.append(classifier.logits(sorted(photographs.iterdir())[:16]))
    assert len(logits) == 3
    centered = [values - values.mean(0) for values in logits]  # the part that depends on the image
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.corrcoef(centered[first].ravel(), centered[second].ravel())[0, 1] > 0.9
    assert all(artifact.size_bytes < 0.31 * float32.size_bytes for artifact in int8_artifacts)


def test_the_recipe_of_another_checkpoint_is_refused(
    recipe, artifacts, crops, traced_demo, tmp_path
):
    other_recipe = tmp_path / "other.json"
    replace(read_recipe(recipe), checkpoint_sha256="0" * 64).save(other_recipe)
    config = ExportConfig(
        model="demo",
        quantization=QuantizationConfig(calib_data=crops, recipe=other_recipe),
        output_path=tmp_path / "x.onnx",
    )
    with pytest.raises(RequestError, match="made for another checkpoint, image size"):
        export(config)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        (QuantizationConfig(cpu="sse"), "use one of any, vnni"),
        (QuantizationConfig(calib_count=3), "--calib-count"),
        (QuantizationConfig(calib_data="nowhere"), "--calib-data nowhere does not exist"),
        (QuantizationConfig(val_data=Path("nowhere")), "--val-data nowhere does not exist"),
        (QuantizationConfig(budget=AccuracyBudget(max_drop=-1)), "0 to 100"),
        (QuantizationConfig(min_speedup=0), "min-speedup"),
    ],
)
def test_impossible_quantization_options_are_refused_at_once(quantization, message, tmp_path):
    config = ExportConfig(model="demo", quantization=quantization, output_path=tmp_path / "x.onnx")
    with pytest.raises(RequestError, match=message):
        export(config)


def test_the_record_and_the_summary_describe_the_quantization(artifacts):
    record = make_artifact_record(artifacts["openvino"])
    assert record["quantization"]["weight_bits"] == 7
    assert record["speed"]["baseline"] == "float32 in openvino"
    summary = "\n".join(format_summary(artifacts["openvino"]))
    assert "of the multiply-accumulates in integer kernels" in summary


def test_too_few_images_for_the_budget_are_named() -> None:
    assert budget_search.describe_coarse_budget(200, 0.5) == ""
    assert budget_search.describe_coarse_budget(100, 0.5) == (
        " (one of 100 images is 1.0 points, and --max-drop allows 0.5: use 200 labeled images or"
        " more, or a larger --max-drop)"
    )
    assert budget_search.describe_coarse_budget(100, 0).endswith("0: use a larger --max-drop)")
