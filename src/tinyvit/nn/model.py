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

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from tinyvit.image_sizes import (
    ImageSize,
    compute_map_sizes,
    compute_window_sizes,
    require_square,
)
from tinyvit.manifest_parts import OutputSpec
from tinyvit.nn.attention import Attention, make_bias_index
from tinyvit.nn.layers import (
    ConvNorm,
    MBConv,
    Mlp,
    PatchEmbed,
    PatchMerging,
    TensorPoint,
    map_to_tokens,
    tokens_to_map,
)
from tinyvit.nn.window_grid import WindowGrid
from tinyvit.outputs import STAGES, OutputKind, OutputRequest, make_output_request
from tinyvit.variants import Variant


def find_output_request(outputs: Sequence[OutputSpec]) -> OutputRequest:
    """Return the request for which a TinyViT describes its outputs in this way.

    Args:
        outputs: The outputs in the manifest of an artifact; see `TinyViT.describe_outputs`.
    """
    # The stride of stage i is 4 * 2**i.
    stages = tuple((spec.stride or 4).bit_length() - 3 for spec in outputs)
    kind = outputs[0].kind
    return make_output_request(kind, stages if kind == "features" else None)


class Block(nn.Module):
    """Window attention, a depthwise convolution and an MLP, as in figure 2 of the paper."""

    def __init__(self, dim: int, num_heads: int, grid: WindowGrid) -> None:
        """Create the layers with random weights.

        Args:
            dim: Channels of the tokens.
            num_heads: Number of attention heads.
            grid: The attention windows, which cover the feature map.
        """
        super().__init__()
        self.grid = grid
        self.attn = Attention(dim, num_heads, grid.window)
        self.local_conv = ConvNorm(dim, dim, kernel=3, groups=dim)
        self.mlp = Mlp(dim)
        self.attention_sum, self.mlp_sum = TensorPoint(), TensorPoint()

    def forward(self, x: Tensor, bias_index: Tensor) -> Tensor:
        """Apply attention, the convolution and the MLP.

        Args:
            x: Tokens (B * H * W, dim) in row order.
            bias_index: Result of `make_bias_index(window)`, int32 (window**4,).

        Returns:
            Tokens in the same order and shape.
        """
        x = self.attention_sum(x + self.attn(x, bias_index, self.grid))
        x = map_to_tokens(self.local_conv(tokens_to_map(x, self.grid.height, self.grid.width)))
        return self.mlp_sum(x + self.mlp(x))  # type: ignore[no-any-return]


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
        self, in_dim: int, dim: int, depth: int, num_heads: int, grid: WindowGrid, stride: int = 2
    ) -> None:
        """Create the layers with random weights.

        Args:
            in_dim: Channels of the input.
            dim: Channels of the output.
            depth: Number of blocks.
            num_heads: Number of attention heads.
            grid: The attention windows, which cover the feature map after downsampling.
            stride: Stride of the downsampling: 2, or 1 to keep the height and the width.
        """
        super().__init__()
        self.grid = grid
        self.downsample = PatchMerging(in_dim, dim, stride)
        self.blocks = nn.ModuleList(Block(dim, num_heads, grid) for _ in range(depth))

    def forward(self, x: Tensor, bias_index: Tensor) -> Tensor:
        """Downsample a feature map, then apply the blocks.

        Args:
            x: Feature map (B, in_dim, stride * H, stride * W), or one row or column less, where
                (H, W) is the size of the map of `grid`.
            bias_index: Result of `make_bias_index(window)`, int32 (window**4,).

        Returns:
            Tokens (B * H * W, dim) in row order.
        """
        x = map_to_tokens(self.downsample(x))
        for block in self.blocks:
            x = block(x, bias_index)
        return x


class _NoClassifier(nn.Linear):
    """The place of the classifier in a network without one; it has no weights."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, input: Tensor) -> Tensor:
        return input


class Head(nn.Module):
    """LayerNorm and the linear classifier, if there is one."""

    def __init__(self, dim: int, num_classes: int) -> None:
        """Create the layers with random weights.

        Args:
            dim: Channels of the pooled features.
            num_classes: Number of classes; 0 for no classifier, as in timm.
        """
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        # Without a classifier, nothing is computed in its place, as in timm.
        self.fc = nn.Linear(dim, num_classes) if num_classes else _NoClassifier()

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, num_classes), or an embedding (B, dim), from features (B, dim)."""
        return self.fc(self.norm(x))  # type: ignore[no-any-return]


