"""Contradictory and impossible options of a latency measurement are refused."""

from __future__ import annotations

from typing import Any

import pytest

from tinyvit.bench.latency.config import LatencyConfig
from tinyvit.errors import RequestError


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scenario": "server"}, "--scenario server needs either --rate or --p99-ms"),
        ({"rate": 3.0}, "have no meaning in the scenario single-stream"),
        ({"p99_ms": 3.0}, "have no meaning in the scenario single-stream"),
        ({"scenario": "server", "rate": 1.0, "p99_ms": 1.0}, "but 2 were given"),
        ({"scenario": "server", "rate": 1.0, "batches": (2,)}, "--batch is 2"),
        ({"scenario": "server", "rate": 0.0}, "--rate is 0: give --rate a number greater than 0"),
        ({"scenario": "server", "p99_ms": -1.0}, "--p99-ms is -1"),
        ({"runs": 0}, "--runs is 0: give --runs a whole number from 1 upwards"),
        ({"batches": (None, 0)}, "--batch is 0"),
        ({"threads": (0,)}, "--threads is 0"),
        ({"seconds": float("nan")}, "--seconds is nan"),
        ({"seconds": 0.0}, "--seconds is 0"),
        ({"cold_starts": -1}, "--cold is -1: give --cold a whole number from 0 upwards"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RequestError) as caught:
        LatencyConfig(**options)
    assert text in str(caught.value)


def test_a_server_measurement_with_a_rate_is_possible() -> None:
    assert LatencyConfig(scenario="server", rate=2.0, batches=(None, 1)).rate == 2.0
