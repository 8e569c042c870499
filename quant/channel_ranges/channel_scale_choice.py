"""Chooses the channels that are rescaled between two layers, from samples of the tensors.

For each tensor, several sets of factors are tried on a sample of its values. The error that int8
adds to the output of the next layer is predicted from the rounding of the input and of the weights.
The best factors are used if they reduce this error several times.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tinyvit.nn.attention import Attention, SplitProjection
from tinyvit.nn.layers import Mlp
from tinyvit.nn.model import TinyViT
from tinyvit.progress import NullProgress, Progress
from tinyvit.quant.channel_ranges.channel_scales import (
    INPUT,
    MAX_EXPONENT,
    OUTPUT,
    find_scale_points,
    is_depthwise,
    scaled_layer_name,
)
from tinyvit.quant.channel_ranges.tensor_samples import TensorSample, sample_tensors
from tinyvit.quant.images.normalized_images import NetworkInputs
from tinyvit.quant_scheme import FLOAT_LAYERS

MIN_OUTLIER_RATIO = 6.0
"""Channels are rescaled only if the largest range is this many times that of the median channel,
in the tensor or in the weights that it is multiplied by."""
MIN_GAIN = 4.0
"""Channels are rescaled only if the predicted error becomes smaller by this factor."""
SAMPLE_IMAGES = 64
"""Largest number of images from which samples are taken."""
_MIGRATIONS = (0.5, 0.75, 1.0)
"""Shares of the difference between channels that move from the activations into the weights."""
_KEPT_RATIOS = (1.0, 2.0, 4.0)
"""Range of a channel, divided by the median one, above which alone channels are made smaller."""
_CLIPPED_RANGES = (1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1)
"""Shares of the largest value that a scale may represent; the observer chooses like this."""
_WEIGHT_LIMIT, _ACTIVATION_LIMIT = 63, 127
"""Largest integers of weights and of activations."""


def find_channel_scales(
    equalized: TinyViT, images: NetworkInputs, progress: Progress = NullProgress()
) -> dict[str, tuple[int, ...]]:
    """Choose the tensors whose channels are rescaled, and the factors.

    Args:
        equalized: The folded float32 network, after the other kinds of equalization.
        images: Normalized images, float32 (N, 3, H, W).
        progress: Receives the number of images that have passed through the network.

    Returns:
        Exponents of the factors for `rescale_channels`, by the name of the `ScalePoint`, and for
        the LayerNorms in `Equalization.exponents`, by the name of the LayerNorm.
    """
    spaced = images[:: max(1, -(-len(images) // SAMPLE_IMAGES))]
    names = _list_sampled_tensors(equalized)
    samples = sample_tensors(equalized, names, spaced, progress)
    exponents = {}
    for name, sample in samples.items():
        if name.endswith(OUTPUT):
            chosen = choose_output_exponents(sample.magnitude, _output_importance(equalized, name))
        else:
            weight, importance = _weights_after(equalized, name)
            chosen = choose_input_exponents(sample, weight, importance)
        if chosen:
            exponents[name] = chosen
    return exponents


def choose_input_exponents(
    sample: TensorSample, weight: Tensor, importance: Tensor | None = None
) -> tuple[int, ...]:
    """Choose factors for the channels of the input of a layer.

    Args:
        sample: Values of the input.
        weight: Weights of the layer, (output channels, channels, ...).
        importance: For a depthwise convolution, the energy of the weights that each channel is
            multiplied by, (channels,). Its own weights then have one scale for each channel, so the
            factors do not change their rounding.

    Returns:
        The exponents; nothing if no factors are much better than none.
    """
    magnitude, columns = sample.magnitude.double(), weight.double().abs()
    columns = columns.amax(tuple(i for i in range(columns.ndim) if i != 1))
    if importance is not None:
        columns = torch.ones_like(magnitude)
    if max(_outlier_ratio(magnitude), _outlier_ratio(columns)) < MIN_OUTLIER_RATIO:
        return ()
    unscaled_error = predict_error(sample, weight, torch.ones_like(magnitude), importance)
    best: tuple[int, ...] = ()
    best_error = unscaled_error / MIN_GAIN
    for exponents in _propose_exponents(magnitude, columns):
        error = predict_error(sample, weight, exponents.exp2(), importance)
        if error < best_error:
            best, best_error = tuple(int(value) for value in exponents), error
    return best


def choose_output_exponents(magnitude: Tensor, importance: Tensor) -> tuple[int, ...]:
    """Choose factors that give the channels of the output of a layer similar ranges.

    The weights of the layer have one scale for each channel, so the factors cost no accuracy.

    Args:
        magnitude: The largest absolute value of each channel, (channels,).
        importance: The energy of the weights that each channel is multiplied by, (channels,).

    Returns:
        The exponents, by which channels are multiplied after the layer; nothing if the factors
        would not be much better than none.
    """
    ranges, weights = magnitude.double(), importance.double()
    if _outlier_ratio(ranges) < MIN_OUTLIER_RATIO:
        return ()
    exponents = (ranges / ranges.median()).log2()
    exponents = _round_exponents(torch.where(ranges > 0, exponents, 0.0))
    scaled = (ranges / exponents.exp2()).amax() * exponents.exp2()
    gain = ranges.amax() ** 2 * weights.sum() / (scaled.square() * weights).sum()
    return tuple(int(value) for value in exponents) if gain >= MIN_GAIN else ()


def predict_error(
    sample: TensorSample, weight: Tensor, factors: Tensor, importance: Tensor | None = None
) -> float:
    """Predict the mean square error of int8 in the output of a layer, summed over its channels.

    Args:
        sample: Values of the input.
        weight: Weights of the layer, (output channels, channels, ...).
        factors: Factors by which the channels of the input are multiplied, (channels,).
        importance: See `choose_input_exponents`.
    """
    scaled = sample.rows * factors.float()
    largest = float(scaled.abs().amax())
    errors = []
    for share in _CLIPPED_RANGES:
        step = max(share * largest, 1e-30) / _ACTIVATION_LIMIT
        rounded = (scaled / step).round().clamp(-_ACTIVATION_LIMIT - 1, _ACTIVATION_LIMIT) * step
        errors.append(sample.average((rounded - scaled).square()))
    activation_error = min(errors, key=lambda error: float(error.sum())) / factors.square()
    if importance is not None:
        return float((activation_error * importance).sum())
    columns = weight.double().flatten(2) if weight.ndim > 2 else weight.double()[:, :, None]
    divided = columns / factors[:, None]
    steps = divided.abs().amax((1, 2), keepdim=True).clamp_min(1e-30) / _WEIGHT_LIMIT
    weight_error = ((divided / steps).round() * steps - divided).square().sum((0, 2))
    energy = sample.average(sample.rows.square()) * factors.square()
    activation_part = (activation_error * columns.square().sum((0, 2))).sum()
    return float(activation_part + (weight_error * energy).sum())


def _propose_exponents(magnitude: Tensor, columns: Tensor) -> Iterator[Tensor]:
    """Yield exponents to try, float64 (channels,) each, given the ranges of both operands."""
    is_used = (magnitude > 0) & (columns > 0)
    ranges = torch.where(is_used, magnitude / magnitude.median().clamp_min(1e-30), 1.0).log2()
    weights = torch.where(is_used, columns / columns.median().clamp_min(1e-30), 1.0).log2()
    for share in _MIGRATIONS:
        yield _round_exponents((1 - share) * weights - share * ranges)
    for ratio in _KEPT_RATIOS:
        yield _round_exponents(-(ranges - torch.tensor(ratio).log2()).clamp_min(0))


def _round_exponents(exponents: Tensor) -> Tensor:
    return exponents.round().clamp(-MAX_EXPONENT, MAX_EXPONENT)


def _outlier_ratio(ranges: Tensor) -> float:
    """Return the largest range, divided by the median of those that are not 0."""
    used = ranges[ranges > 0]
    return float(used.max() / used.median()) if len(used) else 1.0


def _weights_after(network: nn.Module, name: str) -> tuple[Tensor, Tensor | None]:
    """Return the weight that a tensor is multiplied by, and its importance if it is depthwise."""
    if not name.endswith(INPUT):
        parent = network.get_submodule(name.rpartition(".")[0])
        if isinstance(parent, Mlp):
            return parent.fc1.weight, None
        assert isinstance(parent, Attention)
        assert isinstance(parent.qkv, SplitProjection)
        return torch.cat([layer.get_parameter("weight") for layer in parent.qkv.children()]), None
    layer_name = scaled_layer_name(name)
    weight = network.get_submodule(layer_name).get_parameter("weight")
    if not is_depthwise(network.get_submodule(layer_name)):
        return weight, None
    return weight, _row_energy(weight) * _column_energy(network, layer_name[:-1] + "3")


def _output_importance(network: nn.Module, name: str) -> Tensor:
    """Return the energy of the weights after the output of a layer, (channels,).

    It is 1 for outputs that are added to the residual stream, which many layers use.
    """
    layer_name = scaled_layer_name(name)
    stem, number = layer_name[:-1], int(layer_name[-1])
    layers = dict(network.named_modules())
    following = layers.get(f"{stem}{number + 1}")
    if following is None:
        weight = layers[layer_name].get_parameter("weight")
        return torch.ones(len(weight), dtype=torch.float64)
    if is_depthwise(following):
        energy = _row_energy(following.get_parameter("weight"))
        return energy * _column_energy(network, f"{stem}{number + 2}")
    return _column_energy(network, f"{stem}{number + 1}")


def _row_energy(weight: Tensor) -> Tensor:
    """Return the sum of the squares of each output channel of a weight."""
    return weight.double().flatten(1).square().sum(1)


def _column_energy(network: nn.Module, layer_name: str) -> Tensor:
    """Return the sum of the squares of each input channel of the weight of a layer."""
    weight = network.get_submodule(layer_name).get_parameter("weight").double()
    return weight.square().sum(tuple(i for i in range(weight.ndim) if i != 1))


def _list_sampled_tensors(network: TinyViT) -> list[str]:
    """Return the names of the scale points, and of LayerNorms that have no scale yet."""
    points = [
        name
        for name in find_scale_points(network)
        if not scaled_layer_name(name).endswith(FLOAT_LAYERS)
    ]
    for name, module in network.named_modules():
        if isinstance(module, (Attention, Mlp)) and module.norm.weight is None:
            points.append(f"{name}.norm")
    return points
