"""The options of the target "qnn"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinyvit.errors import RequestError
from tinyvit.export.targets.base import TargetOption
from tinyvit.export.targets.chip_names import parse_chip_names
from tinyvit.quant_scheme import Activations, QuantScheme
from tinyvit.runtimes.qualcomm import CHIPS, Chip

QNN_OPTIONS = (
    TargetOption(
        "soc",
        f"Chips to compile for, separated by commas: {', '.join(CHIPS)}. One file is written for "
        "each (default: one file that is compiled on the device).",
        names=tuple(CHIPS),
        metavar="CHIPS",
    ),
    TargetOption(
        "activations",
        "With --int8, number of bits of the activations (default: 16).",
        choices=("16", "8"),
    ),
    TargetOption(
        "strict",
        "Refuse a network of which the compiler leaves any operator to the CPU.",
        is_flag=True,
    ),
)


@dataclass(frozen=True)
class QnnOptions:
    """How files for Hexagon NPUs are made.

    Attributes:
        chips: The chips to compile for; empty for a file that is compiled on the device.
        has_8bit_activations: Whether activations have 8 bits instead of 16.
        is_strict: Whether a network is refused if an operator stays on the CPU.
    """

    chips: tuple[Chip, ...] = ()
    has_8bit_activations: bool = False
    is_strict: bool = False

    @property
    def scheme(self) -> QuantScheme:
        """Return the quantization scheme."""
        activations: Activations = "uint8" if self.has_8bit_activations else "uint16"
        return QuantScheme(activations=activations, every_tensor=True)


def parse_options(values: Mapping[str, str]) -> QnnOptions:
    """Read the options of the command line.

    Args:
        values: Name of an option in `QNN_OPTIONS` -> its value as text.

    Returns:
        The checked options.

    Raises:
        RequestError: A value is not known.
    """
    names = parse_chip_names(
        values,
        CHIPS,
        "Qualcomm",
        ", or leave out --soc for a file that is compiled on the device",
    )
    activations = values.get("activations", "16")
    if activations not in ("8", "16"):
        raise RequestError(f"--activations {activations} is not possible", "use 16 or 8")
    strict = values.get("strict", "no")
    if strict not in ("yes", "no"):
        raise RequestError(f"strict={strict!r} is not possible", 'use "yes" or "no"')
    return QnnOptions(tuple(CHIPS[name] for name in names), activations == "8", strict == "yes")
