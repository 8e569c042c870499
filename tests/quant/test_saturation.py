"""Sums of int8 products must not saturate on any processor.

x86 kernels without VNNI add two products of 8 bits in 16 bits. Where all weights and activations
have their extreme values, a layer with 8-bit weights gives a fraction of the correct result there,
and a layer with 7-bit weights gives the correct one. The tests check this in theory, on this
processor, and on an emulated processor that has AVX2 but not VNNI.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx_ir as ir
import torch
from torch import nn

from tests.helpers.saturation import INT16_MAX, UINT8_MAX, with_saturating_kernels
from tinyvit.export.passes import onnx_graph
from tinyvit.export.targets.openvino import passes as openvino_passes
from tinyvit.nn.model import TinyViT
from tinyvit.quant.quantized_layers import ActivationQuantizer, QuantizedLayer
from tinyvit.quant.quantized_network import quantize_network
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme

SCALE = 1 / 64
EMULATOR = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
ENGINES = ["onnxruntime", "openvino"]
ACTIVATIONS: dict[str, Literal["int8", "uint8"]] = {"onnxruntime": "uint8", "openvino": "int8"}
"""The type of activations in the files that tinyvit-export writes for each engine."""
LAYERS = {
    "linear": (nn.Linear(256, 64), (49, 256)),
    "pointwise": (nn.Conv2d(64, 64, 1), (1, 64, 8, 8)),
    "convolution": (nn.Conv2d(32, 64, 3, 2, 1), (1, 32, 8, 8)),
    "depthwise": (nn.Conv2d(64, 64, 3, 1, 1, groups=64), (1, 64, 8, 8)),
}
"""One layer of each kind, and the shape of its input."""
ATTENTION = "attention"
# In the files for onnxruntime, attention's products are float32.
CASES = [*product(ENGINES, LAYERS), ("openvino", ATTENTION)]

RUN_ENGINE = """
import sys
import numpy as np
if sys.argv[1] == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
    result = session.run(None, {"x": np.load(sys.argv[3])})[0]
