"""TensorRT on a real GPU computes the demo model correctly in three precisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

import torch

from tests.helpers.fake_tensorrt import make_manifest
from tinyvit.bench.latency.interleave import run_interleaved
from tinyvit.errors import RequestError
from tinyvit.export.targets.tensorrt.options import TensorRtOptions
from tinyvit.golden import CHIRP_PATTERNS, make_golden_input
from tinyvit.manifest_parts import Precision
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.nn.fold import fold_model
from tinyvit.preprocess import Preprocess
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.quantized_network import quantize_network, with_exact_arithmetic
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes import RuntimeOptions, cuda
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime
from tinyvit.runtimes.engines.tensorrt import ENGINE

LARGEST_ERRORS: dict[Precision, float] = {"float32": 1e-3, "float16": 0.03, "int8": 0.08}
"""Largest difference from the exact logits, as a fraction of the largest logit."""


def has_suitable_gpu() -> bool:
    """Return whether there is a GPU that the installed flavor of TensorRT supports."""
    try:
        device = cuda.CudaDevice()
    except RequestError:
        return False
    device.close()
    return (
        cuda.installed_flavor() == "classic"
        or device.compute_capability in TensorRtOptions(flavor="rtx").resolved_compute
    )


def make_networks(
    folded: torch.nn.Module, batch: npt.NDArray[np.float32]
) -> dict[Precision, torch.nn.Module]:
    from tinyvit.export.targets.tensorrt.target import TARGET

    recipe = Recipe(
        checkpoint_sha256="abc",
        img_size=224,
        scales=calibrate(folded, torch.from_numpy(batch)),
        weight_bits=7,
        float_units=(),
        method="",
        calibration_sha256="",
        calibration_count=3,
    )
    int8_network = quantize_network(folded, recipe, TARGET.scheme)
    return {"float32": folded, "float16": folded, "int8": int8_network}


def build_and_open(
    folder: Path, network: torch.nn.Module, preprocess: Preprocess, precision: Precision
) -> Runtime:
    from tinyvit.export.targets.tensorrt.target import TARGET
    from tinyvit.export.tracing import trace

    path = folder / f"{precision}{TARGET.suffix}"
    manifest = make_manifest(precision=precision, tools={}, img_size=224)
    graph = trace(network.eval(), batch=None)
    TARGET.lower(graph, preprocess, "host", precision).save(path, manifest)
    return ENGINE.open(Artifact(path, manifest), RuntimeOptions(device="gpu"))


def count_int8_products(runtime: Any) -> int:
    """Count the layers that multiply int8 matrices on this GPU."""
    from tinyvit.export.targets.tensorrt.engine_builder import parse_inspector_json

    tensorrt = cuda.import_tensorrt(cuda.installed_flavor())
    inspector = runtime._loaded_plan.engine.create_engine_inspector()
    report = inspector.get_engine_information(tensorrt.LayerInformationFormat.JSON)
    return sum(
        layer.multiplies_matrices and layer.input_type == "Int8"
        for layer in parse_inspector_json(report)
    )


@pytest.mark.gpu
@pytest.mark.skipif(not has_suitable_gpu(), reason="needs an NVIDIA GPU that TensorRT supports")
def test_demo_runs_on_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip(cuda.PRODUCTS[cuda.installed_flavor()].module)
    checkpoint = load_released("demo")
    folded, preprocess = fold_model(checkpoint.build()), checkpoint.preprocess
    patterns = [make_golden_input(number, 224, 224) for number in CHIRP_PATTERNS]
    batch = np.stack([preprocess.normalize(pattern) for pattern in patterns])
    runtimes: dict[str, Runtime] = {}
    for precision, network in make_networks(folded, batch).items():
        runtime = runtimes[precision] = build_and_open(tmp_path, network, preprocess, precision)
        with torch.no_grad():
            exact_network = with_exact_arithmetic(network)
            exact_logits = exact_network(torch.from_numpy(batch).double()).numpy()
        error = np.abs(runtime.run(batch) - exact_logits).max() / np.abs(exact_logits).max()
        assert error < LARGEST_ERRORS[precision]
        large_batch = np.repeat(batch, 7, 0)
        assert np.array_equal(runtime.run(large_batch)[:1], runtime.run(large_batch)[:1])
        int8_products = count_int8_products(runtime)
        assert (int8_products > 40) == (precision == "int8")
        print(f"{precision}: {int8_products} int8 products, error {error:.4f}")
        print(runtime.describe())
    runs = {
        precision: (lambda runtime=runtime: runtime.run(batch[:1]))
        for precision, runtime in runtimes.items()
    }
    timings = run_interleaved(runs, rounds=50, warmup=10)
    print({precision: f"{timing.median_ms:.3f} ms" for precision, timing in timings.items()})
    for runtime in runtimes.values():
        runtime.close()
