"""Depthwise convolutions of stride 2 are computed in float32 on a CPU that trains in bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tinyvit.distill.training.device import ComputeDevice
from tinyvit.distill.training.network.strided_convolutions import use_float32_for_strided_depthwise
from tinyvit.nn.fold import fold_model
from tinyvit.nn.model import TinyViT
from tinyvit.variants import VARIANTS

BFLOAT16_CPU = ComputeDevice("cpu", uses_bfloat16=True)


class TypeRecorder:
    """Records the types that convolutions compute in, by the name of the layer."""

    def __init__(self, model: nn.Module) -> None:
        self.types: dict[str, torch.dtype] = {}
        self._names = {id(layer): name for name, layer in model.named_modules()}
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                original = layer._conv_forward
                layer._conv_forward = self._record(layer, original)  # type: ignore[method-assign]

    def _record(self, layer: nn.Conv2d, original):  # type: ignore[no-untyped-def]
        def compute(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            y: Tensor = original(x, weight, bias)
            self.types[self._names[id(layer)]] = y.dtype
            return y

        return compute


def make_model() -> TinyViT:
    torch.manual_seed(0)
    return TinyViT(VARIANTS["tiny_vit_5m_224"], 10, 64).train()


def get_strided_convolution(model: TinyViT) -> nn.Conv2d:
    layer = model.get_submodule("stages.1.downsample.conv2.conv")
    assert isinstance(layer, nn.Conv2d)
    return layer


def run_step(model: nn.Module, device: ComputeDevice) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with device.autocast():
        loss = nn.functional.cross_entropy(model(images).float(), torch.tensor([3, 7]))
    loss.backward()  # type: ignore[no-untyped-call]


def test_three_convolutions_compute_in_float32() -> None:
    model = make_model()
    names = list(model.state_dict())
    weights = {name: id(parameter) for name, parameter in model.named_parameters()}
    use_float32_for_strided_depthwise(model, BFLOAT16_CPU)
    assert list(model.state_dict()) == names
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == weights
    recorder = TypeRecorder(model)
    run_step(model, BFLOAT16_CPU)
    float32_layers = [name for name, kind in recorder.types.items() if kind == torch.float32]
    assert float32_layers == [f"stages.{stage}.downsample.conv2.conv" for stage in (1, 2, 3)]
    assert set(recorder.types.values()) == {torch.float32, torch.bfloat16}


def test_output_is_that_of_float32_rounded_and_the_gradient_is_that_of_float32() -> None:
    model = make_model()
    convolution = get_strided_convolution(model)
    random = torch.Generator().manual_seed(1)
    images = torch.rand(2, convolution.in_channels, 8, 8, generator=random).bfloat16()
    output_gradient = torch.rand(2, convolution.in_channels, 4, 4, generator=random).bfloat16()
    expected = convolution(images.float())
    (expected_gradient,) = torch.autograd.grad(
        expected, convolution.weight, output_gradient.float()
    )
    use_float32_for_strided_depthwise(model, BFLOAT16_CPU)
    with BFLOAT16_CPU.autocast():
        output = get_strided_convolution(model)(images)
    (gradient,) = torch.autograd.grad(output, convolution.weight, output_gradient)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, expected.bfloat16())
    assert torch.equal(gradient, expected_gradient)


def test_the_biases_of_a_folded_network_remain() -> None:
    """Quantization-aware training trains a folded network, whose convolutions have biases."""
    model = fold_model(make_model().eval())
    parameters = {name: id(parameter) for name, parameter in model.named_parameters()}
    assert "stages.1.downsample.conv2.bias" in parameters
    use_float32_for_strided_depthwise(model, BFLOAT16_CPU)
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == parameters


@pytest.mark.parametrize(
    "device", [ComputeDevice("cpu", uses_bfloat16=False), ComputeDevice("cuda:0", True)]
)
def test_other_devices_keep_their_layers(device: ComputeDevice) -> None:
    model = make_model()
    layers = [type(layer) for layer in model.modules()]
    use_float32_for_strided_depthwise(model, device)
    assert [type(layer) for layer in model.modules()] == layers
