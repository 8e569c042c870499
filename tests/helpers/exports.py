"""Context managers that make exports quick enough for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.helpers.demo_network import load_demo
from tinyvit.export import pipeline, source_network
from tinyvit.export.checks import baseline_timing
from tinyvit.export.source_network import SourceNetwork
from tinyvit.nn.checkpoints.hub import load_released


@contextmanager
def shorten_timing() -> Iterator[None]:
    """Time every artifact in one round, because most tests do not depend on its speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline_timing, "ROUNDS", 1)
        patch.setattr(baseline_timing, "WARMUP_ROUNDS", 0)
        yield


@contextmanager
def shorten_demo() -> Iterator[None]:
    """Let exports of the demo model export a shortened network; see `demo_network`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_network, "load_released", load_demo)
        yield


@contextmanager
def full_demo() -> Iterator[None]:
    """Let exports of the demo model export all of it, although the tests' default is short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_network, "load_released", load_released)
        yield


@contextmanager
def reuse_network(network: SourceNetwork) -> Iterator[None]:
    """Let every export use a network that is traced already, whatever checkpoint is requested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "load_source_network", lambda plan, progress: network)
        yield
