"""The options of a latency measurement."""

from __future__ import annotations

from dataclasses import dataclass

from tinyvit.bench.latency.percentiles import MIN_SAMPLES
from tinyvit.bench.record import Scenario
from tinyvit.errors import RequestError
from tinyvit.runtimes.base import AUTO_DEVICE


@dataclass(frozen=True)
class LatencyConfig:
    """The settings of a latency measurement.

    Every engine is combined with every thread count and every batch size. Options that contradict
    each other raise RequestError.

    Attributes:
        scenario: How queries arrive.
        runtimes: Names of engines; None for the best installed one for the artifact.
        threads: CPU threads of the engine, from 1; None for the engine's default.
        batches: Numbers of images per query, from 1; None for the default of the scenario.
        device: Device of the engine, such as "cpu" or "gpu".
        runs: Queries to time for each combination, from 1.
        seconds: Time limit of one combination; it may end the timing before `runs` queries.
        rate: Arrival rate in queries per second, only in the scenario "server".
        p99_ms: Limit of the 99th percentile, in milliseconds. The highest arrival rate that meets
            it is searched. Only in the scenario "server", and instead of `rate`.
        images: Contents of image files. A query then decodes, preprocesses and classifies them. If
            empty, a query runs the network alone, on random input.
        cold_starts: Number of new processes in which a cold start is measured; 0 to skip it.
        operators: Whether to list the operators that take the most time.
        roofline: Whether to measure the peak compute and memory rates of the machine.
        baselines: Names from `record.BASELINES` to time alternately with each artifact.
    """

    scenario: Scenario = "single-stream"
    runtimes: tuple[str | None, ...] = (None,)
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
        """Check the options of the server scenario."""
        values = [value for value in (self.rate, self.p99_ms) if value is not None]
        if self.scenario != "server":
            if values:
                raise RequestError(
                    "--rate and --p99-ms have no meaning in the scenario"
                    f" {self.scenario}, in which a query waits for the previous one",
                    "leave them out, or give --scenario server",
                )
            return
        if len(values) != 1:
            raise RequestError(
                f"--scenario server needs either --rate or --p99-ms, but {len(values)} were given",
                "give --rate for a fixed arrival rate, or --p99-ms to search for the highest one",
            )
        if not values[0] > 0:
            option = "--p99-ms" if self.rate is None else "--rate"
            raise RequestError(
                f"{option} is {values[0]:g}", f"give {option} a number greater than 0"
            )
        batch = next((batch for batch in self.batches if batch not in (None, 1)), None)
        if batch is not None:
            raise RequestError(
                f"--batch is {batch}, but a query in the scenario server has one image",
                "leave --batch out",
            )

    def _check_counts(self) -> None:
        """Check the numbers of queries, images, threads, processes and seconds."""
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
        if not self.seconds > 0:
            raise RequestError(
                f"--seconds is {self.seconds:g}", "give --seconds a number greater than 0"
            )
