"""Exports with other tools refuse to start when a package is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tinyvit.errors import MissingDependencyError

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from tinyvit.studies.peers import export_pair


def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, module, None)  # importing the module then fails
    with pytest.raises(MissingDependencyError, match=r"safetensors is not installed.*export"):
        export_pair("tiny_vit_5m_224", tmp_path)
    assert list(tmp_path.iterdir()) == []
