"""Chooses the equalization of a network from the ranges of its channels on calibration images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.nn.attention import Attention
from tinyvit.nn.layers import MBConv, Mlp
from tinyvit.nn.model import TinyViT
from tinyvit.progress import NullProgress, Progress
from tinyvit.quant.channel_ranges.channel_scale_choice import find_channel_scales
from tinyvit.quant.channel_ranges.channel_scales import MAX_EXPONENT
from tinyvit.quant.channel_ranges.equalization import (
    MAX_OFFSET,
    Equalization,
    equalize_network,
    find_downsampling,
)
from tinyvit.quant.images.image_counts import choose_batch_size
from tinyvit.quant.images.normalized_images import NetworkInputs

MIN_ATTENTION_EXPONENT = 3
"""Queries and keys, or values and the columns of the output projection, are balanced if a channel
needs a factor of at least 2 to this power."""
NORM_OUTLIER_RATIO = 8.0
"""A LayerNorm gets a scale if the range of a channel is this many times that of the median one."""
HIDDEN_OUTLIER_RATIO = 4.0
"""Hidden channels get layers of their own if the largest range becomes smaller by this factor."""
MAX_HIDDEN_SHARE = 1 / 32
"""Largest share of the hidden channels of a block that get layers of their own."""
HIDDEN_GROUP = 8
"""The number of hidden channels with layers of their own is a multiple of this number, because
integer kernels work on groups of channels."""


@dataclass
class _ChannelRange:
    """The smallest and largest value of each channel of a tensor, (channels,)."""

    smallest: Tensor
    largest: Tensor

    @property
    def magnitude(self) -> Tensor:
        """Return the largest absolute value of each channel."""
        return torch.maximum(-self.smallest, self.largest)


def find_equalization(
    folded: TinyViT,
    images: NetworkInputs,
    progress: Progress = NullProgress(),
    *,
    multiplies: bool = True,
) -> Equalization:
    """Measure the ranges of channels, and choose what equalization changes.

    Args:
        folded: The folded float32 network (`tinyvit.nn.fold`).
        images: Normalized images, float32 (N, 3, H, W).
        progress: Receives the number of images that have passed through the network.
        multiplies: Whether channels may be rescaled by multiplications of their own
            (`Equalization.scales`).

    Returns:
        The changes, for `equalize_network`.
    """
    ranges = _measure_ranges(folded, images, progress)
    exponents: dict[str, tuple[int, ...]] = {}
    outliers: dict[str, tuple[int, ...]] = {}
    for name, module in folded.named_modules():
        if isinstance(module, Attention):
            exponents |= _choose_attention_exponents(module, name, ranges)
        if isinstance(module, (Attention, Mlp)):
            exponents |= _choose_norm_exponents(f"{name}.norm", ranges)
        if isinstance(module, (MBConv, Mlp)):
            hidden = [ranges[f"{name}.{layer}:in"].magnitude for layer in _hidden_inputs(module)]
            channels = choose_outliers(hidden)
            if channels:
                outliers[name] = channels
    equalization = Equalization(exponents, _choose_offsets(folded, ranges), outliers)
    if not multiplies:
        return equalization
    chosen = find_channel_scales(equalize_network(folded, equalization), images, progress)
    norms = {name: values for name, values in chosen.items() if name.endswith(".norm")}
    scales = {name: values for name, values in chosen.items() if name not in norms}
    return replace(equalization, exponents={**exponents, **norms}, scales=scales)


def _measure_ranges(
    folded: TinyViT, images: NetworkInputs, progress: Progress
) -> dict[str, _ChannelRange]:
    """Run the network, and return the channel ranges of the tensors that equalization looks at.

    Returns:
        The ranges by name: "module:in" for the input and "module:out" for the output of a module.
    """
    ranges: dict[str, _ChannelRange] = {}

    def make_hook(point: str, is_input: bool) -> Callable[[nn.Module, Any, Tensor], None]:
        def record(_: nn.Module, inputs: Any, output: Tensor) -> None:
            values = inputs[0] if is_input else output
            axes = (0,) if values.ndim == 2 else (0, 2, 3)
            smallest, largest = values.amin(axes), values.amax(axes)
            if point in ranges:
                smallest = torch.minimum(smallest, ranges[point].smallest)
                largest = torch.maximum(largest, ranges[point].largest)
            ranges[point] = _ChannelRange(smallest, largest)

        return record

    handles = []
    for name, is_input in _list_measured_tensors(folded):
        point = f"{name}:{'in' if is_input else 'out'}"
        module = folded.get_submodule(name)
        handles.append(module.register_forward_hook(make_hook(point, is_input)))
    try:
        with torch.inference_mode():
            batch_size = choose_batch_size(*images.shape[2:])
            for start in range(0, len(images), batch_size):
                folded(images[start : start + batch_size])
                finished = min(start + batch_size, len(images))
                progress.advance("measuring channels", finished, len(images))
    finally:
        for handle in handles:
            handle.remove()
    return ranges


def _list_measured_tensors(folded: TinyViT) -> Iterator[tuple[str, bool]]:
    """Yield the name of each module, and whether its input is measured instead of its output."""
    for name, module in folded.named_modules():
        if isinstance(module, Attention):
            for part in ("qkv.q", "qkv.k", "qkv.v", "norm"):
                yield f"{name}.{part}", False
        elif isinstance(module, Mlp):
            yield f"{name}.norm", False
        if isinstance(module, (MBConv, Mlp)):
            for layer in _hidden_inputs(module):
                yield f"{name}.{layer}", True
    for name in find_downsampling(folded):
        yield name, True


def _hidden_inputs(block: MBConv | Mlp) -> tuple[str, ...]:
    """Return the names of the layers of a block whose inputs are its hidden channels."""
    return ("fc2",) if isinstance(block, Mlp) else ("conv2", "conv3")


def _choose_attention_exponents(
    attention: Attention, name: str, ranges: Mapping[str, _ChannelRange]
) -> dict[str, tuple[int, ...]]:
    """Choose exponents of queries and values that balance each pair; none without outliers."""
    queries, keys, values = (ranges[f"{name}.qkv.{part}:out"].magnitude for part in "qkv")
    columns = attention.proj.weight.detach().abs().amax(0)
    exponents = {
        f"{name}.qkv.q": balance(queries, keys),
        f"{name}.qkv.v": balance(values, columns),
    }
    return {
        layer: chosen
        for layer, chosen in exponents.items()
        if max(map(abs, chosen)) >= MIN_ATTENTION_EXPONENT
    }


def balance(first: Tensor, second: Tensor) -> tuple[int, ...]:
    """Return the exponents e that make first * 2^e / (second / 2^e) the same for all channels.

    The ratio becomes the median of the ratios, up to the rounding of the exponents.

    Args:
        first: Ranges of the channels that are multiplied, (channels,).
        second: Ranges of the channels that are divided, (channels,).

    Returns:
        One exponent for each channel, from -`MAX_EXPONENT` to `MAX_EXPONENT`; 0 for a channel that
        is 0 in `first` or `second`.
    """
    ratios = (second.double() / first.double()).log2() / 2
    is_finite = ratios.isfinite()
    if not is_finite.any():
        return (0,) * len(ratios)
    center = ratios[is_finite].median()
    exponents = torch.where(is_finite, ratios - center, 0.0).round()
    return tuple(int(exponent) for exponent in exponents.clamp(-MAX_EXPONENT, MAX_EXPONENT))


def _choose_norm_exponents(
    name: str, ranges: Mapping[str, _ChannelRange]
) -> dict[str, tuple[int, ...]]:
    """Choose exponents for the outlier channels of a LayerNorm; nothing if there are none."""
    magnitude = ranges[f"{name}:out"].magnitude.double()
    typical = magnitude.median()
    if not magnitude.max() > NORM_OUTLIER_RATIO * typical > 0:
        return {}
    # An outlier channel keeps twice the range of the typical one, since its columns grow in turn.
    excess = (magnitude / (2 * typical)).log2().clamp(0, MAX_EXPONENT)
    return {name: tuple(-int(exponent) for exponent in excess.round())}


def choose_outliers(hidden: list[Tensor]) -> tuple[int, ...]:
    """Choose the hidden channels that get layers of their own.

    Args:
        hidden: The ranges of the hidden channels in each tensor that has them, (channels,) each.
            There is at least one tensor.

    Returns:
        The channels in ascending order; none if the largest range of every tensor would not become
        smaller by `HIDDEN_OUTLIER_RATIO`.
    """
    # A channel is as much of an outlier as in the tensor in which it is the largest outlier.
    excess = torch.stack([values / values.median().clamp_min(1e-30) for values in hidden]).amax(0)
    order = excess.argsort(descending=True, stable=True)
    largest_count = int(len(excess) * MAX_HIDDEN_SHARE) // HIDDEN_GROUP * HIDDEN_GROUP
    for count in range(HIDDEN_GROUP, largest_count + 1, HIDDEN_GROUP):
        rest = excess[order[count:]].max()
        if excess[order[0]] >= HIDDEN_OUTLIER_RATIO * rest:
            return tuple(sorted(order[:count].tolist()))
    return ()


def _choose_offsets(
    folded: TinyViT, ranges: Mapping[str, _ChannelRange]
) -> dict[str, tuple[float, ...]]:
    """Choose the centers of the channels as offsets where this halves the largest range."""
    offsets = {}
    for name in find_downsampling(folded):
        measured = ranges[f"{name}:in"]
        half_range = (measured.largest - measured.smallest) / 2
        if half_range.max() * 2 <= measured.magnitude.max() <= MAX_OFFSET:
            center = (measured.largest + measured.smallest) / 2
            offsets[name] = tuple(round(value, 3) for value in center.tolist())
    return offsets
