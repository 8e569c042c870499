"""TinyViT as a PyTorch module, written for export.

The same module is trained and, after folding (see `tinyvit.nn.fold`), exported. Its parameters have
the names of timm's, so it loads timm's state dicts unchanged. The architecture is described in
section 4 of the paper (see `tinyvit.variants`) and in microsoft/Cream, TinyViT/models/tiny_vit.py.

Convolutions work on feature maps (B, C, H, W). Attention and MLPs work on matrices of tokens
(B * H * W, C), one row per token: image by image, row by row ("row order"). This way, linear layers
are plain matrix products. No tensor has more than four dimensions, and no branch depends on the
values of a tensor.
"""

from __future__ import annotations

from torch import Tensor, nn

from tinyvit.image_sizes import compute_window_sizes
from tinyvit.nn.attention import Attention, make_bias_index
from tinyvit.nn.layers import (
    ConvNorm,
    MBConv,
    Mlp,
    PatchEmbed,
    PatchMerging,
    map_to_tokens,
    tokens_to_map,
)
from tinyvit.nn.window_grid import WindowGrid
from tinyvit.variants import Variant


class Block(nn.Module):
    """Window attention, a depthwise convolution and an MLP, as in figure 2 of the paper."""

    def __init__(self, dim: int, num_heads: int, window: int, resolution: int) -> None:
        """Create the layers with random weights.

        Args:
            dim: Channels of the tokens.
            num_heads: Number of attention heads.
            window: Side of an attention window in tokens.
            resolution: Side of the feature map in tokens. If it is not a multiple of `window`, the
                attention pads the map (see `tinyvit.nn.window_grid`).
        """
        super().__init__()
        self.grid = WindowGrid(window, resolution)
        self.attn = Attention(dim, num_heads, window)
        self.local_conv = ConvNorm(dim, dim, kernel=3, groups=dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor, bias_index: Tensor) -> Tensor:
        """Apply attention, the convolution and the MLP.

        Args:
            x: Tokens (B * resolution**2, dim) in row order.
            bias_index: Result of `make_bias_index(window)`, int32 (window**4,).

        Returns:
            Tokens in the same order and shape.
        """
        x = x + self.attn(x, bias_index, self.grid)
        x = map_to_tokens(self.local_conv(tokens_to_map(x, self.grid.resolution)))
        return x + self.mlp(x)  # type: ignore[no-any-return]


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
        window_sizes: Sides of the attention windows of the four stages in tokens.
    """

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        img_size: int | None = None,
        window_sizes: tuple[int, int, int, int] | None = None,
    ) -> None:
        """Create the network with random weights.

        Args:
            variant: The architecture.
            num_classes: Number of classes.
            img_size: Side of the square input in pixels, a multiple of 32; by default that of the
                variant.
            window_sizes: Sides of the attention windows of the four stages in tokens, which
                determine the number of attention biases; by default those of
                `compute_window_sizes(img_size)`, which need no padding. The first stage has no
                attention and does not use its number.
        """
        super().__init__()
        self.variant, self.num_classes = variant, num_classes
        self.img_size = img_size or variant.img_size
        self.window_sizes = window_sizes or compute_window_sizes(self.img_size)
        dims = variant.embed_dims
        self.patch_embed = PatchEmbed(dims[0])
        self.stages = nn.ModuleList([ConvStage(dims[0], variant.depths[0])])
        for i in (1, 2, 3):
            stage = AttentionStage(
                in_dim=dims[i - 1],
                dim=dims[i],
                depth=variant.depths[i],
                num_heads=variant.num_heads[i],
                window=self.window_sizes[i],
                # The patch embedding divides the side by 4, each of these stages by 2.
                resolution=self.img_size // (4 * 2**i),
            )
            self.stages.append(stage)
        self.head = Head(dims[3], num_classes)
        # Stages with windows of the same size share the index.
        for window in sorted(set(self.window_sizes)):
            self.register_buffer(f"bias_index_{window}", make_bias_index(window), persistent=False)

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
            # The first stage returns a feature map, the others return tokens.
            feature_map = tokens_to_map(x, resolution) if x.ndim == 2 else x
            x = stage(feature_map, self.get_buffer(f"bias_index_{stage.window}"))
            resolution //= 2
        pooled = x.reshape(-1, resolution**2, x.shape[1]).mean(1)
        return self.head(pooled)  # type: ignore[no-any-return]
