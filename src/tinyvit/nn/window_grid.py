"""Divides a feature map into attention windows, with padding where they do not fit.

Feature maps are stored as tokens, one row per position. In row order, tokens are sorted image by
image and row by row; in window order, window by window, and row by row within a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class WindowGrid:
    """The windows of one stage: squares of tokens that cover a square feature map.

    If the side of the map is not a multiple of the side of a window, zeros are added below the map
    and to its right, as in timm and in the paper's code. These padding tokens take part in the
    attention, without a mask, and are removed after it.

    Attributes:
        window: Side of a window in tokens.
        resolution: Side of the feature map in tokens.
    """

    window: int
    resolution: int

    @property
    def windows_per_side(self) -> int:
        """Return the number of windows side by side; the last may contain padding."""
        return -(-self.resolution // self.window)

    @property
    def padding(self) -> int:
        """Return the number of token rows, and of columns, added to the feature map."""
        return self.windows_per_side * self.window - self.resolution

    def split(self, x: Tensor) -> Tensor:
        """Pad a feature map and sort its tokens by windows.

        Args:
            x: Tokens (B * resolution**2, C) in row order.

        Returns:
            Tokens (B * windows_per_side**2 * window**2, C) in window order.
        """
        if self.padding:
            feature_map = x.reshape(-1, self.resolution, self.resolution, x.shape[1])
            padded = F.pad(feature_map, (0, 0, 0, self.padding, 0, self.padding))
            x = padded.reshape(-1, x.shape[1])
        return self._transpose_groups(x, self.window, self.windows_per_side)

    def join(self, x: Tensor) -> Tensor:
        """Undo `split`: sort tokens row by row and remove the padding.

        Args:
            x: Tokens (B * windows_per_side**2 * window**2, C) in window order.

        Returns:
            Tokens (B * resolution**2, C) in row order.
        """
        x = self._transpose_groups(x, self.windows_per_side, self.window)
        if self.padding:
            padded_resolution = self.resolution + self.padding
            padded = x.reshape(-1, padded_resolution, padded_resolution, x.shape[1])
            x = padded[:, : self.resolution, : self.resolution].reshape(-1, x.shape[1])
        return x

    def _transpose_groups(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Reorder groups of tokens, without changing the order inside a group.

        A group is the tokens of one row of the padded map inside one window. Windows that are side
        by side form a horizontal strip of the map. The strip has `window` rows of tokens, and each
        row has `windows_per_side` groups, one per window. In row order, the groups of the strip
        form a matrix of window x windows_per_side groups. In window order, they form the transposed
        matrix, because all groups of one window come before those of the next.

        Args:
            x: Tokens of the padded map, (B * windows_per_side**2 * window**2, C).
            rows: Number of rows of the matrix of groups in the order of `x`.
            columns: Number of columns of the matrix of groups in the order of `x`.

        Returns:
            The tokens in the order of the transposed matrices, in the same shape.
        """
        if self.windows_per_side == 1:
            return x  # With a single window, both orders are the same.
        channels = x.shape[1]
        reordered = x.reshape(-1, rows, columns, self.window * channels).transpose(1, 2)
        return reordered.reshape(-1, channels)
