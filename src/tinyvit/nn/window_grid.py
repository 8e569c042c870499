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
    """The windows of one stage: squares of tokens that cover a feature map.

    If a side of the map is not a multiple of the side of a window, zeros are added below the map or
    to its right, as in timm and in the paper's code. These padding tokens take part in the
    attention, without a mask, and are removed after it.

    Attributes:
        window: Side of a window in tokens.
        height: Height of the feature map in tokens.
        width: Width of the feature map in tokens.
    """

    window: int
    height: int
    width: int

    @property
    def rows(self) -> int:
        """Return the number of windows one below the other; the last may contain padding."""
        return -(-self.height // self.window)

    @property
    def columns(self) -> int:
        """Return the number of windows side by side; the last may contain padding."""
        return -(-self.width // self.window)

    @property
    def padding(self) -> tuple[int, int]:
        """Return the numbers of token rows and of columns added to the feature map."""
        return self.rows * self.window - self.height, self.columns * self.window - self.width

    @property
    def is_padded(self) -> bool:
        """Return whether rows or columns are added to the feature map."""
        return any(self.padding)

    def split(self, x: Tensor) -> Tensor:
        """Pad a feature map and sort its tokens by windows.

        Args:
            x: Tokens (B * height * width, C) in row order.

        Returns:
            Tokens (B * rows * columns * window**2, C) in window order.
        """
        if self.is_padded:
            bottom, right = self.padding
            feature_map = x.reshape(-1, self.height, self.width, x.shape[1])
            padded = F.pad(feature_map, (0, 0, 0, right, 0, bottom))
            x = padded.reshape(-1, x.shape[1])
        return self._transpose_groups(x, self.window, self.columns)

    def join(self, x: Tensor) -> Tensor:
        """Undo `split`: sort tokens row by row and remove the padding.

        Args:
            x: Tokens (B * rows * columns * window**2, C) in window order.

        Returns:
            Tokens (B * height * width, C) in row order.
        """
        x = self._transpose_groups(x, self.columns, self.window)
        if self.is_padded:
            padded_height, padded_width = self.rows * self.window, self.columns * self.window
            padded = x.reshape(-1, padded_height, padded_width, x.shape[1])
            x = padded[:, : self.height, : self.width].reshape(-1, x.shape[1])
        return x

    def _transpose_groups(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Reorder groups of tokens, without changing the order inside a group.

        A group is the tokens of one row of the padded map inside one window. Windows that are side
        by side form a horizontal strip of the map. The strip has `window` rows of tokens, and each
        row has `self.columns` groups, one per window. In row order, the groups of the strip form a
        matrix of window x self.columns groups. In window order, they form the transposed matrix,
        because all groups of one window come before those of the next.

        Args:
            x: Tokens of the padded map, (B * self.rows * self.columns * window**2, C).
            rows: Number of rows of the matrix of groups in the order of `x`.
            columns: Number of columns of the matrix of groups in the order of `x`.

        Returns:
            The tokens in the order of the transposed matrices, in the same shape.
        """
        if self.columns == 1:
            return x  # With a single window in each strip, both orders are the same.
        channels = x.shape[1]
        reordered = x.reshape(-1, rows, columns, self.window * channels).transpose(1, 2)
        return reordered.reshape(-1, channels)
