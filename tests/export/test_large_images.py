"""Every target takes images of 512 pixels, whose attention windows have up to 1024 tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tests.helpers.exports import shorten_demo, shorten_timing
from tinyvit.errors import MissingDependencyError
from tinyvit.export import ExportConfig, export
from tinyvit.export.targets import get_target, target_names


@pytest.mark.slow
@pytest.mark.parametrize("target", target_names())
def test_large_attention_windows_are_exported(target: str, tmp_path: Path) -> None:
    """The export opens the file in its engine, and compares its logits."""
    config = ExportConfig(
        model="demo",
        targets=(target,),
        img_size=512,
        windows="scaled",
        output_path=tmp_path / f"demo{get_target(target).suffix}",
        float16="float32" in get_target(target).unsupported,
    )
    try:
        with shorten_demo(), shorten_timing():
            artifact = export(config)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert artifact.manifest.windows == "scaled"
    assert artifact.manifest.parity is not None
