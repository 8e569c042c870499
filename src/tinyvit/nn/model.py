"""TinyViT as a PyTorch module, written for export.

The same module is trained and, after folding (see `tinyvit.nn.fold`), exported. Its parameters have
the names of timm's, so it loads timm's state dicts unchanged. The architecture is described in
section 4 of the paper (see `tinyvit.variants`) and in microsoft/Cream, TinyViT/models/tiny_vit.py.

Convolutions work on feature maps (B, C, H, W). Attention and MLPs work on matrices of tokens
(B * H * W, C), one row per token: image by image, row by row ("row order"). Linear layers are then
plain matrix products. No tensor has more than four dimensions, and no branch depends on the values
of a tensor.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyvit.variants import HEAD_DIM, MLP_RATIO, Variant, compute_window_sizes


class ConvNorm(nn.Sequential):
    """Convolution without bias, followed by BatchNorm: (B, in, H, W) to (B, out, H/s, W/s)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        """Create the layers with random weights.

        Args:
            in_channels: Channels of the input.
            out_channels: Channels of the output.
            kernel: Side of the kernel; the padding is half of it, rounded down.
            stride: Stride s of the convolution.
            groups: Number of channel groups; `in_channels` for a depthwise convolution.
        """
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)


class PatchEmbed(nn.Module):
    """Two strided convolutions: image (B, 3, S, S) to feature map (B, dim, S/4, S/4)."""

    def __init__(self, dim: int) -> None:
        """Create the layers with random weights.

        Args:
            dim: Channels of the output.
        """
        super().__init__()
        self.conv1 = ConvNorm(3, dim // 2, 3, stride=2)
        self.conv2 = ConvNorm(dim // 2, dim, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the feature map (B, dim, S/4, S/4) of normalized images (B, 3, S, S)."""
        return self.conv2(F.gelu(self.conv1(x)))  # type: ignore[no-any-return]


class MBConv(nn.Module):
    """Inverted bottleneck block of the first stage, with a residual connection."""

    def __init__(self, dim: int) -> None:
        """Create the layers with random weights.

        Args:
            dim: Channels of the input and output.
        """
        super().__init__()
        hidden = MLP_RATIO * dim
        self.conv1 = ConvNorm(dim, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Compute a feature map of the same shape (B, dim, H, W)."""
        y = F.gelu(self.conv1(x))
        y = F.gelu(self.conv2(y))
        return F.gelu(x + self.conv3(y))


class PatchMerging(nn.Module):
    """Downsampling between stages: (B, in, H, W) to (B, out, H/2, W/2)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        """Create the layers with random weights.

        Args:
            in_dim: Channels of the input.
            out_dim: Channels of the output.
        """
        super().__init__()
        self.conv1 = ConvNorm(in_dim, out_dim)
        self.conv2 = ConvNorm(out_dim, out_dim, 3, stride=2, groups=out_dim)
        self.conv3 = ConvNorm(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Compute a feature map (B, out, H/2, W/2) from one of shape (B, in, H, W)."""
        y = F.gelu(self.conv1(x))
        y = F.gelu(self.conv2(y))
        return self.conv3(y)  # type: ignore[no-any-return]


class FusedProjection(nn.Linear):
    """Projection to queries, keys and values by one linear layer, as in checkpoints.

    The rows of its weight are, for each head in turn, those of the queries, the keys and the
    values.
    """

    def __init__(self, dim: int) -> None:
        """Create the layer with random weights.

        Args:
            dim: Channels of the tokens, a multiple of HEAD_DIM.
        """
        super().__init__(dim, 3 * dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Project tokens to queries, keys and values.

        Args:
            x: Tokens (N, dim).

        Returns:
            Queries, already multiplied by 1 / sqrt(HEAD_DIM), keys and values, (N, dim) each.
        """
        q, k, v = (
            super().forward(x).reshape(-1, self.in_features // HEAD_DIM, 3, HEAD_DIM).unbind(2)
        )
        return (q * HEAD_DIM**-0.5).flatten(1), k.flatten(1), v.flatten(1)


class SplitProjection(nn.Module):
    """Projection to queries, keys and values by one linear layer each, as in folded networks."""

    def __init__(self, q: nn.Linear, k: nn.Linear, v: nn.Linear) -> None:
        """Combine three linear layers.

        Args:
            q: Layer for the queries; its weights contain the factor 1 / sqrt(HEAD_DIM).
            k: Layer for the keys.
            v: Layer for the values.
        """
        super().__init__()
        self.q, self.k, self.v = q, k, v

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project tokens (N, dim) to queries, keys and values, (N, dim) each."""
        return self.q(x), self.k(x), self.v(x)


class Attention(nn.Module):
    """Multi-head self-attention within square windows, with learned biases.

    Each head has one bias for each distance (in rows and columns) between two tokens of a window,
    which is added to their attention score.
    """

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        """Create the layers with random weights.

        Args:
            dim: Channels of the tokens, `num_heads` times HEAD_DIM.
            num_heads: Number of heads.
            window: Side of a window in tokens.
        """
        super().__init__()
        self.num_heads = num_heads
        self.tokens = window * window  # number of tokens in one window
        self.norm = nn.LayerNorm(dim)
        self.qkv: nn.Module = FusedProjection(dim)
        self.proj = nn.Linear(dim, dim)
        self.softmax = nn.Softmax(-1)
        # One bias for each distance (rows, columns), of which there are window**2.
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, self.tokens))

    def forward(self, x: Tensor, bias_index: Tensor) -> Tensor:
        """Compute attention within each window.

        Args:
            x: Tokens (windows * window**2, dim), window by window.
            bias_index: Result of `make_bias_index(window)`, int32 (window**4,).

        Returns:
            Tokens in the same order and shape, without the residual connection.
        """
        n, heads = self.tokens, self.num_heads
        bias = self.attention_biases.index_select(1, bias_index).reshape(heads, n, n)
        q, k, v = self.qkv(self.norm(x))
        # If there is one window, there is no axis for windows, so that onnxruntime can remove
        # transposes.
        if x.shape[0] == n:
            q, k, v = (t.reshape(n, heads, HEAD_DIM) for t in (q, k, v))
            keys = k.permute(1, 2, 0)
        else:
            q, k, v = (t.reshape(-1, n, heads, HEAD_DIM) for t in (q, k, v))
            keys = k.permute(0, 2, 3, 1)
        weights = self.softmax(q.transpose(-3, -2) @ keys + bias)
        mixed = (weights @ v.transpose(-3, -2)).transpose(-3, -2)
        return self.proj(mixed.reshape(-1, heads * HEAD_DIM))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """LayerNorm and two linear layers with a GELU between them."""

    def __init__(self, dim: int) -> None:
        """Create the layers with random weights.

        Args:
            dim: Channels of the tokens.
        """
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Compute tokens of the same shape (N, dim), without the residual connection."""
        return self.fc2(F.gelu(self.fc1(self.norm(x))))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Window attention, a depthwise convolution and an MLP, as in figure 2 of the paper."""

    def __init__(self, dim: int, num_heads: int, window: int, resolution: int) -> None:
        """Create the layers with random weights.

        Args:
            dim: Channels of the tokens.
            num_heads: Number of attention heads.
            window: Side of an attention window in tokens.
            resolution: Side of the feature map in tokens, a multiple of `window`.
        """
        super().__init__()
        self.dim, self.window, self.resolution = dim, window, resolution
        self.attn = Attention(dim, num_heads, window)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor, bias_index: Tensor) -> Tensor:
        """Compute attention, convolution and MLP.

        Args:
            x: Tokens (B * resolution**2, dim) in row order.
            bias_index: Result of `make_bias_index(window)`, int32 (window**4,).

        Returns:
            Tokens in the same order and shape.
        """
        y = self._reorder(x, self.window, self.resolution // self.window)
        y = self.attn(y, bias_index)
        x = x + self._reorder(y, self.resolution // self.window, self.window)
        x = map_to_tokens(self.local_conv(tokens_to_map(x, self.resolution)))
        return x + self.mlp(x)  # type: ignore[no-any-return]

    def _reorder(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Change the order of tokens from row by row to window by window, or back.

        A group is the tokens of one image row inside one window; they stay together. A row of
        windows holds `window` image rows of `resolution // window` groups each. In row order, its
        groups are a matrix of this shape, in window order the transposed matrix.

        Args:
            x: Tokens (B * resolution**2, dim).
            rows: Rows of the matrix of groups in the order of `x`.
            columns: Columns of that matrix.
        """
        if self.window == self.resolution:
            return x
        reordered = x.reshape(-1, rows, columns, self.window * self.dim).transpose(1, 2)
        return reordered.reshape(-1, self.dim)


class ConvStage(nn.Module):
    """The first stage, made of MBConv blocks."""

    def __init__(self, dim: int, depth: int) -> None:
        """Create the blocks with random weights.

        Args:
            dim: Channels of the input and output.
            depth: Number of blocks.
        """
        super().__init__()
        self.blocks = nn.Sequential(*(MBConv(dim) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """Compute a feature map of the same shape (B, dim, H, W)."""
        return self.blocks(x)  # type: ignore[no-any-return]


class AttentionStage(nn.Module):
    """The second, third or fourth stage: downsampling, then attention blocks."""

    def __init__(
        self, in_dim: int, dim: int, depth: int, num_heads: int, window: int, resolution: int
    ) -> None:
        """Create the layers with random weights.

        Args:
            in_dim: Channels of the input.
            dim: Channels of the output.
            depth: Number of blocks.
            num_heads: Number of attention heads.
            window: Side of an attention window in tokens.
            resolution: Side of the feature map after downsampling, in tokens.
        """
        super().__init__()
        self.window, self.resolution = window, resolution
        self.downsample = PatchMerging(in_dim, dim)
        self.blocks = nn.ModuleList(Block(dim, num_heads, window, resolution) for _ in range(depth))

    def forward(self, x: Tensor, bias_index: Tensor) -> Tensor:
        """Downsample a feature map, then apply the blocks.

        Args:
            x: Feature map (B, in_dim, 2 * resolution, 2 * resolution).
            bias_index: Result of `make_bias_index(window)`, int32 (window**4,).

        Returns:
            Tokens (B * resolution**2, dim) in row order.
        """
        x = map_to_tokens(self.downsample(x))
        for block in self.blocks:
            x = block(x, bias_index)
        return x


class Head(nn.Module):
    """LayerNorm and the linear classifier."""

    def __init__(self, dim: int, num_classes: int) -> None:
        """Create the layers with random weights.

        Args:
            dim: Channels of the pooled features.
            num_classes: Number of classes.
        """
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, num_classes) from pooled features (B, dim)."""
        return self.fc(self.norm(x))  # type: ignore[no-any-return]


class TinyViT(nn.Module):
    """The TinyViT network for classification.

    Attributes:
        variant: The architecture.
        num_classes: Number of classes.
        img_size: Side of the square input in pixels.
    """

    def __init__(
        self, variant: Variant, num_classes: int = 1000, img_size: int | None = None
    ) -> None:
        """Create the network with random weights.

        Args:
            variant: The architecture.
            num_classes: Number of classes.
            img_size: Side of the square input in pixels, a multiple of 32; by default that of the
                variant. The sizes of the windows and the number of attention biases depend on it.
        """
        super().__init__()
        self.variant, self.num_classes = variant, num_classes
        self.img_size = img_size or variant.img_size
        dims, window_sizes = variant.embed_dims, compute_window_sizes(self.img_size)
        self.patch_embed = PatchEmbed(dims[0])
        self.stages = nn.ModuleList([ConvStage(dims[0], variant.depths[0])])
        for i in (1, 2, 3):
            stage = AttentionStage(
                dims[i - 1],
                dims[i],
                variant.depths[i],
                variant.num_heads[i],
                window_sizes[i],
                resolution=self.img_size // 2 ** (i + 2),
            )
            self.stages.append(stage)
        self.head = Head(dims[3], num_classes)
        for side in sorted(set(window_sizes)):
            self.register_buffer(f"bias_index_{side}", make_bias_index(side), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits of images.

        Args:
            image: Normalized images, float32 (B, 3, img_size, img_size).

        Returns:
            Logits, float32 (B, num_classes).
        """
        x = self.stages[0](self.patch_embed(image))
        resolution = self.img_size // 4
        for stage in self.stages[1:]:
            feature_map = tokens_to_map(x, resolution) if x.ndim == 2 else x
            x = stage(feature_map, self.get_buffer(f"bias_index_{stage.window}"))
            resolution //= 2
        x = x.reshape(-1, resolution**2, x.shape[1]).mean(1)
        return self.head(x)  # type: ignore[no-any-return]


def tokens_to_map(x: Tensor, resolution: int) -> Tensor:
    """Convert tokens to a feature map.

    Args:
        x: Tokens (B * resolution**2, C) in row order.
        resolution: Side of the map in tokens.

    Returns:
        A view (B, C, resolution, resolution).
    """
    return x.reshape(-1, resolution, resolution, x.shape[1]).permute(0, 3, 1, 2)


def map_to_tokens(x: Tensor) -> Tensor:
    """Convert a feature map (B, C, H, W) to tokens (B * H * W, C) in row order."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def make_bias_index(window: int) -> Tensor:
    """Compute for each pair of tokens of a window the index of its attention bias.

    A head has window**2 biases. The index of the bias for a distance of r rows and c columns is
    r * window + c. This is the order of the biases in the paper's code (microsoft/Cream,
    TinyViT/models/tiny_vit.py, Attention).

    Args:
        window: Side of the window in tokens.

    Returns:
        Indices int32 (window**4,): for each query token in row order, those of all key tokens.
    """
    position = torch.arange(window, dtype=torch.int32)
    distance = (position[:, None] - position[None]).abs()
    return (distance[:, None, :, None] * window + distance[None, :, None, :]).reshape(-1)
