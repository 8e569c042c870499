"""The modules of a quantized network: quantizers of activations, and layers with int8 weights.

Inputs and outputs of both kinds of modules are floats: a module quantizes a tensor and dequantizes
it at once. In float32, the modules use torch's quantize and dequantize operators, which engines
recognize. In float64, they compute the same without these operators, which do not support float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401  (registers the operators)

from tinyvit.quant_scheme import Activations, QuantScheme

SEVEN_BIT_LIMIT = 63
"""Largest integer of 7 bits; the smallest is -63, so that the range is symmetric."""

Layer: TypeAlias = nn.Linear | nn.Conv2d
"""The types of layers that can be quantized."""

_OPS = torch.ops.quantized_decomposed
"""torch's quantize and dequantize operators."""
_BIAS_LIMIT = 2.0**31 - 1
"""Largest absolute value of an int32 bias."""
_MIN_WEIGHT_SCALE = 1e-12
"""Smallest scale of a weight, so that the scale of a channel of zeros is above 0."""


@dataclass(frozen=True)
class _IntegerType:
    """An integer type of quantized activations.

    Attributes:
        zero_point: The integer that represents 0.0.
        smallest: Smallest integer.
        largest: Largest integer.
        dtype: The dtype in torch.
    """

    zero_point: int
    smallest: int
    largest: int
    dtype: torch.dtype

    def operator_arguments(self, scale: float) -> tuple[Any, ...]:
        """Return the arguments that follow the tensor in torch's (de)quantize operators."""
        return scale, self.zero_point, self.smallest, self.largest, self.dtype


_INTEGER_TYPES = {
    "int8": _IntegerType(zero_point=0, smallest=-128, largest=127, dtype=torch.int8),
    "uint8": _IntegerType(zero_point=128, smallest=0, largest=255, dtype=torch.uint8),
    "uint16": _IntegerType(zero_point=32768, smallest=0, largest=65535, dtype=torch.uint16),
}


class ActivationQuantizer(nn.Module):
    """Rounds activations to multiples of a scale, from -128 to 127 times the scale.

    With the type "uint16", the range is from -32768 to 32767 times the scale. Another zero point
    moves the range. torch calls this fake quantization. Gradients are not supported.
    """

    def __init__(
        self,
        scale: float,
        activations: Activations,
        seven_bits: bool = False,
        zero_point: int | None = None,
    ) -> None:
        """Create a quantizer.

        Args:
            scale: The scale, above 0.
            activations: The type of the integers. "int8" and "uint8" represent the same real
                numbers.
            seven_bits: Whether the range is limited to -63 to 63 times the scale.
            zero_point: The integer that represents 0.0; None for the middle of the integers.
        """
        super().__init__()
        self.scale = scale
        self.activations = activations
        self.seven_bits = seven_bits
        self.integer_type = _INTEGER_TYPES[activations]
        if zero_point is not None:
            self.integer_type = replace(self.integer_type, zero_point=zero_point)

    def forward(self, x: Tensor) -> Tensor:
        """Round a tensor.

        Args:
            x: Activations of any shape, float32 or float64.

        Returns:
            A tensor of the same shape and dtype.
        """
        if self.seven_bits:
            x = x.clamp(-SEVEN_BIT_LIMIT * self.scale, SEVEN_BIT_LIMIT * self.scale)
        integer_type = self.integer_type
        if x.dtype == torch.float64:
            smallest = integer_type.smallest - integer_type.zero_point
            largest = integer_type.largest - integer_type.zero_point
            return (x / self.scale).round().clamp(smallest, largest) * self.scale
        arguments = integer_type.operator_arguments(self.scale)
        integers = _OPS.quantize_per_tensor(x, *arguments)
        rounded: Tensor = _OPS.dequantize_per_tensor(integers, *arguments)
        return rounded


