"""Cosine similarities and nearest neighbors, with literal values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinyvit.errors import RequestError
from tinyvit.metrics import (
    FLOAT32_NETWORK,
    SimilarityComparison,
    compare_similarity,
    cosine_similarities,
    find_nearest_neighbors,
)
from tinyvit.quant.accuracy_budget import AccuracyBudget


def test_cosines_of_pairs_of_vectors() -> None:
    first = np.array([[1, 0], [1, 1], [0, 0], [0, 0], [3, 4]], np.float32)
    second = np.array([[0, 2], [2, 2], [0, 0], [1, 0], [-3, -4]], np.float32)
    expected = [0, 1, 1, 0, -1]
    assert cosine_similarities(first, second).tolist() == pytest.approx(expected)


def test_the_nearest_neighbor_is_by_direction_and_not_the_image_itself() -> None:
    angles = np.radians([0, 10, 90, 95])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [9], [1], [0.5]]
    assert find_nearest_neighbors(embeddings).tolist() == [1, 0, 3, 2]


def test_many_embeddings_are_compared_in_blocks() -> None:
    """600 embeddings are 300 pairs; the second of a pair differs a little from the first."""
    embeddings = np.repeat(np.eye(300), 2, axis=0)
    embeddings[1::2] += 0.1 * np.roll(np.eye(300), 1, axis=1)
    assert (find_nearest_neighbors(embeddings) == np.arange(600) ^ 1).all()


def test_a_comparison_of_embeddings() -> None:
    reference = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    swapped = reference[[0, 2, 1, 3]]
    same = compare_similarity([reference], [reference], finds_neighbors=True)
    assert same == SimilarityComparison(4, pytest.approx(1), pytest.approx(1), 100.0)
    other = compare_similarity([swapped], [reference], finds_neighbors=True)
    assert other.neighbor_agreement == 0.0
    assert other.lowest_cosine == pytest.approx(0.0995, abs=1e-4)
    assert other.cosine == pytest.approx((1 + 1 + 2 * 0.0995) / 4, abs=1e-4)
    assert other.describe(FLOAT32_NETWORK) == (
        "cosine similarity 0.5498 to the float32 network (mean of 4 images; lowest 0.0995); 0.0% of"
        " the nearest neighbors are the same"
    )


def test_the_worst_of_several_outputs_counts() -> None:
    ones, mixed = np.ones((2, 2), np.float32), np.array([[1, 1], [1, 0]], np.float32)
    comparison = compare_similarity([ones, mixed], [ones, ones], finds_neighbors=False)
    assert comparison.cosine == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert comparison.neighbor_agreement is None


def test_nan_misses_every_budget() -> None:
    broken = np.array([[1, math.nan], [1, 1]], np.float32)
    comparison = compare_similarity([broken], [np.ones((2, 2), np.float32)], finds_neighbors=False)
    assert math.isnan(comparison.cosine)
    assert not AccuracyBudget(min_cosine=0).allows(comparison)


@pytest.mark.parametrize(("cosine", "is_allowed"), [(0.99, True), (0.9899, False)])
def test_the_budget_is_the_mean_cosine(cosine: float, is_allowed: bool) -> None:
    comparison = SimilarityComparison(32, cosine, lowest_cosine=0.5)
    assert AccuracyBudget().allows(comparison) is is_allowed


def test_different_numbers_of_images_are_refused() -> None:
    with pytest.raises(RequestError):
        compare_similarity([np.ones((2, 2))], [np.ones((3, 2))], finds_neighbors=False)
