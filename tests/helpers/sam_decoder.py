"""SAM's prompt encoder and mask decoder with random weights, as an ONNX file for one encoder.

The architecture is that of the paper (Kirillov et al., "Segment Anything", 2023, appendix A), and
inputs and outputs have the names of SAM's own export script. The number of image positions can be
smaller than SAM's 64 x 64, so that a small encoder fits.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 256
"""Channels of the image embeddings and of all tokens."""
HEADS = 8
MASK_TOKENS = 4
"""One mask for a prompt that is not ambiguous, and three for one that is."""
POINT_KINDS = 4
"""Labels of points: background, object, and the two corners of a box."""
NOT_A_POINT = -1

INPUTS = (
    "image_embeddings",
    "point_coords",
    "point_labels",
    "mask_input",
    "has_mask_input",
    "orig_im_size",
)
OUTPUTS = ("masks", "iou_predictions", "low_res_masks")


class _MapNorm(nn.LayerNorm):
    """A LayerNorm over the channels of a feature map (B, channels, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Attention(nn.Module):
    """Attention of tokens (B, N, channels) to other tokens, in half as many channels if reduced."""

    def __init__(self, is_reduced: bool) -> None:
        super().__init__()
        inner = CHANNELS // 2 if is_reduced else CHANNELS
        self.q, self.k, self.v = (nn.Linear(CHANNELS, inner) for _ in range(3))
        self.out = nn.Linear(inner, CHANNELS)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(2, (HEADS, -1)).transpose(1, 2)
            for layer, x in ((self.q, queries), (self.k, keys), (self.v, values))
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        output: Tensor = self.out((scores.softmax(3) @ v).transpose(1, 2).flatten(2))
        return output


class _TwoWayBlock(nn.Module):
    """Updates tokens from the image, then the image from the tokens."""

    def __init__(self, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first
        self.to_itself = _Attention(is_reduced=False)
        self.to_image, self.to_tokens = _Attention(is_reduced=True), _Attention(is_reduced=True)
        self.mlp = nn.Sequential(nn.Linear(CHANNELS, 2048), nn.ReLU(), nn.Linear(2048, CHANNELS))
        self.norms = nn.ModuleList(nn.LayerNorm(CHANNELS) for _ in range(4))

    def forward(
        self, tokens: Tensor, image: Tensor, token_positions: Tensor, image_positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.is_first:
            tokens = self.norms[0](self.to_itself(tokens, tokens, tokens))
        else:
            q = tokens + token_positions
            tokens = self.norms[0](tokens + self.to_itself(q, q, tokens))
        q, k = tokens + token_positions, image + image_positions
        tokens = self.norms[1](tokens + self.to_image(q, k, image))
        tokens = self.norms[2](tokens + self.mlp(tokens))
        q = tokens + token_positions
        return tokens, self.norms[3](image + self.to_tokens(k, q, tokens))


def _make_mlp(outputs: int) -> nn.Sequential:
    """Make an MLP of three layers."""
    hidden = (nn.Linear(CHANNELS, CHANNELS), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(CHANNELS, CHANNELS), nn.ReLU(), nn.Linear(256, outputs))


class SamDecoder(nn.Module):
    """The prompt encoder, the mask decoder, and the resize of masks to the photograph."""

    def __init__(self, img_size: int) -> None:
        """Create the network with PyTorch's random weights.

        Args:
            img_size: Size of the encoder's input in pixels.
        """
        super().__init__()
        self.img_size, self.side = img_size, img_size // 16
        self.frequencies = nn.Parameter(torch.randn(2, CHANNELS // 2))
        self.kinds = nn.Parameter(torch.randn(POINT_KINDS, CHANNELS))
        self.not_a_point = nn.Parameter(torch.randn(CHANNELS))
        self.no_mask = nn.Parameter(torch.randn(1, CHANNELS, 1, 1))
        self.mask_convs = nn.Sequential(
            *(nn.Conv2d(1, 4, 2, 2), _MapNorm(4), nn.GELU()),
            *(nn.Conv2d(4, 16, 2, 2), _MapNorm(16), nn.GELU(), nn.Conv2d(16, CHANNELS, 1)),
        )
        self.own_tokens = nn.Parameter(torch.randn(1 + MASK_TOKENS, CHANNELS))
        self.blocks = nn.ModuleList((_TwoWayBlock(is_first=True), _TwoWayBlock(is_first=False)))
        self.last_attention = _Attention(is_reduced=True)
        self.last_norm = nn.LayerNorm(CHANNELS)
        self.upscale = nn.Sequential(
            *(nn.ConvTranspose2d(CHANNELS, 64, 2, 2), _MapNorm(64), nn.GELU()),
            *(nn.ConvTranspose2d(64, 32, 2, 2), nn.GELU()),
        )
        self.weights = nn.ModuleList(_make_mlp(32) for _ in range(MASK_TOKENS))
        self.quality = _make_mlp(MASK_TOKENS)

    def forward(
        self,
        image: Tensor,
        points: Tensor,
        labels: Tensor,
        mask: Tensor,
        has_mask: Tensor,
        size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute masks; the arguments are `INPUTS`, and the result is `OUTPUTS`."""
        dense = has_mask * self.mask_convs(mask) + (1 - has_mask) * self.no_mask
        tokens = torch.cat([self.own_tokens[None], self._embed_points(points, labels)], 1)
        positions = self._embed_grid().flatten(0, 1)[None]
        x, token_positions = (image + dense).flatten(2).transpose(1, 2), tokens
        for block in self.blocks:
            tokens, x = block(tokens, x, token_positions, positions)
        update = self.last_attention(tokens + token_positions, x + positions, x)
        tokens = self.last_norm(tokens + update)
        features = self.upscale(x.transpose(1, 2).unflatten(2, (self.side, self.side)))
        vectors = [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.weights)]
        masks = (torch.stack(vectors, 1) @ features.flatten(2)).unflatten(2, features.shape[2:])
        return self._resize(masks, size), self.quality(tokens[:, 0]), masks

    def _encode(self, positions: Tensor) -> Tensor:
        """Encode positions from 0 to 1, (..., 2), by sines and cosines."""
        angles = 2 * math.pi * ((2 * positions - 1) @ self.frequencies)
        return torch.cat([angles.sin(), angles.cos()], -1)

    def _embed_grid(self) -> Tensor:
        """Encode the centers of the image positions, (side, side, CHANNELS)."""
        centers = (torch.arange(self.side) + 0.5) / self.side
        y, x = torch.meshgrid(centers, centers, indexing="ij")
        return self._encode(torch.stack([x, y], 2))

    def _embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        """Embed points (1, N, 2) in pixels of the encoder's input, with their labels (1, N)."""
        labels = labels[..., None]
        encoded = self._encode((points + 0.5) / self.img_size) * (labels != NOT_A_POINT)
        encoded = encoded + self.not_a_point * (labels == NOT_A_POINT)
        for kind in range(POINT_KINDS):
            encoded = encoded + self.kinds[kind] * (labels == kind)
        return encoded

    def _resize(self, masks: Tensor, size: Tensor) -> Tensor:
        """Resize masks to the photograph, whose height and width are `size`, without padding."""
        large = F.interpolate(masks, (self.img_size, self.img_size), mode="bilinear")
        fitted = torch.floor(size * (self.img_size / size.max()) + 0.5).to(torch.int64)
        height, width = size.to(torch.int64)
        large = large[..., : fitted[0], : fitted[1]]
        return F.interpolate(large, (height, width), mode="bilinear")  # type: ignore[arg-type]


def make_decoder(img_size: int) -> SamDecoder:
    """Make a decoder with random weights, always the same for one size."""
    torch.manual_seed(0)
    return SamDecoder(img_size).eval().requires_grad_(False)


def export_decoder(decoder: SamDecoder, path: Path) -> Path:
    """Export a decoder by PyTorch's TorchScript exporter, as SAM's own script does."""
    side = decoder.side
    example = (
        torch.zeros(1, CHANNELS, side, side),
        torch.zeros(1, 5, 2),
        torch.zeros(1, 5),
        torch.zeros(1, 1, 4 * side, 4 * side),
        torch.zeros(1),
        torch.tensor([90.0, 60.0]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            decoder,
            example,
            path,
            dynamo=False,
            opset_version=17,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={"point_coords": {1: "points"}, "point_labels": {1: "points"}},
        )
    return path
