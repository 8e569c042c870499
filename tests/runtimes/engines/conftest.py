"""Fixtures for the tests of engines."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Build a Core ML package of the smallest classifier, which a test may change."""
    from tests.helpers.coreml_package import build_gelu_and_linear, build_package

    return build_package(tmp_path, build_gelu_and_linear)
