"""The golden inputs of an int8 file show a kernel that saturates: in a model of it, and in both engines on an emulated processor.

The whole demo model at 224 pixels, calibrated on pieces of the two example photographs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from PIL import Image

from tinyvit.export.manifest_builder import build_manifest, make_golden_vectors
from tinyvit.export.targets.onnx.target import TARGET as ONNX
from tinyvit.export.targets.openvino.target import TARGET as OPENVINO
from tinyvit.export.tracing import trace
from tinyvit.golden import PATTERNS, make_pattern
from tinyvit.labels import numbered_labels
from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.quant.calibration import METHOD, calibrate
from tinyvit.quant.quantized_network import quantize_network, with_exact_arithmetic
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes import processor as cpu
from tinyvit.runtimes.artifact import content_sha256
from tinyvit.runtimes.verify import verify

EMULATOR = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
TARGETS = {"onnx": ONNX, "openvino": OPENVINO}
RUNS = [("onnx", "onnxruntime"), ("onnx", "openvino"), ("openvino", "openvino")]
VERIFY = """
import json, sys
from tinyvit.runtimes.verify import verify
found = verify(sys.argv[1], sys.argv[2], threads=1)
print(json.dumps([list(found.reasons), found.max_abs_diff, found.tolerance]))
"""


@pytest.fixture(scope="module")
def source():
    return load_released("demo")


@pytest.fixture(scope="module")
def folded(source):
    return fold_model(source.build())


@pytest.fixture(scope="module")
def scales(source, folded, images):
    rng = np.random.default_rng(0)
    pieces = []
    for name in ("cat.jpg", "coffee.jpg") * 8:
        whole = Image.open(images / name).convert("RGB")
        side = int(rng.integers(120, min(whole.size)))
        left, top = (int(rng.integers(0, size - side + 1)) for size in whole.size)
        pieces.append(source.preprocess(whole.crop((left, top, left + side, top + side))))
    return calibrate(folded, torch.from_numpy(np.stack(pieces)))


@pytest.fixture(scope="module")
def quantized(source, folded, scales):
    """(target, bits) -> the network, with that target's placement."""

    def make(target: str, bits: int):
        recipe = Recipe(source.sha256, 224, scales, bits, (), METHOD, "photographs", 16)
        return quantize_network(folded, recipe, TARGETS[target].scheme).eval()

    return make


def drafted(source, network, stage="host"):
    draft = build_manifest(
        source, source.labels or numbered_labels(source.num_classes), 1, stage, "int8"
    )
    return replace(draft, golden=make_golden_vectors(with_exact_arithmetic(network), draft))


def differences(network, manifest) -> list[float]:
    """By golden input, as a share of the tolerance."""
    golden, found = manifest.golden, []
    for s, wanted in zip(golden.patterns, golden.logits):
        picture = make_pattern(s, golden.height, golden.width)
        preprocess = manifest.preprocess
        x = (
            preprocess(Image.fromarray(picture))
            if manifest.stage == "full"
            else preprocess.normalize(picture)
        )
        with torch.no_grad():
            logits = network(torch.from_numpy(x)[None].to(network.head.fc.weight.dtype))
        found.append(float((logits - torch.tensor([wanted])).abs().max()) / golden.tolerance)
    return found


@pytest.mark.parametrize("stage", ["host", pytest.param("full", marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", list(TARGETS))
def test_a_saturating_kernel_is_outside_and_a_right_one_inside(
    target, stage, source, quantized, saturating
):
    network = quantized(target, 8)
    manifest = drafted(source, network, stage)
    wrong = differences(saturating(network), manifest)
    assert max(wrong) > 2
    assert (
        max(wrong[: len(PATTERNS)]) < 1
    )  # chirps alone would not do: if they did, squares could go
    assert (
        max(differences(network, manifest)) < 0.5
    )  # float32 rounds otherwise than float64, and is right


def test_seven_bits_are_right_even_there(source, quantized, saturating):
    network = quantized("onnx", 7)
    assert max(differences(saturating(network), drafted(source, network))) < 1e-4


@pytest.fixture(scope="module")
def made(source, quantized, tmp_path_factory):
    """(target, bits) -> a file; it does not say which processor it is for, so that none is refused."""
    known: dict[tuple[str, int], Path] = {}

    def make(name: str, bits: int) -> Path:
        if (name, bits) not in known:
            target, network = TARGETS[name], quantized(name, bits)
            manifest = replace(drafted(source, network), target=name)
            path = tmp_path_factory.mktemp("golden") / f"demo{target.suffix}"
            lowered = target.lower(
                trace(network), manifest.preprocess, manifest.stage, manifest.precision
            )
            lowered.save(path, manifest)
            lowered.save(path, replace(manifest, content_sha256=content_sha256(path)))
            known[name, bits] = path
        return known[name, bits]

    return make


@pytest.mark.slow
@pytest.mark.skipif(
    not (cpu.flags() or frozenset()).intersection(cpu.VNNI), reason="needs a processor with VNNI"
)
@pytest.mark.parametrize(("target", "engine"), RUNS)
def test_engines_are_well_inside_here(target, engine, made):
    pytest.importorskip(engine)
    found = verify(made(target, 8), engine)
    assert found.passed
    assert found.max_abs_diff < 0.5 * found.tolerance


@pytest.mark.slow
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-x86_64 to be a processor without VNNI")
@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize(("target", "engine"), RUNS)
def test_engines_without_vnni(target, engine, bits, made):
    pytest.importorskip(engine)
    command = [
        str(EMULATOR),
        "-cpu",
        "Haswell",
        sys.executable,
        "-c",
        VERIFY,
        str(made(target, bits)),
        engine,
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=500)
    reasons, difference, tolerance = json.loads(done.stdout.splitlines()[-1])
    assert reasons == ([] if bits == 7 else ["the logits differ from those exported"])
    assert difference < tolerance if bits == 7 else difference > 2 * tolerance
