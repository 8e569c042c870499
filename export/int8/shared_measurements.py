"""Keeps the measurements that several targets of one export share.

These are the outputs of the float32 network, and the results of searches within the budget.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tinyvit.export.checks.tolerances import RELATIVE_TOLERANCE
from tinyvit.export.int8.quantized_candidate import QuantizedCandidate
from tinyvit.export.workspace import Workspace
from tinyvit.progress import Progress
from tinyvit.quant.accuracy_budget import ArtifactOutputs, BatchFactory, ImageReporter
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes.artifact import Artifact

PROBE_IMAGE_COUNT = 8
"""Number of images on which the float32 logits of two targets' engines are compared."""


@dataclass
class SharedMeasurements:
    """Measurements of one export that several targets share.

    Attributes:
        candidates_by_scheme: Results of the searches for targets whose engines do not run on this
            machine. They are measured with an ONNX file in place of the target's own file
            (`parity.OnnxSubstitute`); each key is the quantization scheme of such an ONNX file.
        float32_outputs: The outputs of the float32 artifact in the first engine that ran it; None
            before that.
    """

    candidates_by_scheme: dict[QuantScheme, QuantizedCandidate] = field(default_factory=dict)
    float32_outputs: ArtifactOutputs | None = None

    def run_float32(
        self,
        workspace: Workspace,
        float32: Artifact,
        make_batches: BatchFactory,
        image_count: int,
        progress: Progress,
    ) -> ArtifactOutputs:
        """Return the outputs of a float32 artifact, from an earlier target if they are the same.

        Args:
            workspace: The workspace of the artifact.
            float32: The artifact.
            make_batches: Function that returns a new iterator over the batches of images.
            image_count: Number of these images, including unreadable ones.
            progress: If the artifact is run on all images, this receives a message and the number
                of finished images.

        Returns:
            The outputs of the first engine, if this artifact returns the same logits on the first
            `PROBE_IMAGE_COUNT` images; otherwise the artifact's own outputs.
        """
        known_outputs = self.float32_outputs
        if known_outputs is not None and _returns_known_outputs(
            workspace, float32, make_batches, known_outputs
        ):
            return known_outputs
        progress.message(f"measuring float32 in the {workspace.target.name} target's engine")
        report_images = make_image_reporter(progress, "float32", image_count)
        outputs = workspace.run(float32, make_batches, report_images)
        if known_outputs is None:
            self.float32_outputs = outputs
        return outputs


def make_image_reporter(progress: Progress, precision: str, image_count: int) -> ImageReporter:
    """Return a function that shows how many images an artifact of a precision has finished.

    Args:
        progress: Receives the number of finished images.
        precision: Precision of the artifact, for the description of the task.
        image_count: Number of images, including unreadable ones.
    """

    def report_images(finished: int) -> None:
        progress.advance(f"measuring {precision}, images", finished, image_count)

    return report_images


def _returns_known_outputs(
    workspace: Workspace,
    artifact: Artifact,
    make_batches: BatchFactory,
    known_outputs: ArtifactOutputs,
) -> bool:
    """Return whether an artifact returns the known outputs on the first images."""
    pixels, _classes = next(make_batches())
    no_classes = None  # Only outputs are compared.
    probe_batch = (pixels[:PROBE_IMAGE_COUNT], no_classes)
    outputs = workspace.run(artifact, lambda: iter([probe_batch])).outputs
    # The artifacts of a workspace contain no preprocessing: embedded preprocessing "host".
    relative_tolerance = RELATIVE_TOLERANCE["host"]
    return all(
        np.abs(values - known[: len(values)]).max() <= relative_tolerance * np.abs(known).max()
        for values, known in zip(outputs, known_outputs.outputs)
    )
