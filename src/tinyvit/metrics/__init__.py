"""Evaluation statistics: accuracy, agreement, flips, confidence intervals and significance.

This package is the only place that defines how predictions are counted. Quantization, benchmarks
and distillation all call it. It needs numpy only. Accuracies, agreements and intervals are in
percent (0 to 100), and differences between them are in percentage points.
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
from tinyvit.metrics.comparison import (
    Flips,
    PairedComparison,
    agreement,
    compare_classes,
    compare_predictions,
    count_flips,
)
from tinyvit.metrics.significance import gain_interval, mcnemar_p_value, wilson_interval

__all__ = [
    "AccuracyCounter",
    "ClassAccuracy",
    "Flips",
    "PairedComparison",
    "Truths",
    "accuracy_per_class",
    "agreement",
    "compare_classes",
    "compare_predictions",
    "count_flips",
    "expected_calibration_error",
    "gain_interval",
    "mcnemar_p_value",
    "rank_classes",
    "top_k_correct",
    "wilson_interval",
]
