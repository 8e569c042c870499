"""float16 and int8 weights make files smaller, which then compute in floating point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")

from tests.helpers.exports import full_demo, reuse_network, shorten_timing
from tinyvit import Classifier
from tinyvit.bench.latency.interleave import Timing
from tinyvit.errors import RequestError
from tinyvit.export import ExportConfig, ExportedArtifact, ExportReport, export, export_all
from tinyvit.export.checks.baseline_timing import SpeedComparison
from tinyvit.export.command_line.summary import format_summary
from tinyvit.export.int8.search_outcome import BudgetTrial, SearchOutcome
from tinyvit.metrics import PairedComparison
from tinyvit.quant.accuracy_budget import AccuracyBudget
from tinyvit.quant.quantizer import QuantizationConfig
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes.base import PRECISIONS
from tinyvit.runtimes.engines.openvino import shared_core
from tinyvit.runtimes.verify import verify

ANY_ACCURACY = AccuracyBudget(max_drop=100, min_agreement=0)


@pytest.fixture(scope="module")
def float16_report(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The report of an export in float16 for OpenVINO, which gains from it, and ONNX.

    Only the whole network has logits so large that rounding to bfloat16 is within the tolerance.
    """
    config = ExportConfig(
        model="demo",
        targets=("onnx", "openvino"),
        img_size=64,
        windows="scaled",
        float16=True,
        output_path=tmp_path_factory.mktemp("float16"),
    )
    with full_demo(), shorten_timing():
        return export_all(config)