class QuantizedLayer(nn.Module):
    """A linear layer or convolution with int8 weights, one scale per output channel.

    Attributes:
        input_quantizer: Quantizes the input. If None, the input and the bias stay float32.
        exports_float_weights: Whether the exported graph contains the dequantized weights and a
            quantize operator that converts them back to integers (`QuantScheme.weights` is
            "rounded_float32"), instead of the integers.
        convolution: Stride, padding and groups of a convolution; None for a linear layer.
        weight: Weights, int8, in the shape of the original layer.
        rounded: The dequantized weights, float32, in the same shape. The attribute exists only if
            `exports_float_weights` is true.
        scales: Scales of the weights, float32 (output channels,).
        zeros: Zero points of the weights, int64 (output channels,): all 0.
        bias: int32 or float32 (output channels,), or None.
        bias_scales: Scales of an int32 bias, float32 (output channels,): the scale of the input
            times the scales of the weights. The attribute exists only if the scheme has
            int32 biases and the input is quantized.
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor | None
    bias_scales: Tensor
    rounded: Tensor

    def __init__(
        self,
        layer: Layer,
        input_quantizer: ActivationQuantizer | None,
        weight_bits: int,
        scheme: QuantScheme,
    ) -> None:
        """Quantize a layer.

        Args:
            layer: The float32 layer, which is not changed.
            input_quantizer: Quantizes the input. If None, the input stays float32.
            weight_bits: Number of bits of the weights, one of `recipe.WEIGHT_BITS`.
            scheme: States whether the graph contains weights and biases as integers or as float32.
        """
        super().__init__()
        self.input_quantizer = input_quantizer
        self.exports_float_weights = (
            scheme.weights == "rounded_float32" and input_quantizer is not None
        )
        self.convolution: tuple[int, int, int] | None = None
        if isinstance(layer, nn.Conv2d):
            self.convolution = (layer.stride[0], int(layer.padding[0]), layer.groups)
        weight = layer.weight.detach().double()
        largest = 2 ** (weight_bits - 1) - 1
        scales = compute_weight_scales(weight, largest).float()
        channel_scales = _match_axes(scales.double(), weight)
        integers = (weight / channel_scales).round().clamp(-largest, largest)
        self.register_buffer("weight", integers.to(torch.int8))
        if self.exports_float_weights:
            self.register_buffer("rounded", (integers * channel_scales).float())
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(len(scales), dtype=torch.int64))
        bias = None if layer.bias is None else layer.bias.detach().clone()
        if input_quantizer is not None and scheme.biases == "int32":
            self.register_buffer("bias_scales", (scales.double() * input_quantizer.scale).float())
            bias = None if bias is None else self._quantize_bias(bias)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output of the layer.

        Args:
            x: Input in the shape that the original layer takes, float32 or float64.

        Returns:
            Output in the shape that the original layer returns, in the dtype of `x`.
        """
        weight, bias = self._dequantize(self.weight, self.scales, x), self.bias
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
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
        """Return integers times their scales, in the dtype of `x`."""
        if x.dtype == torch.float64:
            return integers.double() * _match_axes(scales.double(), integers)
        info = torch.iinfo(integers.dtype)
        channel_axis = 0
        parameters = (scales, self.zeros, channel_axis, info.min, info.max, integers.dtype)
        if self.exports_float_weights and integers is self.weight:
            # The integers stay the same, but the exported graph gets float weights and an operator
            # that quantizes them.
            integers = _OPS.quantize_per_channel(self.rounded, *parameters)
        dequantized: Tensor = _OPS.dequantize_per_channel(integers, *parameters)
        return dequantized

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """Keep the buffers as they are when `double()`, `float()` or `to()` is called.

        `with_exact_arithmetic` calls `double()`, but the integers must stay integers, and the
        scales must stay the float32 numbers that the artifact contains.
        """
        return self


def compute_weight_scales(weight: Tensor, largest: int) -> Tensor:
    """Return the scale of every output channel of a weight.

    Args:
        weight: Weights, (output channels, ...).
        largest: The integer to which the largest absolute value of each channel is mapped.

    Returns:
        Scales, (output channels,), each above 0.
    """
    return (weight.flatten(1).abs().amax(1) / largest).clamp_min(_MIN_WEIGHT_SCALE)


def _match_axes(scales: Tensor, tensor: Tensor) -> Tensor:
    """Reshape scales, (output channels,), so that they broadcast to a weight or a bias."""
    return scales.reshape(-1, *[1] * (tensor.ndim - 1))
