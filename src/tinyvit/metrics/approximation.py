"""Measures how far tensors are from the exact tensors that they approximate.

Quantization replaces exact tensors by approximations. The difference of the two is the noise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


class ApproximationError:
    """The error of an approximate tensor, summed over any number of batches in float64."""

    def __init__(self) -> None:
        """Start without any values."""
        self._count = 0
        self._exact_power = 0.0
        self._approximate_power = 0.0
        self._noise_power = 0.0
        self._product = 0.0

    def add(self, exact: npt.NDArray[Any], approximate: npt.NDArray[Any]) -> None:
        """Add the values of one batch.

        Args:
            exact: The exact values, of any shape.
            approximate: The approximate values, of the same shape.
        """
        exact = np.asarray(exact, np.float64).ravel()
        approximate = np.asarray(approximate, np.float64).ravel()
        noise = approximate - exact
        self._count += exact.size
        self._exact_power += float(exact @ exact)
        self._approximate_power += float(approximate @ approximate)
        self._noise_power += float(noise @ noise)
        self._product += float(exact @ approximate)

    @property
    def mean_square_error(self) -> float:
        """Mean of the squared differences; 0 without values."""
        return self._noise_power / self._count if self._count else 0.0

    @property
    def snr_db(self) -> float | None:
        """Signal-to-noise ratio in decibels: ten times the decimal logarithm of a ratio of powers.

        The ratio is the sum of the squared exact values divided by the sum of the squared
        differences. The property is None if one of the two sums is 0.
        """
        if not self._exact_power or not self._noise_power:
            return None
        return 10 * math.log10(self._exact_power / self._noise_power)

    @property
    def cosine(self) -> float | None:
        """Cosine of the angle between all exact and all approximate values, -1 to 1.

        The property is None if all exact or all approximate values are 0.
        """
        norms = math.sqrt(self._exact_power) * math.sqrt(self._approximate_power)
        if not norms:
            return None
        return min(max(self._product / norms, -1.0), 1.0)
