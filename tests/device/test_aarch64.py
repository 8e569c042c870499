"""The base install and .onnx artifacts are correct on an emulated 64-bit Arm device.

These tests take minutes and need package registries. They do not test speed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tests.helpers.emulated_arm import EmulatedDevice, get_output
from tests.helpers.image_files import save_crops
from tinyvit import Classifier
from tinyvit.export import ExportConfig, export
from tinyvit.quant.accuracy_budget import AccuracyBudget
from tinyvit.quant.quantizer import QuantizationConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FEATURES = {"cortex-a53": set(), "cortex-a76": {"dotprod"}, "max": {"dotprod", "i8mm"}}
"""Processor that qemu emulates -> its features for which engines have kernels."""
on_every_processor = pytest.mark.parametrize("processor", FEATURES)


@pytest.fixture(scope="module")
def artifacts(
    demo: dict[str, Path], images: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Precision -> artifact of the demo model; int8 is calibrated on crops of photographs."""
    calib_data = tmp_path_factory.mktemp("calib")
    save_crops(images, calib_data, 24)
    quantization = QuantizationConfig(
        calib_data=calib_data, budget=AccuracyBudget(max_drop=100, min_agreement=0)
    )
    output = tmp_path_factory.mktemp("int8") / "demo.int8.onnx"
    artifact = export(ExportConfig(model="demo", quantization=quantization, output_path=output))
    return {"float32": demo["onnx"], "int8": artifact.path}


def test_device_has_the_base_install(device: EmulatedDevice) -> None:
    code = (
        "import platform; from importlib import metadata;"
        " print(platform.machine(), *(d.name for d in metadata.distributions()))"
    )
    machine, *names = get_output(device.run_python("-c", code)).lower().split()
    assert machine == "aarch64"
    assert {"tinyvit-edge", "numpy", "pillow", "onnxruntime", "protobuf"} <= set(names)
    assert not {"torch", "onnx", "openvino"} & set(names)


@on_every_processor
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_artifact_passes_verification(
    device: EmulatedDevice, artifacts: dict[str, Path], precision: str, processor: str
) -> None:
    process = device.run_command(
        "tinyvit-verify", artifacts[precision], "--json", processor=processor
    )
    result = json.loads(get_output(process))
    assert result["passed"]
    engine, host = result["engine"], result["host"]
    assert (engine["engine"], engine["precision"]) == ("onnxruntime", precision)
    assert host["machine"] == "aarch64"
    known_features = ("dotprod", "i8mm", "AVX2", "VNNI")
    features = {name for name in known_features if name in host["processor"]}
    assert features == FEATURES[processor]


@on_every_processor
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("int8", 0.01)])
def test_scores_are_those_of_the_host(
    device: EmulatedDevice,
    artifacts: dict[str, Path],
    images: Path,
    precision: str,
    tolerance: float,
    processor: str,
) -> None:
    photograph = images / "coffee.jpg"
    options = ["--top-k", "10", "--json"]
    process = device.run_command(
        "tinyvit-predict", artifacts[precision], photograph, *options, processor=processor
    )
    predictions = json.loads(get_output(process))["results"][0]["predictions"]
    with Classifier(artifacts[precision], "onnxruntime", top_k=10) as classifier:
        expected = classifier.predict(photograph)
    assert predictions[0]["label"] == expected[0].label == "espresso"
    scores = {prediction["label"]: prediction["score"] for prediction in predictions}
    expected_scores = {prediction.label: prediction.score for prediction in expected}
    assert scores == pytest.approx(expected_scores, abs=tolerance)


@pytest.mark.parametrize(
    ("part", "reason"),
    [("network", "the network was changed"), ("label", "the manifest was changed")],
)
def test_changed_artifact_fails_verification(
    device: EmulatedDevice, artifacts: dict[str, Path], tmp_path: Path, part: str, reason: str
) -> None:
    content = bytearray(artifacts["int8"].read_bytes())
    if part == "network":
        content[len(content) // 2] ^= 1  # the middle of the file is weights
    else:
        content = content.replace(b"espresso", b"expresso")
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(content)
    process = device.run_command("tinyvit-verify", changed, processor="cortex-a76")
    assert process.returncode == 1, process.stdout + process.stderr
    assert process.stdout.startswith("FAIL")
    assert reason in process.stdout


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_latency_is_measured_on_the_device(
    device: EmulatedDevice, artifacts: dict[str, Path], precision: str
) -> None:
    options = ["--runs", "2", "--seconds", "1", "--cold", "0", "--json"]
    process = device.run_command(
        "tinyvit-bench", "latency", artifacts[precision], *options, processor="cortex-a76"
    )
    record = json.loads(get_output(process))
    assert record["device"]["architecture"] == "aarch64"
    (result,) = record["results"]
    assert result["sample_count"] >= 2
    artifact = result["artifact"]
    assert artifact["engine"]["engine"] == "onnxruntime"
    assert artifact["precision"] == precision
