"""The device install and the .onnx files on emulated 64-bit Arm: what is right, not how fast. Takes minutes, and the package sources."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tinyvit import Classifier
from tinyvit.export import ExportConfig, export
from tinyvit.quant.accuracy_budget import AccuracyBudget
from tinyvit.quant.quantizer import QuantizationConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

HAS = {"cortex-a53": set(), "cortex-a76": {"dotprod"}, "max": {"dotprod", "i8mm"}}
on_every_processor = pytest.mark.parametrize("cpu", HAS)


@pytest.fixture(scope="module")
def files(
    demo: dict[str, Path],
    pieces: Callable[[Path, int], list[Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """The demo model at its own size by precision; int8 is calibrated on pieces of two photographs."""
    calib, folder = tmp_path_factory.mktemp("calib"), tmp_path_factory.mktemp("int8")
    pieces(calib, 24)
    asked = QuantizationConfig(
        calib_data=calib, budget=AccuracyBudget(max_drop=100, min_agreement=0)
    )
    config = ExportConfig(model="demo", quantization=asked, output=folder / "demo.int8.onnx")
    return {"float32": demo["onnx"], "int8": export(config).path}


def test_the_device_has_the_base_install(device):
    code = "import json, platform; from importlib import metadata as m; print(platform.machine(), *(d.name for d in m.distributions()))"
    machine, *names = device.python("-c", code).stdout.lower().split()
    assert machine == "aarch64"
    assert {"tinyvit-edge", "numpy", "pillow", "onnxruntime"} <= set(names)
    assert not {"torch", "onnx", "openvino"} & set(names)


@on_every_processor
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_it_verifies(device, files, precision, cpu):
    process = device.run("tinyvit-verify", files[precision], "--json", cpu=cpu)
    assert process.returncode == 0, process.stdout + process.stderr
    said = json.loads(process.stdout)
    assert said["passed"]
    assert (said["engine"]["engine"], said["engine"]["precision"]) == ("onnxruntime", precision)
    assert said["host"]["machine"] == "aarch64"
    assert {
        name for name in ("dotprod", "i8mm", "AVX2", "VNNI") if name in said["host"]["processor"]
    } == HAS[cpu]


@on_every_processor
@pytest.mark.parametrize(("precision", "apart"), [("float32", 1e-5), ("int8", 0.01)])
def test_it_answers_as_the_host_does(device, files, images, precision, apart, cpu):
    photograph = images / "coffee.jpg"
    process = device.run(
        "tinyvit-predict", files[precision], photograph, "--top-k", "10", "--json", cpu=cpu
    )
    assert process.returncode == 0, process.stdout + process.stderr
    there = json.loads(process.stdout)["results"][0]["predictions"]
    with Classifier(files[precision], "onnxruntime", top_k=10) as classifier:
        here = classifier.predict(photograph)
    assert there[0]["label"] == here[0].label == "espresso"
    scores = {one["label"]: one["score"] for one in there}
    assert scores == pytest.approx({one.label: one.score for one in here}, abs=apart)


@pytest.mark.parametrize(
    ("what", "reason"),
    [("network", "the network was changed"), ("label", "the manifest was changed")],
)
def test_it_sees_a_changed_file(device, files, tmp_path, what, reason):
    content = bytearray(files["int8"].read_bytes())
    if what == "network":
        content[len(content) // 2] ^= 1  # weights are nearly all of the file
    else:
        content = content.replace(b"espresso", b"expresso")
    (tmp_path / "changed.onnx").write_bytes(content)
    process = device.run("tinyvit-verify", tmp_path / "changed.onnx", cpu="cortex-a76")
    assert process.returncode == 1, process.stdout + process.stderr
    assert process.stdout.startswith("FAIL")
    assert reason in process.stdout


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_it_is_measured_as_a_board_is(device, files, precision):
    few = ("--runs", "2", "--seconds", "1", "--cold", "0")
    process = device.run(
        "tinyvit-bench", "latency", files[precision], *few, "--json", cpu="cortex-a76"
    )
    assert process.returncode == 0, process.stdout + process.stderr
    record = json.loads(process.stdout)
    assert record["device"]["machine"] == "aarch64"
    (one,) = record["results"]
    assert one["samples"] >= 2
    assert (one["engine"]["engine"], one["precision"]) == ("onnxruntime", precision)
