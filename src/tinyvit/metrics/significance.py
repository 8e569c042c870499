"""Confidence intervals and significance tests for accuracies."""

from __future__ import annotations

import math

from tinyvit.metrics.checks import require_images

_NORMAL_QUANTILE = 1.959963984540054
"""97.5% quantile of the normal distribution, for two-sided 95% intervals."""


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """Return the 95% confidence interval of an accuracy.

    This is the score interval without continuity correction (Wilson, "Probable inference, the law
    of succession, and statistical inference", JASA 22, 1927). It stays valid at 0% and at 100%,
    where the normal (Wald) interval has no width.

    Args:
        correct: Number of correctly classified images, 0 to `count`.
        count: Number of images.

    Returns:
        Lower and upper limit in percent, within 0 to 100.

    Raises:
        RequestError: There are no images.
    """
    require_images(count)
    share, square = correct / count, _NORMAL_QUANTILE**2 / count
    middle = share + square / 2
    half = _NORMAL_QUANTILE * math.sqrt(share * (1 - share) / count + square / (4 * count))
    low, high = 100 * (middle - half) / (1 + square), 100 * (middle + half) / (1 + square)
    return max(0.0, low), min(100.0, high)


def mcnemar_p_value(worse: int, better: int) -> float:
    """Return the exact two-sided p-value of McNemar's test for paired accuracies.

    The p-value is the probability that, if a changed image were equally likely to change in either
    direction, the two counts would differ at least this much. The test is of McNemar, "Note on the
    sampling error of the difference between correlated proportions or percentages", Psychometrika
    12, 1947, with the binomial distribution instead of the chi-squared approximation.

    Args:
        worse: Number of images that only the reference classifies correctly.
        better: Number of images that only the classifier itself classifies correctly.

    Returns:
        Probability from 0 to 1; 1 if no image changed.
    """
    count, least = worse + better, min(worse, better)
    if count == 0:
        return 1.0
    # Logarithms, because the binomial coefficients of thousands of images overflow a float.
    logs = (
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        - count * math.log(2)
        for k in range(least + 1)
    )
    return min(1.0, 2 * math.fsum(math.exp(log) for log in logs))


def gain_interval(
    top1: float, images: int, reference_top1: float, reference_images: int
) -> tuple[float, float]:
    """Return the 95% confidence interval of the gain in top-1 accuracy over a reference.

    Only the two accuracies are needed, not the images that changed: the interval combines two
    Wilson intervals as if the images were independent (Newcombe, "Interval estimation for the
    difference between independent proportions", Statistics in Medicine 17, 1998, method 10). When
    both accuracies come from the same images, the interval is wider than necessary.

    Args:
        top1: Top-1 accuracy in percent.
        images: Number of images behind `top1`.
        reference_top1: Top-1 accuracy of the reference in percent.
        reference_images: Number of images behind `reference_top1`.

    Returns:
        Lower and upper limit of `top1 - reference_top1`, in percentage points.

    Raises:
        RequestError: There are no images.
    """
    low, high = wilson_interval(round(top1 * images / 100), images)
    reference_low, reference_high = wilson_interval(
        round(reference_top1 * reference_images / 100), reference_images
    )
    gain = top1 - reference_top1
    return (
        gain - math.hypot(top1 - low, reference_high - reference_top1),
        gain + math.hypot(high - top1, reference_top1 - reference_low),
    )