else:
    import openvino
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    result = openvino.Core().compile_model(sys.argv[2], "CPU", settings)(np.load(sys.argv[3]))[0]
np.save(sys.argv[4], result)
"""
"""A program with the arguments ENGINE MODEL INPUT.npy OUTPUT.npy."""


@dataclass(frozen=True)
class EngineResult:
    """The output of an engine for a module, and the correct output, computed in float64."""

    output: npt.NDArray[np.float32]
    correct: npt.NDArray[np.float64]

    @property
    def relative_error(self) -> float:
        """The largest error as a share of the largest correct value."""
        return float(np.abs(self.output - self.correct).max() / np.abs(self.correct).max())


def largest_pair_sum(network: nn.Module) -> int:
    """The largest sum of two products that any quantized layer can compute, in integers."""
    return max(
        int((UINT8_MAX * weights.topk(2, dim=1).values.sum(1)).max())
        for weights in (
            module.weight.flatten(1).int().abs()
            for module in network.modules()
            if isinstance(module, QuantizedLayer)
        )
    )


def test_pair_sums_of_seven_bit_weights_fit_into_int16(
    folded_network: TinyViT, recipe: Recipe
) -> None:
    seven_bits, eight_bits = (
        quantize_network(folded_network, replace(recipe, weight_bits=bits), QuantScheme())
        for bits in (7, 8)
    )
    assert largest_pair_sum(seven_bits) <= INT16_MAX < largest_pair_sum(eight_bits)


class AttentionProducts(nn.Module):
    """Both products of an attention, with the input as queries, keys and values.

    The input and the output are float32 (windows, 49, 32).
    """

    def __init__(self, seven_bits: bool) -> None:
        super().__init__()
        self.query_quantizer = ActivationQuantizer(SCALE, "int8")
        self.key_value_quantizer = ActivationQuantizer(SCALE, "int8", seven_bits)
        self.softmax_point = ActivationQuantizer(1 / 127, "int8")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            quantizer(x).reshape(-1, 49, 2, 16)
            for quantizer in (
                self.query_quantizer,
                self.key_value_quantizer,
                self.key_value_quantizer,
            )
        )
        scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1)
        weights = self.softmax_point(torch.softmax(scores * 0.05, -1))
        return (weights @ v.transpose(1, 2)).transpose(1, 2).reshape(-1, 49, 32)


def extreme_module(
    kind: str, bits: int, activations: Literal["int8", "uint8"]
) -> tuple[nn.Module, torch.Tensor]:
    """A module with the largest weights, of both signs, and an input with the largest values."""
    if kind == ATTENTION:
        tokens = torch.full((4, 49, 32), 127 * SCALE)
        tokens[:, 1::2] *= -1  # With equal keys, the softmax would not depend on the scores.
        return AttentionProducts(seven_bits=bits == 7), tokens
    layer, shape = LAYERS[kind]
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.weight[::2] = -1.0
        layer.bias.zero_()
    modules: list[nn.Module] = [
        QuantizedLayer(layer, ActivationQuantizer(SCALE, activations), bits, QuantScheme())
    ]
    if isinstance(layer, nn.Conv2d) and activations == "uint8":
        output_scale = layer.weight[0].numel() * 2 * 128 * SCALE / 127
        modules.append(ActivationQuantizer(output_scale, activations))
    return nn.Sequential(*modules), torch.full(shape, 127 * SCALE)


def run_in_engine(
    engine: str, module: nn.Module, x: torch.Tensor, folder: Path, emulated: bool = False
) -> EngineResult:
    """Run a module in an engine, in the form that the engine's target writes.

    `emulated` runs the engine on an emulated processor with AVX2 but without VNNI.
    """
    with torch.no_grad():
        program = torch.onnx.export(
            torch.export.export(module, (x,)),
            dynamo=True,
            opset_version=20,
            optimize=False,
            input_names=["x"],
        )
        correct = module.double()(x.double()).numpy()
    onnx_graph.optimize_graph(program.model)
    program.model.ir_version = 9
    model_path = folder / "layer.onnx"
    ir.save(program.model, model_path)
    if engine == "openvino":
        model_path = convert_to_openvino(model_path)
    np.save(folder / "x.npy", x.numpy())
    arguments = [engine, str(model_path), str(folder / "x.npy"), str(folder / "y.npy")]
    emulator = [str(EMULATOR), "-cpu", "Haswell"] if emulated else []
    subprocess.run(
        [*emulator, sys.executable, "-c", RUN_ENGINE, *arguments],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return EngineResult(np.load(folder / "y.npy"), correct)


def convert_to_openvino(onnx_path: Path) -> Path:
    import openvino

    model = openvino.Core().read_model(onnx_path)
    openvino_passes.optimize_graph(model)
    path = onnx_path.with_suffix(".xml")
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize(("engine", "kind"), CASES)
def test_extreme_values_are_correct_on_this_processor(
    engine: str, kind: str, tmp_path: Path
) -> None:
    pytest.importorskip(engine)
    module, x = extreme_module(kind, 7, ACTIVATIONS[engine])
    assert run_in_engine(engine, module, x, tmp_path).relative_error < 1e-3


@pytest.mark.slow
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-x86_64 to emulate a CPU without VNNI")
@pytest.mark.parametrize(("engine", "kind"), CASES)
@pytest.mark.parametrize("bits", [7, 8])
def test_extreme_values_saturate_without_vnni_only_with_8_bits(
    engine: str, kind: str, bits: int, tmp_path: Path
) -> None:
    """Depthwise convolutions are correct even with 8 bits: kernels add no pairs of products."""
    pytest.importorskip(engine)
    module, x = extreme_module(kind, bits, ACTIVATIONS[engine])
    is_correct = run_in_engine(engine, module, x, tmp_path, emulated=True).relative_error < 1e-3
    assert is_correct == (bits == 7 or kind == "depthwise")


@pytest.mark.slow
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-x86_64 to emulate a CPU without VNNI")
@pytest.mark.parametrize("engine", ENGINES)
def test_the_simulated_saturation_agrees_with_the_engines(engine: str, tmp_path: Path) -> None:
    """tests/helpers/saturation.py adds the same pairs of products as the kernels of the engines."""
    pytest.importorskip(engine)
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(256, 64)
    with torch.no_grad():
        layer.weight.uniform_(-1, 1, generator=generator)
    quantizer = ActivationQuantizer(SCALE, ACTIVATIONS[engine])
    module = nn.Sequential(QuantizedLayer(layer, quantizer, 8, QuantScheme()))
    x = torch.randint(-128, 128, (49, 256), generator=generator) * SCALE
    result = run_in_engine(engine, module, x, tmp_path, emulated=True)
    with torch.no_grad():
        modeled = with_saturating_kernels(module)(x.double()).numpy()
    largest = np.abs(result.correct).max()
    assert np.abs(modeled - result.correct).max() > 0.1 * largest
    assert np.abs(result.output - modeled).max() < 1e-4 * largest
