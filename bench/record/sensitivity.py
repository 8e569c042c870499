"""The sensitivity results of a benchmark record: the error that int8 causes in each unit.

A unit is a part of the network that is quantized as a whole: one layer, or the two matrix products
of one attention module. It has the name of its module in the network.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyvit.bench.record.artifact_and_device import ArtifactInfo


@dataclass(frozen=True)
class UnitSensitivity:
    """The error that the quantization of one unit causes.

    Attributes:
        unit: Name of the unit.
        error: The error of the logits that the unit causes: their mean square error if only this
            unit is quantized.
        share: `error` divided by the mean square error of the logits with all units in int8. The
            shares of all units do not add up to exactly 1, because the errors of units amplify or
            cancel each other.
        snr_db: Signal-to-noise ratio of the unit's output in decibels, if only this unit is
            quantized, so that its input is that of the float32 network; None if the output is
            exact or 0.
        cosine: Cosine similarity of this output and that of the float32 network, -1 to 1; None if
            one of them is 0.
        macs: Number of multiply-accumulates of the unit for one image.
    """

    unit: str
    error: float
    share: float
    snr_db: float | None
    cosine: float | None
    macs: int


@dataclass(frozen=True)
class NetworkSensitivity:
    """The error of a quantized network's logits, and the part of each unit in it.

    Attributes:
        image_count: Number of images on which the errors were measured.
        mean_square_error: Mean square difference of the logits of the quantized network and those
            of the float32 network.
        snr_db: Signal-to-noise ratio of the logits in decibels; None if they are exact or 0.
        cosine: Cosine similarity of the logits, -1 to 1; None if all logits are 0.
        units: The units, the largest share of the error first.
    """

    image_count: int
    mean_square_error: float
    snr_db: float | None
    cosine: float | None
    units: tuple[UnitSensitivity, ...]


@dataclass(frozen=True)
class SensitivityResult:
    """The sensitivity of the units of one artifact.

    Attributes:
        artifact: The int8 artifact and its engine.
        reference: Path of the float32 artifact or of the checkpoint with the float32 weights, or
            name of the checkpoint.
        is_simulated: False if the artifact's own graph ran in the engine, with single units
            replaced by those of the float32 network; True if PyTorch computed with the scales of
            the artifact's recipe.
        network: The error of the logits, and the part of each unit in it.
    """

    artifact: ArtifactInfo
    reference: str
    is_simulated: bool
    network: NetworkSensitivity
