"""How much an output may differ depends on what the precision and the preprocessing round."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tinyvit.export.checks.tolerances import choose_tolerance
from tinyvit.manifest_parts import OutputSpec


@pytest.mark.parametrize(
    ("precision", "kind", "preprocessing", "expected"),
    [
        ("float32", "features", "host", 0.005),
        ("float32", "logits", "full", 0.05),
        ("float16", "features", "host", 0.15),
        ("int8", "logits", "full", 0.4),
        ("int8", "embedding", "host", 0.4),
        ("int8", "features", "host", 0.8),
    ],
)
def test_the_tolerance_depends_on_what_is_rounded(
    precision: str, kind: Any, preprocessing: str, expected: float
) -> None:
    manifest: Any = SimpleNamespace(precision=precision, embedded_preprocessing=preprocessing)
    spec = OutputSpec("output", ("batch", 2), "float32", "NC", kind)
    values = np.array([[1.0, -5.0], [3.0, 0.0]])
    assert choose_tolerance(manifest, spec, values) == expected
