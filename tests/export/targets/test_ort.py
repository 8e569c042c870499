"""onnxruntime's mobile format: the same network as the ONNX file, smaller to open, with what a reduced build needs beside it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch

from tinyvit.bench.kernel_profile import profile_kernels
from tinyvit.export.manifest_builder import build_manifest
from tinyvit.export.targets.onnx.target import TARGET as ONNX
from tinyvit.export.targets.ort.target import TARGET, OrtModel
from tinyvit.export.tracing import trace
from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.quantized_network import quantize_network, with_exact_arithmetic
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes.artifact import Artifact, detect_format, open_artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines.onnxruntime import ENGINE

SIZE = 64
SOURCE = load_released("demo").at_size(SIZE)


def manifest(precision: Any, stage: Any = "host", batch: int | None = 1) -> Any:
    return dataclasses.replace(
        build_manifest(SOURCE, SOURCE.labels, batch, stage, precision), target="ort"
    )


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    folded = fold_model(SOURCE.build())
    noise = torch.randn(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    recipe = Recipe("abc", SIZE, calibrate(folded, noise), 7, (), "", "", 8)
    return {"float32": folded, "int8": quantize_network(folded, recipe, TARGET.placement)}


@pytest.fixture(scope="module")
def files(networks: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("ort")
    for name, network in networks.items():
        path = folder / f"{name}.ort"
        assert TARGET.lower(trace(network), SOURCE.preprocess, "host").save(
            path, manifest(name)
        ) == [folder / f"{name}.ort.config", path]
    return {name: folder / f"{name}.ort" for name in networks}


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("int8", 0.03)])
def test_the_function_is_the_same(
    files: Any, networks: Any, precision: str, tolerance: float
) -> None:
    with (
        ENGINE.open(open_artifact(files[precision]), RuntimeOptions(threads=1)) as runtime,
        torch.no_grad(),
    ):
        for seed in range(3):
            want = with_exact_arithmetic(networks[precision])(
                torch.from_numpy(picture(seed)).double()
            ).numpy()
            assert np.abs(runtime.run(picture(seed)) - want).max() < tolerance * np.abs(want).max()


def test_as_much_is_in_integers_as_in_the_onnx_file(
    files: Any, networks: Any, tmp_path: Path
) -> None:
    ONNX.lower(trace(networks["int8"]), SOURCE.preprocess, "host").save(
        tmp_path / "x.onnx", manifest("int8")
    )
    ours, theirs = profile_kernels(files["int8"]), profile_kernels(tmp_path / "x.onnx")
    assert ours.int8_macs == theirs.int8_macs
    assert ours.float_macs == theirs.float_macs


def test_biases_are_spread_and_beside_integers_halved(files: Any) -> None:
    kinds = {
        name: {kernel.name: kernel.nodes for kernel in profile_kernels(path).kernels}
        for name, path in files.items()
    }
    assert all("Gather" not in found for found in kinds.values())
    assert "Cast" not in kinds["float32"]
    assert kinds["int8"]["Cast"] == 10, "one a block"


def test_what_a_reduced_build_needs_is_what_runs(files: Any) -> None:
    for name, path in files.items():
        text = path.with_name(f"{path.name}.config").read_text(encoding="utf-8")
        assert "#" not in text, "paths of the machine that exported"
        listed = {line.split(";")[2] for line in text.splitlines()}
        for kernel in profile_kernels(path).kernels:
            plain = kernel.name.removesuffix("Nchwc")
            assert any(plain in operators for operators in listed), (name, kernel.name)
    assert "QLinearConv" in files["int8"].with_name("int8.ort.config").read_text(encoding="utf-8")


def test_it_is_known_by_its_content(files: Any, tmp_path: Path) -> None:
    renamed = tmp_path / "network.onnx"
    renamed.write_bytes(files["float32"].read_bytes())
    assert detect_format(renamed).name == "ort"
    with ENGINE.open(Artifact(renamed, None), RuntimeOptions(threads=1)) as runtime:
        assert runtime.run(picture()).shape == (1, 10)


@pytest.mark.parametrize("stage", ["normalize", "full"])
def test_preprocessing_inside(networks: Any, stage: Any, tmp_path: Path) -> None:
    path, beside = tmp_path / "demo.ort", tmp_path / "demo.onnx"
    for target, file in ((TARGET, path), (ONNX, beside)):
        target.lower(trace(networks["float32"]), SOURCE.preprocess, stage).save(
            file, manifest("float32", stage)
        )
    size = (90, 120) if stage == "full" else (SIZE, SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    ours, theirs = (
        ENGINE.open(open_artifact(file), RuntimeOptions(threads=1)).run(pixels)
        for file in (path, beside)
    )
    assert np.abs(ours - theirs).max() < 1e-4


def test_an_open_batch(networks: Any, tmp_path: Path) -> None:
    lowered = TARGET.lower(trace(networks["int8"], batch=None), SOURCE.preprocess, "host")
    lowered.save(tmp_path / "demo.ort", manifest("int8", batch=None))
    with ENGINE.open(open_artifact(tmp_path / "demo.ort"), RuntimeOptions(threads=1)) as runtime:
        pictures = np.concatenate([picture(seed) for seed in range(3)])
        assert np.abs(runtime.run(pictures)[1:2] - runtime.run(picture(1))).max() < 1e-4


def test_the_manifest_changes_nothing_else(files: Any, tmp_path: Path) -> None:
    data = files["float32"].read_bytes()
    model = OrtModel(data[: data.index(b"PK\x03\x04")], "")
    model.save(tmp_path / "again.ort", manifest("float32"))
    assert (tmp_path / "again.ort").read_bytes() == data


_DAMAGE = """
import sys, numpy as np, pathlib
from tinyvit.errors import TinyViTError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines.onnxruntime import ENGINE
path = pathlib.Path(sys.argv[1])
data, rng = path.read_bytes(), np.random.default_rng(0)
for trial in range(150):
    bad = bytearray(data)
    # the tables are at both ends, weights between
    for at in rng.integers(0, 150_000, 6):
        bad[at if trial % 2 else len(bad) - 1 - at] = rng.integers(0, 256)
    path.write_bytes(bad)
    try:
        with ENGINE.open(Artifact(path, None), RuntimeOptions(threads=1)) as runtime:
            runtime.run(np.zeros((1, 3, 64, 64), np.float32))
    except TinyViTError as error:
        assert "\\n" not in str(error)
print("alive")
"""


def test_damaged_bytes_never_end_the_process(files: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.ort"
    path.write_bytes(files["float32"].read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", _DAMAGE, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("alive\n"), done.stderr[-500:]
