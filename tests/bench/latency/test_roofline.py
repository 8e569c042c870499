"""The peak rates of the machine are measured, and a latency is compared with them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.records import make_artifact, make_latency
from tinyvit.bench.latency.roofline import compute_peak_share, measure_peak_rates
from tinyvit.bench.record import LatencyResult, PeakRates

SIZE_BYTES = 5_000_000


def make_result(int8_mac_share: float | None, batch: int = 1) -> LatencyResult:
    """Make a result of 20 ms per query, for a network of 10**9 multiply-accumulates per image."""
    artifact = replace(
        make_artifact("demo.onnx"), int8_mac_share=int8_mac_share, size_bytes=SIZE_BYTES
    )
    return make_latency(
        "demo.onnx", 20, artifact=artifact, median_ms=20.0, gmacs_per_image=1.0, batch=batch
    )


@pytest.mark.parametrize(
    ("int8_mac_share", "share"),
    [(0.0, 0.5), (1.0, 0.125), (0.5, 0.3125)],
    ids=["float32", "int8", "mixed"],
)
def test_peak_share_of_a_network_limited_by_compute(int8_mac_share: float, share: float) -> None:
    rates = PeakRates(
        threads=1, float32_gmacs_per_s=100, int8_gmacs_per_s=400, memory_gb_per_s=1000
    )
    assert compute_peak_share(make_result(int8_mac_share), rates) == pytest.approx(share)


def test_peak_share_of_a_network_limited_by_memory() -> None:
    ten_ms_per_read = SIZE_BYTES / 1e9 / 0.01
    rates = PeakRates(1, 1e9, 1e9, ten_ms_per_read)
    assert compute_peak_share(make_result(0.0), rates) == pytest.approx(0.5)
    # The weights are read once per query: per image 10 ms / 4 of 20 ms / 4.
    assert compute_peak_share(make_result(0.0, batch=4), rates) == pytest.approx(0.5)


def test_peak_share_is_unknown_without_a_kernel_profile() -> None:
    assert compute_peak_share(make_result(None), PeakRates(1, 100, 400, 1000)) is None


def test_measured_rates_are_plausible() -> None:
    rates = measure_peak_rates(1)
    assert min(rates.float32_gmacs_per_s, rates.int8_gmacs_per_s, rates.memory_gb_per_s) > 0.1
