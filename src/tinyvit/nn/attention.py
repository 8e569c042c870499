"""Window attention of TinyViT: self-attention among the tokens of one square window.

A token is one position of a feature map, stored as one row of a matrix. A window is a square of
adjacent tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tinyvit.nn.layers import TensorPoint
from tinyvit.nn.window_grid import WindowGrid
from tinyvit.variants import HEAD_DIM


class FusedProjection(nn.Linear):
    """Projection to queries, keys and values by one linear layer, as in checkpoints.

    The weight has 3 * dim rows. For each head in turn, it contains HEAD_DIM rows for the queries,
    then as many for the keys, then as many for the values.
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
            Queries, keys and values, (N, dim) each. The queries are already multiplied by
            1 / sqrt(HEAD_DIM), the scale of the attention scores.
        """
        num_heads = self.in_features // HEAD_DIM
        q, k, v = super().forward(x).reshape(-1, num_heads, 3, HEAD_DIM).unbind(2)
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

    Each head adds a learned bias to the attention score of two tokens. The bias depends on how many
    rows and columns the tokens are apart.

    Attributes:
        num_heads: Number of heads.
        window_tokens: Number of tokens in one window.
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
        self.window_tokens = window * window
        self.norm = nn.LayerNorm(dim)
        self.qkv: nn.Module = FusedProjection(dim)
        self.proj = nn.Linear(dim, dim)
        self.softmax = nn.Softmax(-1)
        # Two tokens are 0 to window - 1 rows and 0 to window - 1 columns apart: there are window**2
        # distances, as many as tokens.
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, self.window_tokens))
        self.expanded_biases, self.scores = TensorPoint(), TensorPoint()
        self.weighted_sums = TensorPoint()

    def forward(self, x: Tensor, bias_index: Tensor, grid: WindowGrid) -> Tensor:
        """Compute attention within each window.

        Args:
            x: Tokens (B * H * W, dim) in row order.
            bias_index: Result of `make_bias_index(window)`, int32 (window**4,). Layers with windows
                of the same size share it.
            grid: The windows of the feature map.

        Returns:
            Tokens in the same order and shape, without the residual connection.
        """
        n, heads = self.window_tokens, self.num_heads
        # In a folded network, the padding is added after the LayerNorm, otherwise before it. The
        # LayerNorm of a folded network has no scale and shift, so zeros stay zeros in either order.
        # With the padding before it, however, the LayerNorm would divide zeros by the square root
        # of its epsilon, and some processors round the epsilon (1e-5) to 0 in float16.
        normalizes_first = grid.is_padded and isinstance(self.qkv, SplitProjection)
        x = grid.split(self.norm(x) if normalizes_first else x)
        bias = self.attention_biases.index_select(1, bias_index).reshape(heads, n, n)
        bias = self.expanded_biases(bias)
        q, k, v = self.qkv(x if normalizes_first else self.norm(x))
        # If the batch is a single window, there is no axis for windows: onnxruntime can then remove
        # transposes.
        if x.shape[0] == n:
            q, k, v = (t.reshape(n, heads, HEAD_DIM) for t in (q, k, v))
            transposed_k = k.permute(1, 2, 0)
        else:
            q, k, v = (t.reshape(-1, n, heads, HEAD_DIM) for t in (q, k, v))
            transposed_k = k.permute(0, 2, 3, 1)
        weights = self.softmax(self.scores(q.transpose(-3, -2) @ transposed_k) + bias)
        weighted_sums = self.weighted_sums(weights @ v.transpose(-3, -2)).transpose(-3, -2)
        weighted_sums = weighted_sums.reshape(-1, heads * HEAD_DIM)
        if grid.is_padded:
            # The padding is removed first, so that it is not projected.
            return self.proj(grid.join(weighted_sums))  # type: ignore[no-any-return]
        return grid.join(self.proj(weighted_sums))


def make_bias_index(window: int) -> Tensor:
    """Return the index of the attention bias for each pair of tokens in a window.

    A head has window**2 biases. The bias for two tokens that are r rows and c columns apart has the
    index r * window + c, as in the paper's code (microsoft/Cream, TinyViT/models/tiny_vit.py,
    Attention).

    Args:
        window: Side of the window in tokens.

    Returns:
        Indices, int32 (window**4,). The first window**2 indices are those of the first query token
        with every key token. All tokens are in row order.
    """
    position = torch.arange(window, dtype=torch.int32)
    distance = (position[:, None] - position[None]).abs()
    # The axes are: row and column of the query token, row and column of the key token.
    rows_apart, columns_apart = distance[:, None, :, None], distance[None, :, None, :]
    return (rows_apart * window + columns_apart).reshape(-1)
