"""Layers of TinyViT other than attention, and conversion between feature maps and tokens.

A feature map has the shape (B, C, H, W). Its values are also stored as a matrix (B * H * W, C), in
which each row is a token: one position of the feature map. Tokens are sorted image by image and row
by row ("row order").
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tinyvit.variants import MLP_RATIO


class TensorPoint(nn.Identity):
    """Names a tensor that no layer computes, such as a sum, and returns it unchanged.

    Calibration observes the tensor by this name. For NPUs, which need every tensor quantized, a
    quantizer takes the place of this module (`tinyvit.quant.tensor_points`). It adds nothing to an
    exported graph.
    """


class ScalePoint(nn.Identity):
    """Names a tensor whose channels equalization may rescale, and returns it unchanged.

    The name is that of a layer of the same module, followed by "_input" for the input of the layer
    or "_output" for its output. A `ChannelScale` takes the place of this module where channels are
    rescaled (`tinyvit.quant.channel_ranges.channel_scales`). It adds nothing to an exported graph.
    """


class ChannelScale(nn.Module):
    """Multiplies each channel by a constant.

    Attributes:
        factors: The constants, float32 (channels,) for tokens, (channels, 1, 1) for feature maps.
    """

    factors: Tensor

    def __init__(self, factors: Tensor, is_map: bool) -> None:
        """Store the factors.

        Args:
            factors: One factor for each channel, (channels,).
            is_map: Whether the tensor is a feature map (B, C, H, W) instead of tokens (N, C).
        """
        super().__init__()
        self.register_buffer("factors", factors.reshape(-1, 1, 1) if is_map else factors)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply the channels of tokens or of a feature map."""
        return x * self.factors


class ConvNorm(nn.Sequential):
    """Convolution without bias, then BatchNorm.

    With stride s, the shape (B, in, H, W) becomes (B, out, H/s, W/s), rounded up.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        """Create the layers with random weights.

        Args:
            in_channels: Channels of the input.
            out_channels: Channels of the output.
            kernel: Side of the kernel; the padding is half of it, rounded down.
            stride: Stride of the convolution.
            groups: Number of channel groups; `in_channels` for a depthwise convolution.
        """
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=kernel // 2,
            groups=groups,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(out_channels)


class PatchEmbed(nn.Module):
    """Two convolutions of stride 2 with GELU between them: an image becomes a feature map."""

    def __init__(self, dim: int) -> None:
        """Create the layers with random weights.

        Args:
            dim: Channels of the output.
        """
        super().__init__()
        self.conv1 = ConvNorm(3, dim // 2, kernel=3, stride=2)
        self.conv2 = ConvNorm(dim // 2, dim, kernel=3, stride=2)
        self.conv2_input, self.conv2_output = ScalePoint(), ScalePoint()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the feature map (B, dim, H/4, W/4) of normalized images (B, 3, H, W)."""
        y = self.conv2(self.conv2_input(F.gelu(self.conv1(x))))
        return self.conv2_output(y)  # type: ignore[no-any-return]


class MBConv(nn.Module):
    """Inverted bottleneck block of the first stage, with a residual connection.

    Attributes:
        outliers: Computes the contribution of some of the hidden channels, which then have no
            weights in the other layers (see `tinyvit.quant.channel_ranges.equalization`); None if
            the other layers have all hidden channels.
    """

    def __init__(self, dim: int) -> None:
        """Create the layers with random weights.

        Args:
            dim: Channels of the input and output.
        """
        super().__init__()
        hidden = MLP_RATIO * dim
        self.conv1 = ConvNorm(dim, hidden)
        self.conv2 = ConvNorm(hidden, hidden, kernel=3, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim)
        self.outliers: nn.Module | None = None
        self.outlier_sum, self.residual_sum = TensorPoint(), TensorPoint()
        self.output = TensorPoint()
        self.conv1_input, self.conv1_output = ScalePoint(), ScalePoint()
        self.conv2_input, self.conv2_output = ScalePoint(), ScalePoint()
        self.conv3_input, self.conv3_output = ScalePoint(), ScalePoint()

    def forward(self, x: Tensor) -> Tensor:
        """Compute a feature map of the same shape (B, dim, H, W)."""
        y = F.gelu(self.conv1_output(self.conv1(self.conv1_input(x))))
        y = F.gelu(self.conv2_output(self.conv2(self.conv2_input(y))))
        y = self.conv3_output(self.conv3(self.conv3_input(y)))
        if self.outliers is not None:
            y = self.outlier_sum(y + self.outliers(x))
        return self.output(F.gelu(self.residual_sum(x + y)))  # type: ignore[no-any-return]


class PatchMerging(nn.Module):
    """Downsampling between two stages: 1 x 1, depthwise (strided) and 1 x 1 convolution."""

    def __init__(self, in_dim: int, out_dim: int, stride: int = 2) -> None:
        """Create the layers with random weights.

        Args:
            in_dim: Channels of the input.
            out_dim: Channels of the output.
            stride: Stride of the depthwise convolution; 1 keeps the height and the width.
        """
        super().__init__()
        self.conv1 = ConvNorm(in_dim, out_dim)
        self.conv2 = ConvNorm(out_dim, out_dim, kernel=3, stride=stride, groups=out_dim)
        self.conv3 = ConvNorm(out_dim, out_dim)
        self.conv1_input, self.conv1_output = ScalePoint(), ScalePoint()
        self.conv3_input, self.conv3_output = ScalePoint(), ScalePoint()

    def forward(self, x: Tensor) -> Tensor:
        """Compute a feature map (B, out, H/stride, W/stride) from one of shape (B, in, H, W)."""
        y = F.gelu(self.conv1_output(self.conv1(self.conv1_input(x))))
        y = F.gelu(self.conv2(y))
        y = self.conv3(self.conv3_input(y))
        return self.conv3_output(y)  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """LayerNorm and two linear layers with a GELU between them.

    Attributes:
        outliers: Computes the contribution of some of the hidden channels, which then have no
            weights in the other layers (see `tinyvit.quant.channel_ranges.equalization`); None if
            the other layers have all hidden channels.
    """

    def __init__(self, dim: int) -> None:
        """Create the layers with random weights.

        Args:
            dim: Channels of the tokens.
        """
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)
        self.outliers: nn.Module | None = None
        self.outlier_sum = TensorPoint()
        self.fc1_output, self.fc2_input = ScalePoint(), ScalePoint()

    def forward(self, x: Tensor) -> Tensor:
        """Compute tokens of the same shape (N, dim), without the residual connection."""
        normalized = self.norm(x)
        y = self.fc2(self.fc2_input(F.gelu(self.fc1_output(self.fc1(normalized)))))
        if self.outliers is not None:
            y = self.outlier_sum(y + self.outliers(normalized))
        return y  # type: ignore[no-any-return]


def tokens_to_map(x: Tensor, height: int, width: int) -> Tensor:
    """Convert tokens to a feature map.

    Args:
        x: Tokens (B * height * width, C) in row order.
        height: Height of the map in tokens.
        width: Width of the map in tokens.

    Returns:
        A view (B, C, height, width).
    """
    return x.reshape(-1, height, width, x.shape[1]).permute(0, 3, 1, 2)


def map_to_tokens(x: Tensor) -> Tensor:
    """Convert a feature map (B, C, H, W) to tokens (B * H * W, C) in row order."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
