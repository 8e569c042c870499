"""Compares the embeddings or feature maps of a network with those of a reference network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.metrics.checks import require_images, require_same_length

_BLOCK_ROWS = 256
"""Number of embeddings that are compared with all others at a time, to limit the memory."""


@dataclass(frozen=True)
class SimilarityComparison:
    """Similarity of a network and a reference on the same images.

    If a network has several outputs, each is compared alone, and the worst one counts.

    Attributes:
        image_count: Number of images.
        cosine: Mean cosine similarity, -1 to 1, over all images, of the output with the lowest one;
            NaN if an output contains NaN.
        lowest_cosine: Lowest cosine similarity of any image and output.
        neighbor_agreement: Percent of the images whose nearest neighbor among the others (by cosine
            similarity) is the same for both networks; None for feature maps, and for fewer than
            three images.
    """

    image_count: int
    cosine: float
    lowest_cosine: float
    neighbor_agreement: float | None = None

    def describe(self, reference_name: str) -> str:
        """Describe the comparison on one line.

        Args:
            reference_name: What the reference is, such as "the float32 network".
        """
        text = (
            f"cosine similarity {self.cosine:.4f} to {reference_name} (mean of {self.image_count}"
            f" images; lowest {self.lowest_cosine:.4f})"
        )
        if self.neighbor_agreement is not None:
            text += f"; {self.neighbor_agreement:.1f}% of the nearest neighbors are the same"
        return text


def compare_similarity(
    outputs: Sequence[npt.NDArray[Any]],
    reference_outputs: Sequence[npt.NDArray[Any]],
    finds_neighbors: bool,
) -> SimilarityComparison:
    """Compare the outputs of a network with those of a reference.

    Args:
        outputs: Values of each output of the network, (images, values).
        reference_outputs: Values of each output of the reference for the same images.
        finds_neighbors: Whether the nearest neighbors by the first output are compared.

    Raises:
        RequestError: There are no images, or the outputs are of different numbers of images.
    """
    image_count = len(outputs[0])
    require_same_length(image_count, len(reference_outputs[0]))
    require_images(image_count)
    cosines = [
        cosine_similarities(output, reference)
        for output, reference in zip(outputs, reference_outputs)
    ]
    neighbor_agreement = None
    if finds_neighbors and image_count >= 3:
        same = find_nearest_neighbors(outputs[0]) == find_nearest_neighbors(reference_outputs[0])
        neighbor_agreement = 100 * float(same.mean())
    return SimilarityComparison(
        image_count=image_count,
        # np.min returns NaN if there is one.
        cosine=float(np.min([values.mean() for values in cosines])),
        lowest_cosine=float(np.min([values.min() for values in cosines])),
        neighbor_agreement=neighbor_agreement,
    )


def cosine_similarities(
    first: npt.NDArray[Any], second: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Compute the cosine similarity of each pair of rows.

    Args:
        first: One vector for each image, (images, values).
        second: One vector for each image, of the same shape.

    Returns:
        Similarities, -1 to 1, float64 (images,); 1 for two vectors of zeros, 0 if only one of them
        is zero.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    product = lengths[0] * lengths[1]
    both_zero = (lengths[0] == 0) & (lengths[1] == 0)
    dots = np.einsum("ij,ij->i", first, second)
    cosines = np.divide(dots, product, out=np.zeros_like(dots), where=product != 0)
    return np.where(both_zero, 1.0, cosines.clip(-1, 1))


def find_nearest_neighbors(embeddings: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Find the nearest neighbor of each embedding among the others, by cosine similarity.

    Args:
        embeddings: One vector for each image, (images, values), at least two.

    Returns:
        Index of the neighbor of each image, int64 (images,). Of equally near ones, the first.
    """
    values = embeddings.astype(np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    values = values / np.maximum(lengths, np.finfo(np.float32).tiny)
    neighbors = []
    for start in range(0, len(values), _BLOCK_ROWS):
        similarities = values[start : start + _BLOCK_ROWS] @ values.T
        rows = np.arange(len(similarities))
        similarities[rows, start + rows] = -np.inf  # an image is not its own neighbor
        neighbors.append(similarities.argmax(axis=1))
    return np.concatenate(neighbors).astype(np.int64)
