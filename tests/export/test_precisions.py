"""Half precision and int8 weights: smaller files whose products are no integers. At 96 pixels, to be quick."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")

from tinyvit import Classifier
from tinyvit.errors import RequestError
from tinyvit.export import export
from tinyvit.export.report import summary
from tinyvit.quant.accuracy_budget import AccuracyBudget
from tinyvit.quant.quantizer import QuantizationConfig
from tinyvit.runtimes.base import PRECISIONS
from tinyvit.runtimes.engines.openvino import shared_core
from tinyvit.runtimes.verify import verify

ANY = AccuracyBudget(max_drop=100, min_agreement=0)


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory):
    made, _ = export(
        "demo", target=["onnx", "openvino"], img_size=96, output=tmp_path_factory.mktemp("float32")
    )
    return {one.manifest.target: one for one in made}


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory):
    """(what was made, what was not) where all targets were asked for."""
    return export(
        "demo",
        target=["onnx", "openvino"],
        img_size=96,
        float16=True,
        output=tmp_path_factory.mktemp("float16"),
    )


@pytest.fixture(scope="module")
def photographs(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 pieces of an example photograph."""
    from PIL import Image

    folder, whole = (
        tmp_path_factory.mktemp("photographs"),
        Image.open(images / "coffee.jpg").convert("RGB"),
    )
    for i in range(80):
        whole.crop((3 * i, 2 * i, 3 * i + 120, 2 * i + 120)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def weights_only(photographs, tmp_path_factory: pytest.TempPathFactory):
    asked = QuantizationConfig(calib_data=photographs, budget=ANY, weights_only=True)
    made, _ = export(
        "demo",
        target=["onnx", "openvino"],
        img_size=96,
        int8=asked,
        output=tmp_path_factory.mktemp("weights"),
    )
    return {one.manifest.target: one for one in made}


def test_half_is_half_the_size_and_verifies(half, float32):
    (made,), _ = half
    assert made.path.name == "demo_96.float16.xml"
    assert made.manifest.precision == "float16"
    assert made.size_bytes < 0.55 * float32["openvino"].size_bytes
    assert verify(made.path).passed


def test_half_says_what_this_processor_computes_in(half, images):
    (made,), _ = half
    with Classifier(made.path) as classifier:
        assert classifier.describe()["precision"] in PRECISIONS
        assert len(classifier.predict(images / "coffee.jpg")) == 5
    assert f"computed in {made.engine['precision']}" in summary(made)
    with Classifier(made.path, precision="f32") as classifier:
        assert classifier.describe()["precision"] == "f32"


def test_a_target_that_does_not_gain_is_told(half):
    _, (refused,) = half
    assert refused.target == "onnx"
    assert "onnx is not made in half: onnxruntime" in str(refused.error)
    assert "openvino" in refused.error.remedy


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_weights_alone_are_small_and_exact(weights_only, float32, target):
    made = weights_only[target]
    assert made.manifest.precision == "int8-weights"
    assert made.size_bytes < 0.32 * float32[target].size_bytes
    assert made.manifest.parity.max_abs_diff < 1e-3, (
        "no activation was rounded: not by the engine either"
    )
    assert made.manifest.quantization.int8_macs == 0
    assert made.manifest.quantization.method == "weights only"
    assert "torchao" not in made.manifest.tools
    assert verify(made.path).passed


def test_weights_alone_run_in_the_other_engine(weights_only):
    assert verify(weights_only["onnx"].path, "openvino").passed


def test_other_tools_are_told_not_to_round_activations(weights_only):
    model = shared_core().read_model(str(weights_only["openvino"].path))
    assert (
        model.get_rt_info(["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]).astype(str) == "0"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"float16": True}, "onnx is not made in half"),
        (
            {"float16": True, "target": "openvino", "int8": QuantizationConfig()},
            "give one of --float16, --int8",
        ),
        (
            {"int8": QuantizationConfig(weights_only=True, cpu="vnni")},
            "leave out --recipe and --cpu",
        ),
        (
            {"int8": QuantizationConfig(weights_only=True, recipe=Path("r.json"))},
            "leave out --recipe and --cpu",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_once(arguments, said, tmp_path):
    with pytest.raises(RequestError, match=said):
        export("demo", **arguments, output=tmp_path)
    assert list(tmp_path.iterdir()) == []
