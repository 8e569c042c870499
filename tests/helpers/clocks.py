"""A clock that tests control, for measurements of known latencies."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class FakeClock:
    """A clock that moves only when something sleeps, or when one of its queries runs.

    Attributes:
        seconds: The current time.
        log: Names of the queries that ran, in order.
    """

    def __init__(self) -> None:
        self.seconds = 100.0
        self.log: list[str] = []

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.seconds += seconds

    def make_query(self, times_ms: Iterable[float], name: str = "") -> Callable[[], object]:
        """Make a query each run of which takes the next of these times.

        Args:
            times_ms: Milliseconds, at least one per run.
            name: What the query appends to `log`.
        """
        remaining = iter(times_ms)

        def run() -> None:
            self.log.append(name)
            self.seconds += next(remaining) / 1e3

        return run
