"""The image encoder of MobileSAM: a TinyViT whose last feature map goes through a neck.

MobileSAM (Zhang et al., "Faster Segment Anything", 2023) replaces the image encoder of SAM by a
TinyViT-5M and keeps SAM's mask decoder. The architecture is described in ChaoningZhang/MobileSAM,
mobile_sam/modeling/tiny_vit_sam.py: windows of 7, 14 and 7 tokens on padded feature maps, a last
stage that keeps the height and the width of the third, and two convolutions to 256 channels.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from tinyvit.image_sizes import ImageSize
from tinyvit.manifest_parts import OutputSpec
from tinyvit.nn.model import TinyViT
from tinyvit.outputs import IMAGE_EMBEDDINGS_NAME, STAGES
from tinyvit.variants import Variant

NECK_CHANNELS = 256
"""Channels of the output, which the decoders of SAM expect."""

_STRIDE = 16
"""Number of input pixels for each row and column of the output."""

_EPSILON = 1e-6
"""The epsilon of the neck's normalizations. In the other LayerNorms of TinyViT, it is 1e-5."""


class ChannelNorm(nn.LayerNorm):
    """A LayerNorm over the channels of a feature map, separately for each position."""

    def __init__(self, channels: int) -> None:
        """Create the layer.

        Args:
            channels: Channels of the feature map.
        """
        super().__init__(channels, eps=_EPSILON)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize a feature map (B, channels, H, W)."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MobileSamEncoder(TinyViT):
    """The image encoder of MobileSAM, which returns the image embeddings that SAM's decoders take.

    Its parameters have the names of timm's TinyViT, and those of the neck the names of MobileSAM.
    It has no classifier.
    """

    last_stage_stride: ClassVar[int] = 1

    def __init__(
        self,
        variant: Variant,
        img_size: ImageSize = 1024,
        window_sizes: tuple[int, int, int, int] = (7, 7, 14, 7),
    ) -> None:
        """Create the network with random weights.

        Args:
            variant: The architecture of the TinyViT.
            img_size: Size of the input in pixels.
            window_sizes: Sides of the attention windows of the four stages in tokens; the first
                stage has no attention and does not use its number.
        """
        super().__init__(
            variant,
            num_classes=0,
            img_size=img_size,
            window_sizes=window_sizes,
            feature_stages=STAGES[-1:],
        )
        self.neck = nn.Sequential(
            nn.Conv2d(variant.embed_dims[-1], NECK_CHANNELS, kernel_size=1, bias=False),
            ChannelNorm(NECK_CHANNELS),
            nn.Conv2d(NECK_CHANNELS, NECK_CHANNELS, kernel_size=3, padding=1, bias=False),
            ChannelNorm(NECK_CHANNELS),
        )

    def describe_outputs(self) -> tuple[OutputSpec, ...]:
        """Describe the image embeddings; see `TinyViT.describe_outputs`."""
        shape = ("batch", NECK_CHANNELS, *self.map_sizes[-1])
        return (OutputSpec(IMAGE_EMBEDDINGS_NAME, shape, "float32", "NCHW", "features", _STRIDE),)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the image embeddings.

        Args:
            image: Normalized images of the size `img_size`, float32 (B, 3, H, W).

        Returns:
            Image embeddings, float32 (B, 256, H / 16, W / 16), rounded up.
        """
        (feature_map,) = super().forward(image)
        return self.neck(feature_map)  # type: ignore[no-any-return]
