"""Confidence intervals and significance tests for accuracies."""

from __future__ import annotations

import math

from tinyvit.metrics.checks import require_images

_NORMAL_QUANTILE = 1.959963984540054
"""97.5% quantile of the normal distribution, for two-sided 95% intervals."""
_BISECTION_STEPS = 60
"""Number of times an interval of width 2 is halved; the rest is smaller than float64 resolves."""


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """Return the 95% confidence interval of an accuracy.

    This is Wilson's score interval without continuity correction ("Probable inference, the law of
    succession, and statistical inference", JASA 22, 1927). It remains valid at 0% and at 100%,
    where the width of the normal (Wald) interval is 0.

    Args:
        correct: Number of correctly classified images, 0 to `count`.
        count: Number of images.

    Returns:
        Lower and upper limit in percent, within 0 to 100.

    Raises:
        RequestError: There are no images.
    """
    require_images(count)
    # p is the proportion; z2_over_n is the squared quantile divided by the number of images.
    p, z2_over_n = correct / count, _NORMAL_QUANTILE**2 / count
    center = p + z2_over_n / 2
    half_width = _NORMAL_QUANTILE * math.sqrt(p * (1 - p) / count + z2_over_n / (4 * count))
    low = 100 * (center - half_width) / (1 + z2_over_n)
    high = 100 * (center + half_width) / (1 + z2_over_n)
    return max(0.0, low), min(100.0, high)


def paired_difference_interval(worse: int, better: int, count: int) -> tuple[float, float]:
    """Return the 95% confidence interval of a loss of accuracy, measured on the same images.

    This is the score interval of Tango, "Equivalence test and confidence interval for the
    difference in proportions for the paired-sample design", Statistics in Medicine 17, 1998. It
    remains valid without flips, where the width of the normal (Wald) interval is 0.

    Args:
        worse: Number of images that only the reference classifies correctly.
        better: Number of images that only the classifier itself classifies correctly.
        count: Number of images, including those that are not flips.

    Returns:
        Lower and upper limit of the reference's accuracy minus the classifier's, in percentage
        points, within -100 to 100.

    Raises:
        RequestError: There are no images.
    """
    require_images(count)
    loss = (worse - better) / count
    low = _solve_score(worse, better, count, limits=(-1.0, loss), quantile=_NORMAL_QUANTILE)
    high = _solve_score(worse, better, count, limits=(loss, 1.0), quantile=-_NORMAL_QUANTILE)
    return 100 * low, 100 * high


def _solve_score(
    worse: int, better: int, count: int, *, limits: tuple[float, float], quantile: float
) -> float:
    """Return the loss, between two limits, at which Tango's score statistic equals a quantile."""
    low, high = limits
    for _ in range(_BISECTION_STEPS):
        middle = (low + high) / 2
        # The names are those of Tango's paper: q21 is the most likely probability of a gain if the
        # true loss is `middle`, and a root of the quadratic equation with these coefficients.
        b = -worse - better + (2 * count - worse + better) * middle
        c = -better * middle * (1 - middle)
        q21 = (math.sqrt(max(b * b - 8 * count * c, 0.0)) - b) / (4 * count)
        variance = count * max(2 * q21 + middle * (1 - middle), 0.0)
        if worse - better - count * middle > quantile * math.sqrt(variance):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def mcnemar_p_value(worse: int, better: int) -> float:
    """Return the exact two-sided p-value of McNemar's test for accuracies on the same images.

    A flip is an image that only one of the two classifiers classifies correctly. The null
    hypothesis is that flips in both directions are equally likely. The p-value is the probability
    that the numbers of flips then differ at least as much as observed. The test is that of McNemar,
    "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947, with the binomial distribution instead of the chi-squared approximation.

    Args:
        worse: Number of images that only the reference classifies correctly.
        better: Number of images that only the classifier itself classifies correctly.

    Returns:
        Probability from 0 to 1; 1 if both counts are 0.
    """
    count, smaller_count = worse + better, min(worse, better)
    if count == 0:
        return 1.0
    # Logarithms, because the binomial coefficients of thousands of flips overflow a float.
    log_probabilities = (
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        - count * math.log(2)
        for k in range(smaller_count + 1)
    )
    return min(1.0, 2 * math.fsum(math.exp(log) for log in log_probabilities))


def gain_interval(
    top1: float, image_count: int, reference_top1: float, reference_image_count: int
) -> tuple[float, float]:
    """Return the 95% confidence interval of the gain in top-1 accuracy over a reference.

    Only the two accuracies are needed, not the numbers of flips. The interval combines the Wilson
    intervals of both as if they were measured on independent images (Newcombe, "Interval estimation
    for the difference between independent proportions", Statistics in Medicine 17, 1998, method
    10). If both were measured on the same images, the interval is wider than necessary.

    Args:
        top1: Top-1 accuracy in percent.
        image_count: Number of images on which `top1` was measured.
        reference_top1: Top-1 accuracy of the reference in percent.
        reference_image_count: Number of images on which `reference_top1` was measured.

    Returns:
        Lower and upper limit of `top1 - reference_top1`, in percentage points.

    Raises:
        RequestError: There are no images.
    """
    low, high = wilson_interval(round(top1 * image_count / 100), image_count)
    reference_low, reference_high = wilson_interval(
        round(reference_top1 * reference_image_count / 100), reference_image_count
    )
    gain = top1 - reference_top1
    return (
        gain - math.hypot(top1 - low, reference_high - reference_top1),
        gain + math.hypot(high - top1, reference_top1 - reference_low),
    )