@pytest.fixture(scope="module")
def full_float32_bytes(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The size of the artifact for OpenVINO in float32."""
    folder = tmp_path_factory.mktemp("full_float32")
    config = ExportConfig(
        model="demo",
        targets=("openvino",),
        img_size=64,
        windows="scaled",
        output_path=folder / "a.xml",
    )
    with full_demo(), shorten_timing():
        return export(config).size_bytes


@pytest.fixture(scope="module")
def float16_artifact(float16_report: ExportReport) -> ExportedArtifact:
    """The OpenVINO artifact in float16."""
    (artifact,) = float16_report.artifacts
    return artifact


@pytest.fixture(scope="module")
def weights_only_artifacts(
    demo_source: Any, crops: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ExportedArtifact]:
    """Artifacts whose weights alone are int8, by target."""
    config = ExportConfig(
        model="demo",
        targets=("onnx", "openvino"),
        img_size=64,
        quantization=QuantizationConfig(calib_data=crops, budget=ANY_ACCURACY, weights_only=True),
        output_path=tmp_path_factory.mktemp("weights"),
    )
    with reuse_network(demo_source), shorten_timing():
        report = export_all(config)
    return {artifact.manifest.target: artifact for artifact in report.artifacts}


def test_float16_is_half_the_size_and_verifies(float16_artifact, full_float32_bytes):
    assert float16_artifact.path.name == "demo_64.float16.xml"
    assert float16_artifact.manifest.precision == "float16"
    assert float16_artifact.size_bytes < 0.55 * full_float32_bytes
    assert verify(float16_artifact.path).passed


def test_the_precision_of_the_arithmetic_is_reported(float16_artifact, images):
    with Classifier(float16_artifact.path) as classifier:
        assert classifier.describe().runtime.precision in PRECISIONS
        assert len(classifier.predict(images / "coffee.jpg")) == 5
    assert f"computed in {float16_artifact.engine.precision}" in "\n".join(
        format_summary(float16_artifact)
    )
    with Classifier(float16_artifact.path, precision="float32") as classifier:
        assert classifier.describe().runtime.precision == "float32"


@pytest.mark.parametrize(
    ("latency_ms", "baseline_ms", "text"),
    [
        (5.0, 10.0, "2.0 times as fast as eager torch"),
        (10.0, 9.7, "1.0 times as fast as eager torch"),
        (14.0, 10.0, "1.4 times slower than eager torch"),
    ],
)
def test_a_slower_artifact_is_called_slower(float16_artifact, latency_ms, baseline_ms, text):
    speed = SpeedComparison(Timing(((latency_ms,),)), Timing(((baseline_ms,),)), "eager torch")
    assert f", {text} (" in "\n".join(format_summary(replace(float16_artifact, speed=speed)))


@pytest.mark.parametrize(("val_data", "is_synthetic"), [(None, True), (Path("val"), False)])
def test_the_summary_says_that_images_were_synthetic(float16_artifact, val_data, is_synthetic):
    recipe = Recipe("checkpoint", 64, {"a:in": 1.0}, 7, (), "method", "images", 32)
    trials = (BudgetTrial((), 1.0, PairedComparison(32, 100.0)),)
    outcome = SearchOutcome(recipe, trials)
    entry = outcome.make_manifest_entry(QuantizationConfig(val_data=val_data), "a processor")
    assert entry.has_synthetic_evaluation is is_synthetic
    manifest = replace(float16_artifact.manifest, quantization=entry)
    artifact = replace(float16_artifact, manifest=manifest, search=outcome)
    (line,) = [line for line in format_summary(artifact) if line.startswith("  int8:   100.0% of")]
    assert is_synthetic == line.endswith(
        "; these images are synthetic (made from the network itself), so only --val-data shows how"
        " much accuracy int8 costs"
    )


def test_the_summary_states_the_parity_with_the_model(float16_artifact):
    difference = float16_artifact.manifest.parity.max_abs_diff
    assert (
        f"  parity: the file's logits differ by at most {difference:.1e} from those of the"
        " checkpoint's network in PyTorch"
    ) in format_summary(float16_artifact)


def test_the_number_of_timed_runs_is_reported(float16_artifact):
    timing = Timing(((5.0, 6.0),) * 12)
    speed = SpeedComparison(timing, timing, "eager torch")
    summary = "\n".join(format_summary(replace(float16_artifact, speed=speed)))
    assert "; medians of 24 alternating runs each, on one thread)" in summary


def test_the_ratio_is_that_of_the_rounds_and_says_so(weights_only_artifacts):
    artifact = Timing(((4.0,), (1.0,), (9.0,)))  # the ratios of the rounds are 2, 0.2 and 0.9
    baseline = Timing(((2.0,), (5.0,), (10.0,)))
    speed = SpeedComparison(artifact, baseline, "float32")
    summary = "\n".join(format_summary(replace(weights_only_artifacts["onnx"], speed=speed)))
    assert (
        " takes 0.90 times as long as float32, by the median of the ratios of 3 rounds (4.0 and 5.0"
        " ms; medians of 3 alternating runs each, on one thread; "
    ) in summary


def test_no_advice_is_given_beside_other_programs(weights_only_artifacts):
    int8 = replace(weights_only_artifacts["onnx"].manifest, precision="int8")
    artifact = replace(weights_only_artifacts["onnx"], manifest=int8)
    warning = "other processes used 145% of a core during the measurement: stop them"
    speed = SpeedComparison(Timing(((11.0,),)), Timing(((10.0,),)), "float32")
    quiet = "\n".join(format_summary(replace(artifact, speed=speed)))
    disturbed = "\n".join(
        format_summary(replace(artifact, speed=replace(speed, disturbances=(warning,))))
    )
    assert "int8 gains little on this processor: use float32 here" in quiet
    assert "int8 gains little" not in disturbed
    assert "; not reliable, because other processes used 145% of a core during the" in disturbed


def test_a_target_that_does_not_gain_from_float16_is_skipped(float16_report):
    (failure,) = float16_report.failures
    assert (failure.target, failure.is_skipped) == ("onnx", True)
    assert "onnx artifacts are not made in float16: onnxruntime" in str(failure.error)
    assert "openvino" in failure.error.remedy


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_int8_weights_are_small_and_lose_nothing_more(
    weights_only_artifacts, float32_artifacts, target
):
    artifact = weights_only_artifacts[target]
    assert artifact.manifest.precision == "int8-weights"
    assert artifact.size_bytes < 0.32 * float32_artifacts[target].size_bytes
    assert artifact.manifest.parity.max_abs_diff < 1e-3, "an activation was rounded"
    assert artifact.manifest.quantization.int8_mac_fraction == 0
    assert artifact.manifest.quantization.method == "weights only"
    assert "torchao" not in artifact.manifest.tools
    assert verify(artifact.path).passed


def test_int8_weights_in_onnx_run_in_openvino(weights_only_artifacts):
    assert verify(weights_only_artifacts["onnx"].path, "openvino").passed


def test_the_openvino_file_forbids_the_rounding_of_activations(weights_only_artifacts):
    model = shared_core().read_model(str(weights_only_artifacts["openvino"].path))
    group_size = model.get_rt_info(["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    assert group_size.astype(str) == "0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"float16": True}, "onnx artifacts are not made in float16"),
        (
            {"float16": True, "targets": ("openvino",), "quantization": QuantizationConfig()},
            "give one of --float16, --int8",
        ),
        (
            {"quantization": QuantizationConfig(weights_only=True, cpu="vnni")},
            "leave out --recipe and --cpu",
        ),
        (
            {"quantization": QuantizationConfig(weights_only=True, recipe=Path("r.json"))},
            "leave out --recipe and --cpu",
        ),
    ],
)
def test_impossible_precisions_are_refused_at_once(options, message, tmp_path):
    with pytest.raises(RequestError, match=message):
        export(ExportConfig(model="demo", **options, output_path=tmp_path))
    assert list(tmp_path.iterdir()) == []
