"""Compares the time of a network with the lowest time that the peaks of the machine allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tinyvit.studies.machine_peaks import MachinePeaks


@dataclass(frozen=True)
class EngineTimes:
    """The measured time of a file in its engine, and what the engine's profile states.

    Attributes:
        file: Name of the file.
        engine: Name and version of the engine.
        threads: Number of CPU threads.
        wall_ms: Median time of one run without a profiler; None if the file cannot be run.
        size_bytes: Size of all files of the artifact.
        kind_ms: Milliseconds by kind of work (`kernel_kinds.KINDS`), in one run with the profiler;
            empty if the profile has no times.
        integer_macs: Number of multiply-accumulates in integer kernels; None without a profile.
        float_macs: Number of multiply-accumulates in other kernels; None without a profile.
        output_bytes: Size of everything that the nodes write; None if the profile has no sizes.
        note: What is missing, and why; empty if nothing is.
    """

    file: str
    engine: str
    threads: int
    wall_ms: float | None = None
    size_bytes: int = 0
    kind_ms: Mapping[str, float] = field(default_factory=dict)
    integer_macs: int | None = None
    float_macs: int | None = None
    output_bytes: int | None = None
    note: str = ""

    @property
    def dispatch_ms(self) -> float | None:
        """The part of the run outside kernels; None without times.

        It is negative if the profiler slows the kernels by more than that.
        """
        if self.wall_ms is None or not self.kind_ms:
            return None
        return self.wall_ms - sum(self.kind_ms.values())


@dataclass(frozen=True)
class Bounds:
    """The lowest times that the peaks of the machine allow.

    Attributes:
        products_ms: Time of the multiply-accumulates at the highest rates; None if their number is
            unknown.
        weights_ms: Time of reading the weights from memory once.
        traffic_ms: Time of reading the weights, and of writing and reading all activations, once
            each; None if their size is unknown. Caches make it shorter, so that it is no bound.
    """

    products_ms: float | None
    weights_ms: float
    traffic_ms: float | None

    @property
    def lowest_ms(self) -> float | None:
        """The larger of the times of products and weights; None if the former is unknown."""
        return None if self.products_ms is None else max(self.products_ms, self.weights_ms)


def compute_bounds(times: EngineTimes, peaks: MachinePeaks) -> Bounds:
    """Compute the lowest times of a file.

    Args:
        times: The file's numbers of multiply-accumulates and bytes.
        peaks: The peaks of the machine with the same number of threads.
    """
    products_ms = None
    if times.integer_macs is not None and times.float_macs is not None:
        int8_rate, float32_rate = (
            peaks.find_best(precision).gmacs_per_s for precision in ("int8", "float32")
        )
        # A billion multiply-accumulates per second are a million per millisecond.
        products_ms = (times.integer_macs / int8_rate + times.float_macs / float32_rate) / 1e6
    bytes_per_ms = peaks.memory_gb_per_s * 1e6
    traffic_ms = None
    if times.output_bytes is not None:
        traffic_ms = (times.size_bytes + 2 * times.output_bytes) / bytes_per_ms
    return Bounds(products_ms, times.size_bytes / bytes_per_ms, traffic_ms)
