"""No sum of products may saturate: in theory, here, and on an emulated processor that has AVX2 and no more.

x86 kernels without VNNI add two products of 8 bits in 16. With all weights and activations at their extremes, a layer of
8-bit weights comes out at a fraction of what it should there, and one of 7 bits is exact.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx_ir as ir
import torch
from torch import nn

from tinyvit.export.passes import onnx_graph as tune
from tinyvit.export.targets.openvino import passes as tune_openvino
from tinyvit.quant.quantized_layers import QuantizedLayer, QuantizePoint
from tinyvit.quant.quantized_network import quantize_network
from tinyvit.quant_scheme import QuantScheme

SCALE = 1 / 64
ATTENTION = "attention"
EMULATOR = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
LAYERS = {
    "linear": (nn.Linear(256, 64), (49, 256)),
    "pointwise": (nn.Conv2d(64, 64, 1), (1, 64, 8, 8)),
    "convolution": (nn.Conv2d(32, 64, 3, 2, 1), (1, 32, 8, 8)),
    "depthwise": (nn.Conv2d(64, 64, 3, 1, 1, groups=64), (1, 64, 8, 8)),
}
CASES = [*product(["onnxruntime", "openvino"], LAYERS), ("openvino", ATTENTION)]
"""onnxruntime's files have attention's products in float32."""
RUN = """
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


def test_seven_bits_leave_room_in_sixteen(small, recipe):
    from dataclasses import replace

    def worst(bits):
        network = quantize_network(small, replace(recipe, weight_bits=bits), QuantScheme())
        layers = [
            module.weight.flatten(1).int().abs()
            for module in network.modules()
            if isinstance(module, QuantizedLayer)
        ]
        return max(
            int((255 * weights.topk(2, dim=1).values.sum(1)).max()) for weights in layers
        )  # uint8 inside the kernels

    assert worst(7) <= 2**15 - 1 < worst(8)


class Products(nn.Module):
    """Both products of attention as the network has them, for (windows, 49, 32): queries, keys and values are the input."""

    def __init__(self, seven_bits: bool) -> None:
        super().__init__()
        self.wide, self.narrow = (
            QuantizePoint(SCALE, "int8"),
            QuantizePoint(SCALE, "int8", seven_bits),
        )
        self.weights = QuantizePoint(1 / 127, "int8")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 -> float32, the shape kept."""
        q, k, v = (
            point(x).reshape(-1, 49, 2, 16) for point in (self.wide, self.narrow, self.narrow)
        )
        scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1)
        weights = self.weights(torch.softmax(scores * 0.05, -1))
        return (weights @ v.transpose(1, 2)).transpose(1, 2).reshape(-1, 49, 32)


def extremes(kind: str, bits: int, activations: str) -> tuple[nn.Module, torch.Tensor]:
    """A layer whose weights are all as large as can be, of either sign by channel, and activations likewise."""
    if kind == ATTENTION:
        tokens = torch.full((4, 49, 32), 127 * SCALE)
        tokens[:, 1::2] *= -1  # keys have to differ, or no softmax sees what becomes of the scores
        return Products(seven_bits=bits == 7), tokens
    layer, shape = LAYERS[kind]
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.weight[::2] = -1.0
        layer.bias.zero_()
    parts: list[nn.Module] = [
        QuantizedLayer(layer, QuantizePoint(SCALE, activations), bits, QuantScheme())
    ]
    if isinstance(layer, nn.Conv2d) and activations == "uint8":
        parts.append(QuantizePoint(layer.weight[0].numel() * 2 * 128 * SCALE / 127, activations))
    return nn.Sequential(*parts), torch.full(shape, 127 * SCALE)


def answer(
    engine: str, kind: str, bits: int, folder: Path, emulated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(what the engine gives, what is right) for the extremes, in the form that this engine's target writes."""
    return ask(
        engine,
        *extremes(kind, bits, "uint8" if engine == "onnxruntime" else "int8"),
        folder,
        emulated,
    )


def ask(
    engine: str, module: nn.Module, x: torch.Tensor, folder: Path, emulated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The same for any module and input."""
    with torch.no_grad():
        program = torch.onnx.export(
            torch.export.export(module, (x,)),
            dynamo=True,
            opset_version=20,
            optimize=False,
            input_names=["x"],
        )
        right = module.double()(x.double()).numpy()
    tune.tune(program.model)
    program.model.ir_version = 9
    ir.save(program.model, folder / "layer.onnx")
    if engine == "openvino":
        import openvino

        model = openvino.Core().read_model(folder / "layer.onnx")
        tune_openvino.tune(model)
        openvino.save_model(model, folder / "layer.xml", compress_to_fp16=False)
    np.save(folder / "x.npy", x.numpy())
    prefix = [EMULATOR, "-cpu", "Haswell"] if emulated else []
    files = [
        str(folder / name)
        for name in ("layer.onnx" if engine == "onnxruntime" else "layer.xml", "x.npy", "y.npy")
    ]
    subprocess.run(
        [*prefix, sys.executable, "-c", RUN, engine, *files],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return np.load(folder / "y.npy"), right


@pytest.mark.parametrize(("engine", "kind"), CASES)
def test_extremes_are_right_here(engine, kind, tmp_path):
    pytest.importorskip(engine)
    found, right = answer(engine, kind, 7, tmp_path, emulated=False)
    assert np.abs(found - right).max() < 1e-3 * np.abs(right).max()


@pytest.mark.slow
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-x86_64 to be a processor without VNNI")
@pytest.mark.parametrize(("engine", "kind"), CASES)
@pytest.mark.parametrize("bits", [7, 8])
def test_extremes_without_vnni(engine, kind, bits, tmp_path):
    """Depthwise convolutions are right even at 8 bits: nothing is added in pairs there."""
    pytest.importorskip(engine)
    found, right = answer(engine, kind, bits, tmp_path, emulated=True)
    is_right = np.abs(found - right).max() < 1e-3 * np.abs(right).max()
    assert is_right == (bits == 7 or kind == "depthwise")


@pytest.mark.slow
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-x86_64 to be a processor without VNNI")
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_kernels_without_vnni_are_what_golden_inputs_are_tried_on(engine, saturating, tmp_path):
    """The model of a saturating kernel (conftest.py) gives what the engines give: pairs and clamps are where it says."""
    pytest.importorskip(engine)
    random = torch.Generator().manual_seed(0)
    layer = nn.Linear(256, 64)
    with torch.no_grad():
        layer.weight.uniform_(-1, 1, generator=random)
    module = nn.Sequential(
        QuantizedLayer(
            layer,
            QuantizePoint(SCALE, "uint8" if engine == "onnxruntime" else "int8"),
            8,
            QuantScheme(),
        )
    )
    x = torch.randint(-128, 128, (49, 256), generator=random) * SCALE
    found, right = ask(engine, module, x, tmp_path, emulated=True)
    with torch.no_grad():
        modelled = saturating(module)(x.double()).numpy()
    assert np.abs(modelled - right).max() > 0.1 * np.abs(right).max()
    assert np.abs(found - modelled).max() < 1e-4 * np.abs(right).max()
