"""Measured curves, and the exponents that describe their growth.

A quantity that is proportional to x ** n is a line of slope n if both axes are logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Point = tuple[float, float]
"""What was varied, and what was measured. Both are greater than 0."""


@dataclass(frozen=True)
class Curve:
    """How one quantity of one network, engine or method grows.

    Attributes:
        name: What was measured, such as an engine.
        quantity: The quantity with its unit, one of `QUANTITIES`.
        points: The points in ascending order of what was varied.
    """

    name: str
    quantity: str
    points: tuple[Point, ...]

    @property
    def exponent(self) -> float | None:
        """The fitted exponent; None for fewer than two points."""
        return fit_exponent(self.points)


TIME = "time, ms"
"""Quantity: the median time of one run."""
MEMORY = "memory, MiB"
"""Quantity: how much the largest memory of a process grew since it had imported the engine."""
FILE_SIZE = "file, MB"
"""Quantity: the size of the file."""
SECONDS = "time, s"
"""Quantity: the time of a whole piece of work."""
QUANTITIES = (TIME, SECONDS, MEMORY, FILE_SIZE)
"""All quantities, in the order of the panels of a picture."""


@dataclass(frozen=True)
class Part:
    """The measurements of one part of the study.

    Attributes:
        name: Name of the part on the command line.
        title: Heading of its section.
        x_label: What was varied, with its unit.
        curves: The curves; empty if the part was skipped.
        notes: What was run and what was not, and disturbances, one sentence each.
        seconds: Duration of the part.
        date: When the part was measured; empty if it is not known yet.
    """

    name: str
    title: str
    x_label: str
    curves: tuple[Curve, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    date: str = ""


def fit_exponent(points: Sequence[Point]) -> float | None:
    """Fit y = a * x ** n by least squares of the logarithms.

    Args:
        points: The points. Those with a value that is not greater than 0 are left out.

    Returns:
        The exponent n; None if there are not two different x.
    """
    logarithms = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in logarithms}) < 2:
        return None
    xs, ys = np.array(logarithms).T
    return float(np.polyfit(xs, ys, 1)[0])


def list_local_exponents(points: Sequence[Point]) -> list[float | None]:
    """List the exponent between each point and the one before it, which shows kinks.

    Args:
        points: The points in ascending order.

    Returns:
        One exponent fewer than there are points.
    """
    return [fit_exponent(pair) for pair in pairwise(points)]


def extrapolate(points: Sequence[Point], x: float) -> float | None:
    """Continue the straight line through the last two points, in axes that are not logarithmic.

    Args:
        points: The points in ascending order.
        x: Where to evaluate the line, to the right of the points.

    Returns:
        The value of the line, but at least that of the last point; None for fewer than two points.
    """
    if len(points) < 2:
        return None
    (previous_x, previous_y), (last_x, last_y) = points[-2:]
    slope = (last_y - previous_y) / (last_x - previous_x)
    return last_y + max(0.0, slope) * (x - last_x)
