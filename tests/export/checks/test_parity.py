"""An artifact whose logits differ from the network's is refused, with the largest difference."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tinyvit.errors import ArtifactError
from tinyvit.export.checks import parity
from tinyvit.manifest_parts import OutputSpec
from tinyvit.runtimes.golden_comparison import GoldenInputResult

RUNTIME: Any = SimpleNamespace(describe=lambda: SimpleNamespace(engine="onnxruntime"))
MANIFEST: Any = SimpleNamespace(
    golden=SimpleNamespace(tolerances=(0.01,)),
    target="onnx",
    precision="float32",
    quantization=None,
    outputs=(OutputSpec("logits", ("batch", 2), "float32", "NC"),),
    output_kind="logits",
)


def set_differences(monkeypatch: pytest.MonkeyPatch, differences: list[float]) -> None:
    """Let the golden inputs have these differences."""
    results = tuple(
        GoldenInputResult(pattern_number, difference, True, (difference,))
        for pattern_number, difference in enumerate(differences)
    )
    monkeypatch.setattr(parity, "compare_golden_vectors", lambda *_: results)


def test_the_largest_difference_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    set_differences(monkeypatch, [0.001, 0.01, 0.002])
    assert parity.measure_parity(RUNTIME, MANIFEST).max_abs_diff == 0.01


@pytest.mark.parametrize(
    ("differences", "largest"),
    [([0.001, 0.02], "0.02"), ([0.001, math.nan], "nan"), ([math.nan, 0.001], "nan")],
)
def test_a_difference_above_the_tolerance_is_refused(
    monkeypatch: pytest.MonkeyPatch, differences: list[float], largest: str
) -> None:
    set_differences(monkeypatch, differences)
    with pytest.raises(ArtifactError, match=f"logits differ by {largest}, and 0.01 is allowed"):
        parity.measure_parity(RUNTIME, MANIFEST)


@pytest.mark.parametrize(("precision", "calibrates"), [("int8", True), ("float32", False)])
def test_more_images_are_proposed_for_int8(
    monkeypatch: pytest.MonkeyPatch, precision: str, calibrates: bool
) -> None:
    set_differences(monkeypatch, [0.02])
    manifest: Any = SimpleNamespace(**{**vars(MANIFEST), "precision": precision})
    with pytest.raises(ArtifactError) as caught:
        parity.measure_parity(RUNTIME, manifest)
    assert ("--calib-count" in caught.value.remedy) == calibrates


def test_the_output_with_the_largest_difference_for_its_tolerance_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = (
        GoldenInputResult(0, 0.5, None, (0.5, 0.01)),
        GoldenInputResult(1, 0.4, None, (0.4, 0.03)),
    )
    monkeypatch.setattr(parity, "compare_golden_vectors", lambda *_: results)
    maps = tuple(
        OutputSpec(name, (1, 2, 3, 3), "float32", "NCHW", "features", 4) for name in ("a", "b")
    )
    manifest = SimpleNamespace(
        golden=SimpleNamespace(tolerances=(1.0, 0.04)),
        target="onnx",
        precision="float32",
        quantization=None,
        outputs=maps,
        output_kind="features",
    )
    assert parity.measure_parity(RUNTIME, manifest).max_abs_diff == 0.03
    manifest.golden.tolerances = (1.0, 0.02)
    with pytest.raises(ArtifactError, match=r"values of b differ by 0\.03, and 0\.02 is allowed"):
        parity.measure_parity(RUNTIME, manifest)
