"""TinyViT as a torch module, written for export: the same module trains and, once folded (fold.py), is exported.

Parameter names are timm's, so a timm state dict loads as it is. Tokens travel as (tokens, channels) matrices, which
lower to plain matrix products; convolutions see NCHW. No tensor has more than four dimensions, and no branch depends
on data. Architecture: section 4 of the paper and microsoft/Cream, TinyViT/models/tiny_vit.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyvit.variants import HEAD_DIM, MLP_RATIO, Variant, windows


class ConvNorm(nn.Sequential):
    """Convolution without bias and its BatchNorm; (B, in, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)


class PatchEmbed(nn.Module):
    """Image to features at a quarter of its size: (B, 3, S, S) -> (B, dim, S/4, S/4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, dim // 2, 3, stride=2)
        self.conv2 = ConvNorm(dim // 2, dim, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """float32 NCHW -> float32 NCHW."""
        return self.conv2(F.gelu(self.conv1(x)))  # type: ignore[no-any-return]


class MBConv(nn.Module):
    """Inverted bottleneck of the first stage; keeps its shape (B, dim, H, W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = MLP_RATIO * dim
        self.conv1 = ConvNorm(dim, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """float32 NCHW -> float32 NCHW."""
        y = F.gelu(self.conv1(x))
        y = F.gelu(self.conv2(y))
        return F.gelu(x + self.conv3(y))


class PatchMerging(nn.Module):
    """Halves the resolution between stages: (B, in, H, W) -> (B, out, H/2, W/2)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_dim, out_dim)
        self.conv2 = ConvNorm(out_dim, out_dim, 3, stride=2, groups=out_dim)
        self.conv3 = ConvNorm(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """float32 NCHW -> float32 NCHW."""
        y = F.gelu(self.conv1(x))
        y = F.gelu(self.conv2(y))
        return self.conv3(y)  # type: ignore[no-any-return]


class FusedProjection(nn.Linear):
    """Queries, keys and values as checkpoints store them: one matrix, interleaved by head."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 3 * dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """(tokens, dim) -> three of (tokens, dim), the queries scaled by 1 / sqrt(HEAD_DIM)."""
        q, k, v = (
            super().forward(x).reshape(-1, self.in_features // HEAD_DIM, 3, HEAD_DIM).unbind(2)
        )
        return (q * HEAD_DIM**-0.5).flatten(1), k.flatten(1), v.flatten(1)


class SplitProjection(nn.Module):
    """The same after folding: three matrices, so that nothing has to be split, the scale inside the first."""

    def __init__(self, q: nn.Linear, k: nn.Linear, v: nn.Linear) -> None:
        super().__init__()
        self.q, self.k, self.v = q, k, v

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(tokens, dim) -> three of (tokens, dim)."""
        return self.q(x), self.k(x), self.v(x)


class Attention(nn.Module):
    """Self-attention within windows, with a bias for each head and each pair's distance in rows and columns."""

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads, self.tokens = num_heads, window * window
        self.norm = nn.LayerNorm(dim)
        self.qkv: nn.Module = FusedProjection(dim)
        self.proj = nn.Linear(dim, dim)
        self.softmax = nn.Softmax(-1)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, self.tokens))

    def forward(self, x: Tensor, bias_index: Tensor) -> Tensor:
        """(windows * window**2, dim), window by window -> the same shape. bias_index: see `attention_bias_index`."""
        n, heads = self.tokens, self.num_heads
        bias = self.attention_biases.index_select(1, bias_index).reshape(heads, n, n)
        q, k, v = self.qkv(self.norm(x))
        if (
            x.shape[0] == n
        ):  # a single window needs no axis for windows: onnxruntime then folds the transposes away
            q, k, v = (t.reshape(n, heads, HEAD_DIM) for t in (q, k, v))
            keys = k.permute(1, 2, 0)
        else:
            q, k, v = (t.reshape(-1, n, heads, HEAD_DIM) for t in (q, k, v))
            keys = k.permute(0, 2, 3, 1)
        weights = self.softmax(q.transpose(-3, -2) @ keys + bias)
        mixed = (weights @ v.transpose(-3, -2)).transpose(-3, -2)
        return self.proj(mixed.reshape(-1, heads * HEAD_DIM))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two linear layers with a GELU between, after a LayerNorm; keeps its shape (tokens, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(tokens, dim) -> (tokens, dim)."""
        return self.fc2(F.gelu(self.fc1(self.norm(x))))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Window attention, a depthwise convolution and an MLP on a feature map of resolution x resolution tokens."""

    def __init__(self, dim: int, num_heads: int, window: int, resolution: int) -> None:
        super().__init__()
        self.dim, self.window, self.resolution = dim, window, resolution
        self.attn = Attention(dim, num_heads, window)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor, bias_index: Tensor) -> Tensor:
        """(B * resolution**2, dim), row by row -> the same shape."""
        y = self._swap(x, self.window, self.resolution // self.window)
        y = self.attn(y, bias_index)
        x = x + self._swap(y, self.resolution // self.window, self.window)
        x = from_map(self.local_conv(to_map(x, self.resolution)))
        return x + self.mlp(x)  # type: ignore[no-any-return]

    def _swap(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Between row order and window order of tokens: within a row of windows, (rows, columns) becomes (columns, rows)."""
        if self.window == self.resolution:
            return x
        swapped = x.reshape(-1, rows, columns, self.window * self.dim).transpose(1, 2)
        return swapped.reshape(-1, self.dim)


class ConvStage(nn.Module):
    """The first stage: (B, dim, H, W) -> the same shape."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(MBConv(dim) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """float32 NCHW -> float32 NCHW."""
        return self.blocks(x)  # type: ignore[no-any-return]


class AttentionStage(nn.Module):
    """A later stage: (B, in, 2R, 2R) -> (B * R * R, out) tokens, row by row."""

    def __init__(
        self, in_dim: int, dim: int, depth: int, num_heads: int, window: int, resolution: int
    ) -> None:
        super().__init__()
        self.window, self.resolution = window, resolution
        self.downsample = PatchMerging(in_dim, dim)
        self.blocks = nn.ModuleList(Block(dim, num_heads, window, resolution) for _ in range(depth))

    def forward(self, x: Tensor, bias_index: Tensor) -> Tensor:
        """float32 NCHW -> float32 (tokens, channels)."""
        x = from_map(self.downsample(x))
        for block in self.blocks:
            x = block(x, bias_index)
        return x


class Head(nn.Module):
    """LayerNorm and the classifier: (B, dim) -> (B, classes)."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (B, dim) -> float32 logits (B, classes)."""
        return self.fc(self.norm(x))  # type: ignore[no-any-return]


class TinyViT(nn.Module):
    """The network: float32 (B, 3, img_size, img_size), normalized -> float32 logits (B, num_classes).

    img_size is a multiple of 32; another one than the variant's changes the windows, and with them the bias tables.
    """

    def __init__(
        self, variant: Variant, num_classes: int = 1000, img_size: int | None = None
    ) -> None:
        super().__init__()
        self.variant, self.num_classes, self.img_size = (
            variant,
            num_classes,
            img_size or variant.img_size,
        )
        dims, window = variant.embed_dims, windows(self.img_size)
        self.patch_embed = PatchEmbed(dims[0])
        self.stages = nn.ModuleList([ConvStage(dims[0], variant.depths[0])])
        for i in (1, 2, 3):
            resolution = self.img_size // 2 ** (i + 2)
            self.stages.append(
                AttentionStage(
                    dims[i - 1],
                    dims[i],
                    variant.depths[i],
                    variant.num_heads[i],
                    window[i],
                    resolution,
                )
            )
        self.head = Head(dims[3], num_classes)
        for side in sorted(set(window)):
            self.register_buffer(f"bias_index_{side}", attention_bias_index(side), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """float32 (B, 3, img_size, img_size) -> float32 (B, num_classes)."""
        x = self.stages[0](self.patch_embed(image))
        resolution = self.img_size // 4
        for stage in self.stages[1:]:
            x = stage(
                to_map(x, resolution) if x.ndim == 2 else x,
                self.get_buffer(f"bias_index_{stage.window}"),
            )
            resolution //= 2
        x = x.reshape(-1, resolution**2, x.shape[1]).mean(1)
        return self.head(x)  # type: ignore[no-any-return]


def to_map(x: Tensor, resolution: int) -> Tensor:
    """(B * resolution**2, C) tokens, row by row -> (B, C, resolution, resolution)."""
    return x.reshape(-1, resolution, resolution, x.shape[1]).permute(0, 3, 1, 2)


def from_map(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B * H * W, C) tokens, row by row."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def attention_bias_index(window: int) -> Tensor:
    """int32 (window**4,): for each pair of a window's tokens, in row order, the entry of the bias table for their distance.

    The table has window**2 entries: |row distance| * window + |column distance|, the order in which the paper's code
    meets the distances (TinyViT/models/tiny_vit.py, Attention).
    """
    position = torch.arange(window, dtype=torch.int32)
    distance = (position[:, None] - position[None]).abs()
    return (distance[:, None, :, None] * window + distance[None, :, None, :]).reshape(-1)
