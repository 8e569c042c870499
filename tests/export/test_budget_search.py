"""The int8 road whole: from photographs to files that run, or to a refusal that leaves nothing. At 64 pixels, to be quick."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")

from tinyvit import Classifier
from tinyvit.errors import RequestError
from tinyvit.export import export
from tinyvit.quant.accuracy_budget import AccuracyBudget
from tinyvit.quant.quantizer import QuantizationConfig
from tinyvit.quant.recipe import read_recipe
from tinyvit.runtimes.artifact import open_artifact
from tinyvit.runtimes.verify import verify

ANY = AccuracyBudget(max_drop=100, min_agreement=0)
SPOILT = "stages.0.blocks.1.conv1"


@pytest.fixture(scope="module")
def photographs(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pieces of the two example photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name in ("cat.jpg", "coffee.jpg"):
        whole = Image.open(images / name).convert("RGB")
        for i in range(60):
            side = int(rng.integers(80, min(whole.size)))
            left, top = (int(rng.integers(0, size - side + 1)) for size in whole.size)
            whole.crop((left, top, left + side, top + side)).resize((96, 96)).save(
                folder / f"{name}{i}.png"
            )
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipe") / "recipe.json"


@pytest.fixture(scope="module")
def made(photographs: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory):
    asked = QuantizationConfig(calib_data=photographs, calib_count=64, recipe=recipe, budget=ANY)
    done, _ = export(
        "demo",
        target=["onnx", "openvino"],
        img_size=64,
        int8=asked,
        output=tmp_path_factory.mktemp("int8"),
    )
    return {one.manifest.target: one for one in done}


@pytest.fixture
def again(photographs: Path, recipe: Path, made):
    """The same request with some of it changed; the recipe is there already."""

    def call(output: Path, budget: AccuracyBudget = ANY, **changes):
        options = {
            name: changes.pop(name)
            for name in ("min_speedup", "cpu", "force", "recipe", "calib_data")
            if name in changes
        }
        asked = QuantizationConfig(
            **{"calib_data": photographs, "calib_count": 64, "recipe": recipe, **options},
            budget=budget,
        )
        return export(
            "demo", **{"target": "onnx", "img_size": 64, **changes}, int8=asked, output=output
        )[0][0]

    return call


@pytest.fixture
def spoilt(recipe: Path, made, tmp_path: Path) -> Path:
    """A recipe in which one layer is far too coarse."""
    good = read_recipe(recipe)
    scales = {**good.scales, f"{SPOILT}:in": 200 * good.scales[f"{SPOILT}:in"]}
    replace(good, scales=scales).save(tmp_path / "spoilt.json")
    return tmp_path / "spoilt.json"


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_the_file_says_how_it_came_about_and_verifies(made, target, recipe):
    manifest = open_artifact(made[target].path).manifest
    assert manifest is not None
    said = manifest.quantization
    assert said is not None
    assert (manifest.precision, said.weight_bits, said.cpu, said.data_count, said.images) == (
        "int8",
        7,
        "any",
        53,
        67,
    )
    assert said.recipe == read_recipe(recipe).sha256
    assert said.int8_macs is not None
    assert said.int8_macs > 0.85
    assert not said.forced
    assert verify(made[target].path).passed


def test_it_classifies_and_says_int8(made, images):
    with Classifier(made["onnx"].path) as classifier:
        assert classifier.describe()["precision"] == "int8"
        assert len(classifier.predict(images / "coffee.jpg")) == 5


def test_float32_is_three_times_as_large(made, tmp_path):
    float32, _ = export("demo", img_size=64, output=tmp_path / "float32.onnx")
    assert made["onnx"].size_bytes <= 0.30 * float32[0].size_bytes


@pytest.mark.slow
def test_over_budget_is_refused_with_what_was_measured(again, spoilt, tmp_path, monkeypatch):
    from tinyvit.export import budget_search as int8

    monkeypatch.setattr(int8, "LEAST_INT8", 1.0)  # one step of the search is enough here
    with pytest.raises(
        RequestError, match=r"misses its budget: 0 units in float32.* of 67 images classified"
    ) as caught:
        again(tmp_path / "x.onnx", AccuracyBudget(min_agreement=99), recipe=spoilt)
    assert "--force" in caught.value.remedy
    assert [file.name for file in tmp_path.iterdir()] == ["spoilt.json"]


@pytest.mark.slow
def test_the_unit_that_hurts_goes_back_to_float32(again, spoilt, tmp_path):
    said = again(
        tmp_path / "x.onnx", AccuracyBudget(min_agreement=95), recipe=spoilt
    ).manifest.quantization
    assert SPOILT in said.float_units
    assert len(said.trials) > 1
    assert said.agreement >= 95


@pytest.mark.slow
def test_a_forced_file_is_marked(again, spoilt, tmp_path):
    assert again(
        tmp_path / "x.onnx", AccuracyBudget(min_agreement=99), recipe=spoilt, force=True
    ).manifest.quantization.forced


@pytest.mark.slow
def test_the_same_request_gives_the_same_bytes(again, made, tmp_path):
    assert (
        again(tmp_path / made["onnx"].path.name).path.read_bytes() == made["onnx"].path.read_bytes()
    )


@pytest.mark.slow
def test_speed_can_be_a_condition(again, tmp_path):
    with pytest.raises(RequestError, match="times as fast as float32"):
        again(tmp_path / "x.onnx", min_speedup=1000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_eight_bits_are_asked_for_and_written_down(again, tmp_path):
    said = again(tmp_path / "x.onnx", cpu="vnni", recipe=None).manifest.quantization
    assert (said.weight_bits, said.cpu) == (8, "vnni")
    with pytest.raises(RequestError, match="weights of 7 bits"):
        again(tmp_path / "y.onnx", cpu="vnni")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino"])
@pytest.mark.parametrize(
    "changes",
    [{"dynamic_batch": True}, {"preprocess": "normalize"}, {"preprocess": "full"}, {"batch": 3}],
)
def test_with_every_kind_of_input(again, tmp_path, images, changes, target):
    made = again(tmp_path / f"x{'.onnx' if target == 'onnx' else '.xml'}", target=target, **changes)
    assert verify(made.path).passed
    with Classifier(made.path) as classifier:
        assert len(classifier.predict([images / "coffee.jpg", images / "cat.jpg"])) == 2


@pytest.mark.slow
def test_synthetic_images_need_no_data(again, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYVIT_CACHE", str(tmp_path / "cache"))
    made = again(tmp_path / "x.onnx", recipe=None, calib_data="synthetic")
    assert made.manifest.quantization.images == 64
    assert list((tmp_path / "cache").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["tiny_vit_11m_224", "tiny_vit_21m_224"])
def test_the_larger_variants_quantize_run_and_verify(variant, shared, golden_state, tmp_path):
    """With weights made by a formula: nothing is trained, so logits lie too close together for a count of equal answers."""
    from safetensors.torch import save_file

    save_file(golden_state(variant, "timm"), tmp_path / f"{variant}.safetensors")
    photographs = shared / "data" / "imagenet-sample-250"
    asked = QuantizationConfig(calib_data=photographs, calib_count=32, budget=ANY)
    source = {"checkpoint": tmp_path / f"{variant}.safetensors", "output": tmp_path}
    int8, _ = export(**source, target=["onnx", "openvino"], int8=asked)
    float32, _ = export(**source, target="onnx")
    logits = []
    for one in [*float32, *int8]:
        assert verify(one.path).passed
        with Classifier(one.path) as classifier:
            logits.append(classifier.logits(sorted(photographs.iterdir())[:16]))
    assert len(logits) == 3
    varying = [each - each.mean(0) for each in logits]  # what depends on the picture
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.corrcoef(varying[first].ravel(), varying[second].ravel())[0, 1] > 0.9
    assert all(one.size_bytes < 0.31 * float32[0].size_bytes for one in int8)


def test_another_checkpoints_recipe_is_refused(recipe, made, photographs, tmp_path):
    with pytest.raises(RequestError, match="of another checkpoint or image size"):
        export(
            "demo",
            img_size=96,
            int8=QuantizationConfig(calib_data=photographs, recipe=recipe),
            output=tmp_path / "x.onnx",
        )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (QuantizationConfig(cpu="sse"), "use one of any, vnni"),
        (QuantizationConfig(calib_count=3), "--calib-count of 32"),
        (QuantizationConfig(calib_data="nowhere"), "--calib-data nowhere does not exist"),
        (QuantizationConfig(val_data=Path("nowhere")), "--val-data nowhere does not exist"),
        (QuantizationConfig(budget=AccuracyBudget(max_drop=-1)), "0 to 100"),
        (QuantizationConfig(min_speedup=0), "min-speedup"),
    ],
)
def test_what_cannot_be_is_refused_at_once(asked, said, tmp_path):
    with pytest.raises(RequestError, match=said):
        export("demo", int8=asked, output=tmp_path / "x.onnx")


def test_its_options_need_int8(tmp_path):
    command = [
        sys.executable,
        "-m",
        "tinyvit.export.cli",
        "--model",
        "demo",
        "--max-drop",
        "1",
        "-o",
        str(tmp_path / "x.onnx"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "--max-drop is an option of --int8" in done.stderr


def test_the_record_is_json(made):
    from tinyvit.export.report import record, summary

    said = json.loads(json.dumps(record(made["openvino"])))
    assert said["quantization"]["weight_bits"] == 7
    assert said["baseline"] == "float32 in openvino"
    assert "of the multiply-accumulates in integer kernels" in summary(made["openvino"])
