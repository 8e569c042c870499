"""The messages between an export and its worker processes, which make the artifacts of targets.

They are pickled and sent through a pair of sockets that only the two processes have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyvit.errors import TinyViTError
    from tinyvit.export.artifact_writer import ExportedArtifact
    from tinyvit.export.export_results import FailedTarget
    from tinyvit.export.plan import ExportPlan
    from tinyvit.export.workers.shared_images import SharedImages
    from tinyvit.manifest import Manifest
    from tinyvit.quant.config import QuantizationConfig
    from tinyvit.quant.recipe import Recipe


@dataclass(frozen=True)
class QuantizationSetup:
    """The options, recipe and images with which a worker quantizes the network.

    Attributes:
        config: The options.
        recipe: The recipe that the export has read or calibrated.
        images: The images on which int8 is compared with float32, and the float32 outputs for them;
            None if int8 is not compared.
    """

    config: QuantizationConfig
    recipe: Recipe
    images: SharedImages | None


@dataclass(frozen=True)
class WorkerSetup:
    """The first message to a worker.

    Attributes:
        plan: The plan of the export.
        checkpoint_sha256: Digest of the checkpoint that the export has read.
        manifest: For float32 and float16, the manifest that all artifacts share; None for int8.
        quantization: For int8, how the network is quantized; None for float32 and float16.
    """

    plan: ExportPlan
    checkpoint_sha256: str
    manifest: Manifest | None
    quantization: QuantizationSetup | None


@dataclass(frozen=True)
class Ready:
    """From a worker: it has started, or has made all artifacts that it was sent, and waits."""


@dataclass(frozen=True)
class Report:
    """From a worker: a message of `Progress`.

    Attributes:
        text: One line of plain text.
    """

    text: str


@dataclass(frozen=True)
class QuietRequest:
    """From a worker: it waits until the other workers are paused, because it measures latency."""


@dataclass(frozen=True)
class QuietGranted:
    """To a worker: the other workers are paused."""


@dataclass(frozen=True)
class QuietEnd:
    """From a worker: it has measured latency, so that the other workers can go on."""


@dataclass(frozen=True)
class SensitivityImagesRequest:
    """From a worker: it waits for the images on which layers are ranked by sensitivity.

    The answer is an array, float32 (N, 3, H, W), or a `TinyViTError`.
    """


@dataclass(frozen=True)
class Finished:
    """From a worker: an artifact is written, or there is none.

    Attributes:
        result: The artifact, or why there is none.
    """

    result: ExportedArtifact | FailedTarget


@dataclass(frozen=True)
class Aborted:
    """From a worker: the whole export must end.

    Attributes:
        error: Why.
    """

    error: TinyViTError
