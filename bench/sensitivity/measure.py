"""Measures the sensitivity of each unit of a quantized network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tinyvit.bench.record import NetworkSensitivity, UnitSensitivity
from tinyvit.metrics import ApproximationError
from tinyvit.progress import NullProgress, Progress


@dataclass(frozen=True)
class UnitOutput:
    """The output of one unit if only this unit is quantized.

    Attributes:
        error: The error of the output, compared with that of the float32 network.
        macs: Number of multiply-accumulates of the unit for one image.
    """

    error: ApproximationError
    macs: int


class SwitchableNetwork(Protocol):
    """A quantized network, with images, whose units can be returned to float32."""

    @property
    def units(self) -> Sequence[str]:
        """The names of the units that are quantized."""
        ...

    @property
    def image_count(self) -> int:
        """The number of images."""
        ...

    def compute_logits(self, float_units: Collection[str]) -> npt.NDArray[np.float32]:
        """Compute the logits of all images, or the values of all outputs of another network.

        Args:
            float_units: Names of the units that are in float32; with all units, the network is the
                float32 network.

        Returns:
            Logits, float32 (images, classes); other outputs in one row, (images, values).
        """
        ...

    def compare_outputs(self) -> Mapping[str, UnitOutput]:
        """Compare the output of every unit, quantized alone, with that in the float32 network.

        Returns:
            Name of the unit -> its output.
        """
        ...


def measure_sensitivity(
    network: SwitchableNetwork, progress: Progress = NullProgress()
) -> NetworkSensitivity:
    """Measure the error that each unit causes in its own output and in the logits.

    For each figure, only one unit is quantized.

    Args:
        network: The quantized network and the images.
        progress: Receives the number of units that have been measured.

    Returns:
        The errors.
    """
    units = network.units
    reference = network.compute_logits(units)
    int8 = _compare(network.compute_logits(()), reference)
    outputs = network.compare_outputs()
    sensitivities = []
    for unit_count, unit in enumerate(units, start=1):
        float_units = tuple(other for other in units if other != unit)
        error = _compare(network.compute_logits(float_units), reference).mean_square_error
        output = outputs[unit]
        sensitivities.append(
            UnitSensitivity(
                unit=unit,
                error=error,
                share=error / int8.mean_square_error if int8.mean_square_error else 0.0,
                snr_db=output.error.snr_db,
                cosine=output.error.cosine,
                macs=output.macs,
            )
        )
        progress.advance("measuring the sensitivity of units", unit_count, len(units))
    sensitivities.sort(key=_ordering_key)
    return NetworkSensitivity(
        image_count=network.image_count,
        mean_square_error=int8.mean_square_error,
        snr_db=int8.snr_db,
        cosine=int8.cosine,
        units=tuple(sensitivities),
    )


def _compare(
    logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]
) -> ApproximationError:
    """Return the error of logits, (images, classes)."""
    error = ApproximationError()
    error.add(reference, logits)
    return error


def _ordering_key(sensitivity: UnitSensitivity) -> tuple[float, str]:
    """Return the sort key: the largest error first, then by name."""
    return -sensitivity.error, sensitivity.unit
