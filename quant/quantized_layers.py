"""The modules of a quantized network: rounded activations, and layers with int8 weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401  (registers the operators)

from tinyvit.quant_scheme import QuantScheme

SEVEN_BIT_LIMIT = 63
"""Largest integer of 7 bits; the smallest is its opposite."""

Layer: TypeAlias = nn.Linear | nn.Conv2d
"""A layer that can be quantized."""

_OPS = torch.ops.quantized_decomposed
_BIAS_LIMIT = 2.0**31 - 1
_MIN_WEIGHT_SCALE = 1e-12


@dataclass(frozen=True)
class _IntegerType:
    """An integer type that carries activations.

    Attributes:
        zero_point: The integer that stands for 0.
        smallest: Smallest integer.
        largest: Largest integer.
        dtype: The type in torch.
    """

    zero_point: int
    smallest: int
    largest: int
    dtype: torch.dtype

    def parameters(self, scale: float) -> tuple[Any, ...]:
        """Return the parameters of the per-tensor quantize and dequantize operators."""
        return scale, self.zero_point, self.smallest, self.largest, self.dtype


_INTEGER_TYPES = {
    "int8": _IntegerType(0, -128, 127, torch.int8),
    "uint8": _IntegerType(128, 0, 255, torch.uint8),
}


class QuantizePoint(nn.Module):
    """Rounds activations to multiples of a scale, from -128 to 127 times the scale."""

    def __init__(
        self, scale: float, activations: Literal["int8", "uint8"], seven_bits: bool = False
    ) -> None:
        """Create a point.

        Args:
            scale: The scale, above 0.
            activations: The type of the integers. Both stand for the same real numbers.
            seven_bits: Limit the range to -63 to 63 times the scale.
        """
        super().__init__()
        self.scale = scale
        self.activations = activations
        self.seven_bits = seven_bits

    def forward(self, x: Tensor) -> Tensor:
        """Round a tensor.

        Args:
            x: Activations of any shape, float32 or float64.

        Returns:
            A tensor of the same shape and dtype.
        """
        if self.seven_bits:
            x = x.clamp(-SEVEN_BIT_LIMIT * self.scale, SEVEN_BIT_LIMIT * self.scale)
        if x.dtype == torch.float64:
            return (x / self.scale).round().clamp(-128, 127) * self.scale
        parameters = _INTEGER_TYPES[self.activations].parameters(self.scale)
        integers = _OPS.quantize_per_tensor(x, *parameters)
        rounded: Tensor = _OPS.dequantize_per_tensor(integers, *parameters)
        return rounded


class QuantizedLayer(nn.Module):
    """A linear layer or convolution with int8 weights, one scale per output channel.

    Attributes:
        input_point: The point that rounds the input. None leaves the input and the bias in float32.
        rounds_weights: Whether the graph itself rounds float weights (`QuantScheme.weights`).
        convolution: Stride, padding and groups of a convolution; None for a linear layer.
        weight: Weights, int8, in the shape of the original layer.
        rounded: The real numbers that the weights stand for, float32, where `rounds_weights`.
        scales: Scales of the weights, float32 (output channels,).
        zeros: Zero points of the weights, int64 (output channels,): all 0.
        bias: int32 or float32 (output channels,), or None.
        bias_scales: Scales of an int32 bias, float32 (output channels,).
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor | None
    bias_scales: Tensor
    rounded: Tensor

    def __init__(
        self, layer: Layer, input_point: QuantizePoint | None, weight_bits: int, scheme: QuantScheme
    ) -> None:
        """Quantize a layer.

        Args:
            layer: The float32 layer, which is not changed.
            input_point: The point that rounds the input, or None.
            weight_bits: Width of the weights.
            scheme: The form of weights and biases that the target's engine needs.
        """
        super().__init__()
        self.input_point = input_point
        self.rounds_weights = scheme.weights == "rounded" and input_point is not None
        self.convolution = (
            (layer.stride[0], int(layer.padding[0]), layer.groups)
            if isinstance(layer, nn.Conv2d)
            else None
        )
        weight, largest = layer.weight.detach().double(), 2 ** (weight_bits - 1) - 1
        scales = weight_scales(weight, largest).float()
        channel_scales = _per_channel(scales.double(), weight)
        integers = (weight / channel_scales).round().clamp(-largest, largest)
        self.register_buffer("weight", integers.to(torch.int8))
        if self.rounds_weights:
            self.register_buffer("rounded", (integers * channel_scales).float())
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(len(scales), dtype=torch.int64))
        bias = None if layer.bias is None else layer.bias.detach().clone()
        if input_point is not None and scheme.biases == "int32":
            self.register_buffer("bias_scales", (scales.double() * input_point.scale).float())
            bias = None if bias is None else self._quantize_bias(bias)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer.

        Args:
            x: The input of the original layer, float32 or float64.

        Returns:
            The output in the shape of the original layer's and the dtype of `x`.
        """
        weight, bias = self._dequantize(self.weight, self.scales, x), self.bias
        if self.input_point is not None:
            x = self.input_point(x)
        if bias is not None:
            is_float = bias.is_floating_point()
            bias = bias.to(x.dtype) if is_float else self._dequantize(bias, self.bias_scales, x)
        if self.convolution is None:
            return F.linear(x, weight, bias)
        stride, padding, groups = self.convolution
        return F.conv2d(x, weight, bias, stride, padding, groups=groups)

    def _quantize_bias(self, bias: Tensor) -> Tensor:
        """Return a bias, (output channels,), as int32 multiples of `bias_scales`."""
        integers = (bias.double() / self.bias_scales.double()).round()
        return integers.clamp(-_BIAS_LIMIT, _BIAS_LIMIT).int()

    def _dequantize(self, integers: Tensor, scales: Tensor, x: Tensor) -> Tensor:
        """Return the real numbers that integers stand for, in the dtype of `x`."""
        if x.dtype == torch.float64:
            return integers.double() * _per_channel(scales.double(), integers)
        info = torch.iinfo(integers.dtype)
        parameters = (scales, self.zeros, 0, info.min, info.max, integers.dtype)
        if self.rounds_weights and integers is self.weight:
            integers = _OPS.quantize_per_channel(self.rounded, *parameters)
        dequantized: Tensor = _OPS.dequantize_per_channel(integers, *parameters)
        return dequantized

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """Ignore casts: integers stay integers, and the scales stay the file's float32 scales."""
        return self


def weight_scales(weight: Tensor, largest: int) -> Tensor:
    """Return the scale of every output channel.

    Args:
        weight: Weights, (output channels, ...).
        largest: The integer that the largest weight of each channel becomes.

    Returns:
        Scales, (output channels,), each above 0.
    """
    return (weight.flatten(1).abs().amax(1) / largest).clamp_min(_MIN_WEIGHT_SCALE)


def _per_channel(scales: Tensor, tensor: Tensor) -> Tensor:
    """Reshape scales, (output channels,), so that they multiply a weight or a bias."""
    return scales.reshape(-1, *[1] * (tensor.ndim - 1))
