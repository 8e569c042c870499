"""Chooses how much the outputs of an artifact may differ from those of its network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import EmbeddedPreprocessing, OutputSpec, Precision

RELATIVE_TOLERANCE: dict[EmbeddedPreprocessing, float] = {
    "host": 1e-3,
    "normalize": 1e-3,
    "full": 1e-2,
}
"""Allowed difference between an output of a float32 engine and that of the torch model, as a
fraction of the largest absolute value of the output, or of 1 if that is larger.

Engines differ by about 1e-5. If the artifact resizes, a few pixels also differ by one level of 255.
"""

ROUNDING_TOLERANCE: dict[Precision, float] = {"float16": 0.03, "int8": 0.08}
"""The same fraction for precisions that round values; if it is above `RELATIVE_TOLERANCE`, it
applies instead.

float16: the engine may compute in bfloat16, whose significand has 8 bits; the largest difference
seen was 0.004. int8: correct engines add float32 numbers in different orders, so a sum near the
middle between two integers may be rounded up or down; docs/lab-notes/int8.md has the differences
seen in correct engines and in kernels that saturate.
"""
FEATURE_ROUNDING_TOLERANCE = 0.16
"""The same fraction for a feature map in int8. Of its values, 512 are compared for each input, and
the largest of so many roundings is larger than that of a few logits: in the embeddings of a
MobileSAM at 1024 x 1024 pixels, correct engines differ by up to 0.103 (docs/lab-notes/int8.md).
"""


def choose_tolerance(
    manifest: Manifest, spec: OutputSpec, values: npt.NDArray[np.float64]
) -> float:
    """Choose the largest difference from the golden values of an output that is allowed.

    Args:
        manifest: The artifact's manifest; its precision and embedded preprocessing are used.
        spec: The output.
        values: Its golden values for all inputs.

    Returns:
        The difference, rounded to three digits.
    """
    rounding_tolerance = ROUNDING_TOLERANCE.get(manifest.precision, 0.0)
    if spec.kind == "features" and manifest.precision == "int8":
        rounding_tolerance = FEATURE_ROUNDING_TOLERANCE
    relative_tolerance = max(
        RELATIVE_TOLERANCE[manifest.embedded_preprocessing], rounding_tolerance
    )
    tolerance = relative_tolerance * max(1.0, float(np.abs(values).max()))
    return float(f"{tolerance:.3g}")
