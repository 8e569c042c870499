"""Evaluation statistics: accuracy, agreement, flips, confidence intervals and significance.

Quantization, benchmarks and distillation all compute their statistics with this package, which
needs only numpy. Accuracies, agreements and their intervals are in percent (0 to 100); differences
of these are in percentage points. A comparison is between a classifier and a reference classifier
on the same images. Flips are the images that only one of the two classifies correctly.
"""

from tinyvit.metrics.accuracy import (
    AccuracyCounter,
    ClassAccuracy,
    Truths,
    accuracy_per_class,
    expected_calibration_error,
    rank_classes,
    top_k_correct,
)
from tinyvit.metrics.approximation import ApproximationError
from tinyvit.metrics.comparison import (
    FLOAT32_NETWORK,
    Flips,
    PairedComparison,
    agreement,
    compare_classes,
    compare_logits,
    count_flips,
)
from tinyvit.metrics.significance import (
    gain_interval,
    mcnemar_p_value,
    paired_difference_interval,
    wilson_interval,
)
from tinyvit.metrics.similarity import (
    SimilarityComparison,
    compare_similarity,
    cosine_similarities,
    find_nearest_neighbors,
)

__all__ = [
    "FLOAT32_NETWORK",
    "AccuracyCounter",
    "ApproximationError",
    "ClassAccuracy",
    "Flips",
    "PairedComparison",
    "SimilarityComparison",
    "Truths",
    "accuracy_per_class",
    "agreement",
    "compare_classes",
    "compare_logits",
    "compare_similarity",
    "cosine_similarities",
    "count_flips",
    "expected_calibration_error",
    "find_nearest_neighbors",
    "gain_interval",
    "mcnemar_p_value",
    "paired_difference_interval",
    "rank_classes",
    "top_k_correct",
    "wilson_interval",
]
