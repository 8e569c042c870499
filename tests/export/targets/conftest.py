"""Networks from which the tests of several targets make artifacts, once per test run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tinyvit.export.source_network import SourceNetwork
    from tinyvit.export.tracing import Graph
    from tinyvit.quant.recipe import Recipe


@pytest.fixture(scope="session")
def demo_network(demo_source: SourceNetwork) -> Any:
    """The demo model at 64 pixels in float32, folded."""
    return demo_source.folded


@pytest.fixture(scope="session")
def demo_graph(demo_source: SourceNetwork) -> Graph:
    """`demo_network`, traced for one image."""
    return demo_source.graph


@pytest.fixture(scope="session")
def demo_recipe(demo_network: Any) -> Recipe:
    """A recipe for `demo_network`, calibrated on noise."""
    pytest.importorskip("torchao")
    from tests.helpers.demo_network import calibrate_on_noise

    return calibrate_on_noise(demo_network)