class TinyViT(nn.Module):
    """The TinyViT network. It returns logits, an embedding, or feature maps.

    Attributes:
        variant: The architecture.
        num_classes: Number of classes; 0 for a network without a classifier.
        img_size: Size of the input in pixels.
        window_sizes: Sides of the attention windows of the four stages in tokens.
        feature_stages: Stages whose feature maps are returned; empty if the network returns logits
            or an embedding.
        map_sizes: Heights and widths of the feature maps of the four stages, in tokens.
        last_stage_stride: Stride of the downsampling before the last stage.
    """

    last_stage_stride: ClassVar[int] = 2

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        img_size: ImageSize | None = None,
        window_sizes: tuple[int, int, int, int] | None = None,
        feature_stages: tuple[int, ...] = (),
    ) -> None:
        """Create the network with random weights.

        Args:
            variant: The architecture.
            num_classes: Number of classes; 0 for a network that returns an embedding.
            img_size: Size of the input in pixels; by default that of the variant.
            window_sizes: Sides of the attention windows of the four stages in tokens, which
                determine the number of attention biases; by default those of
                `compute_window_sizes(img_size)`, for square images. The first stage has no
                attention and does not use its number.
            feature_stages: Stages (see `tinyvit.outputs.STAGES`) whose feature maps are returned,
                in ascending order. The network then has no head, and no stage after the last of
                these. Empty for a network that returns logits or an embedding.
        """
        super().__init__()
        self.variant, self.num_classes = variant, 0 if feature_stages else num_classes
        self.feature_stages = feature_stages
        self.img_size: ImageSize = img_size or variant.img_size
        self.window_sizes = window_sizes or compute_window_sizes(
            require_square(self.img_size, "a network without given windows")
        )
        self.map_sizes = compute_map_sizes(self.img_size, self.last_stage_stride)
        dims = variant.embed_dims
        self.patch_embed = PatchEmbed(dims[0])
        self.stages = nn.ModuleList([ConvStage(dims[0], variant.depths[0])])
        last_stage = feature_stages[-1] if feature_stages else STAGES[-1]
        for i in range(1, last_stage + 1):
            stage = AttentionStage(
                in_dim=dims[i - 1],
                dim=dims[i],
                depth=variant.depths[i],
                num_heads=variant.num_heads[i],
                grid=WindowGrid(self.window_sizes[i], *self.map_sizes[i]),
                stride=self.last_stage_stride if i == STAGES[-1] else 2,
            )
            self.stages.append(stage)
        if not feature_stages:
            self.head = Head(dims[3], num_classes)
        # Stages with windows of the same size share the index.
        for window in sorted(set(self.window_sizes[1 : last_stage + 1])):
            self.register_buffer(f"bias_index_{window}", make_bias_index(window), persistent=False)

    def describe_outputs(self) -> tuple[OutputSpec, ...]:
        """Describe what `forward` returns, for the manifest.

        Returns:
            One description for each tensor; its first dimension, the batch, has the name "batch".
        """
        if not self.feature_stages:
            kind: OutputKind = "logits" if self.num_classes else "embedding"
            size = self.num_classes or self.variant.embed_dims[-1]
            return (OutputSpec(kind, ("batch", size), "float32", "NC", kind),)
        return tuple(
            OutputSpec(
                name=f"stage{i}",
                shape=("batch", self.variant.embed_dims[i], *self.map_sizes[i]),
                dtype="float32",
                layout="NCHW",
                kind="features",
                stride=4 * 2**i,
            )
            for i in self.feature_stages
        )

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the outputs for images.

        Args:
            image: Normalized images of the size `img_size`, float32 (B, 3, H, W).

        Returns:
            Logits, float32 (B, num_classes); without classes, embeddings, float32 (B, channels);
            with `feature_stages`, one feature map of each of them, float32 (B, channels, height,
            width).
        """
        x = self.stages[0](self.patch_embed(image))
        maps = [x]
        for stage in self.stages[1:]:
            assert isinstance(stage, AttentionStage)
            x = stage(maps[-1], self.get_buffer(f"bias_index_{stage.grid.window}"))
            # The last map is not computed if only its mean is needed.
            if self.feature_stages or stage is not self.stages[-1]:
                maps.append(tokens_to_map(x, stage.grid.height, stage.grid.width))
        if self.feature_stages:
            return tuple(maps[i] for i in self.feature_stages)
        height, width = self.map_sizes[-1]
        pooled = x.reshape(-1, height * width, x.shape[1]).mean(1)
        return self.head(pooled)  # type: ignore[no-any-return]
