"""ORT artifacts compute what the ONNX file computes, and list the operators that they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tests.helpers.demo_network import (
    ATTENTION_BLOCKS,
    SIZE,
    compute_exact_logits,
    compute_relative_error,
    load_small_demo,
    make_demo_manifest,
    make_noise_input,
)
from tinyvit.bench.kernel_profile import profile_kernels
from tinyvit.export.targets.onnx.target import TARGET as ONNX
from tinyvit.export.targets.ort.target import TARGET
from tinyvit.export.targets.ort.writer import OrtModel
from tinyvit.export.tracing import Graph, trace
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.quant.quantized_network import quantize_network
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes.artifact import Artifact, detect_format, read_artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines.onnxruntime import ENGINE

PREPROCESS = load_small_demo().preprocess
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
ONE_THREAD = RuntimeOptions(threads=1)


@pytest.fixture(scope="module")
def networks(demo_network: Any, demo_recipe: Recipe) -> dict[str, Any]:
    """The network of each precision."""
    int8 = quantize_network(demo_network, demo_recipe, TARGET.scheme)
    return {"float32": demo_network, "int8": int8}


@pytest.fixture(scope="module")
def graphs(demo_graph: Graph, networks: dict[str, Any]) -> dict[str, Graph]:
    """The graph of each precision."""
    return {"float32": demo_graph, "int8": trace(networks["int8"])}


@pytest.fixture(scope="module")
def files(graphs: dict[str, Graph], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One .ort file of each precision."""
    folder = tmp_path_factory.mktemp("ort")
    for precision in PRECISIONS:
        model = TARGET.lower(graphs[precision], PREPROCESS, "host", precision)
        path = folder / f"{precision}.ort"
        config_path = folder / f"{precision}.ort.config"
        assert model.save(path, make_demo_manifest("ort", precision)) == [config_path, path]
    return {precision: folder / f"{precision}.ort" for precision in PRECISIONS}


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("int8", 0.03)])
def test_logits_equal_the_network(
    files: dict[str, Path], networks: dict[str, Any], precision: str, tolerance: float
) -> None:
    with ENGINE.open(read_artifact(files[precision]), ONE_THREAD) as runtime:
        for seed in range(3):
            expected = compute_exact_logits(networks[precision], make_noise_input(seed))
            assert compute_relative_error(runtime.run(make_noise_input(seed)), expected) < tolerance


def test_int8_computes_as_much_in_integers_as_onnx(
    files: dict[str, Path], graphs: dict[str, Graph], tmp_path: Path
) -> None:
    onnx_path = tmp_path / "x.onnx"
    onnx_model = ONNX.lower(graphs["int8"], PREPROCESS, "host", "int8")
    onnx_model.save(onnx_path, make_demo_manifest("onnx", "int8"))
    ort_profile, onnx_profile = profile_kernels(files["int8"]), profile_kernels(onnx_path)
    assert ort_profile.integer_macs == onnx_profile.integer_macs
    assert ort_profile.float_macs == onnx_profile.float_macs


def test_attention_biases_are_expanded_and_float16_in_int8_files(files: dict[str, Path]) -> None:
    node_counts = {
        precision: {kernel.name: kernel.node_count for kernel in profile_kernels(path).kernels}
        for precision, path in files.items()
    }
    assert all("Gather" not in counts for counts in node_counts.values())
    assert "Cast" not in node_counts["float32"]
    assert node_counts["int8"]["Cast"] == ATTENTION_BLOCKS, "one per block"


def test_config_lists_every_operator_that_runs(files: dict[str, Path]) -> None:
    for path in files.values():
        text = path.with_name(f"{path.name}.config").read_text(encoding="utf-8")
        assert "#" not in text, "comments contain paths of the machine that exported"
        operators = {line.split(";")[2] for line in text.splitlines()}
        for kernel in profile_kernels(path).kernels:
            name = kernel.name.removesuffix("Nchwc")
            assert any(name in listed for listed in operators), (path, kernel.name)
    int8_config = files["int8"].with_name("int8.ort.config")
    assert "QLinearConv" in int8_config.read_text(encoding="utf-8")


def test_renamed_file_is_recognized(files: dict[str, Path], tmp_path: Path) -> None:
    renamed = tmp_path / "network.onnx"
    renamed.write_bytes(files["float32"].read_bytes())
    assert detect_format(renamed).name == "ort"
    with ENGINE.open(Artifact(renamed, None), ONE_THREAD) as runtime:
        assert runtime.run(make_noise_input()).shape == (1, 12)


@pytest.mark.parametrize("embedded_preprocessing", ["normalize", "full"])
def test_preprocessing_in_the_file_equals_onnx(
    graphs: dict[str, Graph], embedded_preprocessing: EmbeddedPreprocessing, tmp_path: Path
) -> None:
    height, width = (90, 120) if embedded_preprocessing == "full" else (SIZE, SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    logits = []
    for target in (TARGET, ONNX):
        path = tmp_path / f"demo{target.suffix}"
        model = target.lower(graphs["float32"], PREPROCESS, embedded_preprocessing, "float32")
        model.save(path, make_demo_manifest(target.name, "float32", embedded_preprocessing))
        with ENGINE.open(read_artifact(path), ONE_THREAD) as runtime:
            logits.append(runtime.run(pixels))
    assert np.abs(logits[0] - logits[1]).max() < 1e-4


@pytest.mark.slow
def test_open_batch_runs_several_images(networks: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "demo.ort"
    model = TARGET.lower(trace(networks["int8"], batch=None), PREPROCESS, "host", "int8")
    model.save(path, make_demo_manifest("ort", "int8", batch=None))
    with ENGINE.open(read_artifact(path), ONE_THREAD) as runtime:
        images = np.concatenate([make_noise_input(seed) for seed in range(3)])
        assert np.abs(runtime.run(images)[1:2] - runtime.run(make_noise_input(1))).max() < 1e-4


def test_saving_appends_only_the_manifest(files: dict[str, Path], tmp_path: Path) -> None:
    data = files["float32"].read_bytes()
    model = OrtModel(data[: data.index(b"PK\x03\x04")], "")
    model.save(tmp_path / "again.ort", make_demo_manifest("ort"))
    assert (tmp_path / "again.ort").read_bytes() == data


_RUN_DAMAGED_FILES = """
import sys, numpy as np, pathlib
from tinyvit.errors import TinyViTError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines.onnxruntime import ENGINE
path = pathlib.Path(sys.argv[1])
data, rng = path.read_bytes(), np.random.default_rng(0)
for trial in range(150):
    damaged = bytearray(data)
    # The tables are at both ends of the file, the weights are between them.
    for position in rng.integers(0, 150_000, 6):
        position = position if trial % 2 else len(damaged) - 1 - position
        damaged[position] = rng.integers(0, 256)
    path.write_bytes(damaged)
    try:
        with ENGINE.open(Artifact(path, None), RuntimeOptions(threads=1)) as runtime:
            runtime.run(np.zeros((1, 3, 64, 64), np.float32))
    except TinyViTError as error:
        assert "\\n" not in str(error)
print("alive")
"""


def test_damaged_bytes_never_end_the_process(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "damaged.ort"
    path.write_bytes(files["float32"].read_bytes())
    command = [sys.executable, "-c", _RUN_DAMAGED_FILES, str(path)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.stdout.endswith("alive\n"), process.stderr[-500:]
