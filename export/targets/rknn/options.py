"""The options of the target "rknn"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinyvit.errors import RequestError
from tinyvit.export.targets.base import TargetOption
from tinyvit.export.targets.chip_names import parse_chip_names
from tinyvit.runtimes.rockchip.chips import CHIPS, DEFAULT_CHIP, PYTHON_VARIABLE, Chip

RKNN_OPTIONS = (
    TargetOption(
        "soc",
        f"Chips to compile for, separated by commas: {', '.join(CHIPS)}. One file is written for "
        f"each (default: {DEFAULT_CHIP.name}).",
        names=tuple(CHIPS),
        metavar="CHIPS",
    ),
    TargetOption(
        "rknn_python",
        "Path of the Python that has rknn-toolkit2, which needs an environment of its own "
        f"(default: ${PYTHON_VARIABLE}).",
        metavar="PYTHON",
    ),
)


@dataclass(frozen=True)
class RknnOptions:
    """How files for Rockchip's NPUs are made.

    Attributes:
        chips: The chips to compile for, at least one.
        python: Path of the Python that has rknn-toolkit2; None for that of the environment
            variable.
    """

    chips: tuple[Chip, ...] = (DEFAULT_CHIP,)
    python: str | None = None


def parse_options(values: Mapping[str, str]) -> RknnOptions:
    """Read the options of the command line.

    Args:
        values: Name of an option in `RKNN_OPTIONS` -> its value as text.

    Returns:
        The checked options.

    Raises:
        RequestError: A chip is not known, or a value is empty.
    """
    names = parse_chip_names(values, CHIPS, "Rockchip")
    python = values.get("rknn_python")
    if python is not None and not python.strip():
        raise RequestError("--rknn-python is empty", "give the path of a Python, or leave it out")
    chips = tuple(CHIPS[name] for name in names)
    return RknnOptions(chips or (DEFAULT_CHIP,), python)
