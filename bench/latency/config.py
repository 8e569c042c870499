"""Defines `LatencyConfig`, the options of a latency measurement."""

from __future__ import annotations

from dataclasses import dataclass

from tinyvit.bench.latency.percentiles import MIN_SAMPLES
from tinyvit.bench.record import Scenario
from tinyvit.errors import RequestError
from tinyvit.runtimes.base import AUTO_DEVICE

NETWORK_ALONE = "the artifact alone, without decoding or preprocessing before it"
"""Value of the record's setting "timed" if a query runs the network on random input. Preprocessing
that is inside the artifact is part of the time."""
END_TO_END = "from image bytes to classes"
"""Value of the record's setting "timed" if a query starts from the content of image files."""


@dataclass(frozen=True)
class LatencyConfig:
    """The options of a latency measurement.

    Each artifact is measured with every combination of engine, thread count and batch size.
    Options that contradict each other raise RequestError.

    Attributes:
        scenario: When each query starts; see `scenarios`.
        engine_names: Names of engines; None for the best installed one for the artifact.
        threads: Thread counts of the engine, each at least 1; None for the engine's default.
        batches: Numbers of images per query, each at least 1; None for the scenario's default.
        device: Device of the engine, such as "cpu" or "gpu".
        runs: Number of queries to time for each combination, at least 1. Except in the scenario
            "server", it is rounded up to whole turns (see `scenarios.run_back_to_back`).
        seconds: Time limit per combination, which may end the timing before `runs` queries. The
            scenario "server" has no time limit.
        rate: Arrival rate in queries per second, only in the scenario "server".
        p99_ms: Highest allowed 99th percentile of the latency, in milliseconds. The measurement
            searches for the highest arrival rate that stays within it. Only in the scenario
            "server", and instead of `rate`.
        images: Contents of image files. Each query then starts from the content of image files and
            ends with their classes. If empty, a query runs the network alone, on random input.
        cold_starts: Number of new processes in which a cold start is measured; 0 to skip it.
        operators: Whether to list the operators that take the most time.
        roofline: Whether to measure the peak compute and memory rates of the machine.
        baselines: Names (from `record.BASELINES`) of baselines to time alternately with each
            artifact.
    """

    scenario: Scenario = "single-stream"
    engine_names: tuple[str | None, ...] = (None,)
    threads: tuple[int | None, ...] = (None,)
    batches: tuple[int | None, ...] = (None,)
    device: str = AUTO_DEVICE
    runs: int = MIN_SAMPLES[0.99]
    seconds: float = 60
    rate: float | None = None
    p99_ms: float | None = None
    images: tuple[bytes, ...] = ()
    cold_starts: int = 3
    operators: bool = False
    roofline: bool = False
    baselines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise RequestError for options that contradict each other or are out of range."""
        self._check_arrivals()
        self._check_counts()

    def _check_arrivals(self) -> None:
        """Raise RequestError if --rate, --p99-ms or --batch does not suit the scenario."""
        rates_and_limits = {"--rate": self.rate, "--p99-ms": self.p99_ms}
        options = {option: value for option, value in rates_and_limits.items() if value is not None}
        if self.scenario != "server":
            if options:
                raise RequestError(
                    "--rate and --p99-ms have no meaning in the scenario"
                    f" {self.scenario}, in which a query waits for the previous one",
                    "leave them out, or give --scenario server",
                )
            return
        if len(options) != 1:
            raise RequestError(
                f"--scenario server needs either --rate or --p99-ms, but {len(options)} were given",
                "give --rate for a fixed arrival rate, or --p99-ms to search for the highest one",
            )
        option, value = options.popitem()
        if not value > 0:  # also true for NaN
            raise RequestError(f"{option} is {value:g}", f"give {option} a number greater than 0")
        for batch in self.batches:
            if batch not in (None, 1):
                raise RequestError(
                    f"--batch is {batch}, but a query in the scenario server has one image",
                    "leave --batch out",
                )

    def _check_counts(self) -> None:
        """Raise RequestError if an option that is a number is below its minimum."""
        counts = [("--runs", self.runs)]
        counts += [("--batch", batch) for batch in self.batches if batch is not None]
        counts += [("--threads", threads) for threads in self.threads if threads is not None]
        for option, count in counts:
            if count < 1:
                raise RequestError(
                    f"{option} is {count}", f"give {option} a whole number from 1 upwards"
                )
        if self.cold_starts < 0:
            raise RequestError(
                f"--cold is {self.cold_starts}", "give --cold a whole number from 0 upwards"
            )
        if not self.seconds > 0:  # also true for NaN
            raise RequestError(
                f"--seconds is {self.seconds:g}", "give --seconds a number greater than 0"
            )
