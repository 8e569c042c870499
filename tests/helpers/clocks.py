"""A clock that tests control, for measurements of known latencies."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class FakeClock:
    """A clock that moves only when something sleeps, or when one of its queries runs.

    Attributes:
        seconds: The current time in seconds.
        log: Names of the queries that ran, in order.
    """

    def __init__(self) -> None:
        self.seconds = 100.0
        self.log: list[str] = []

    def now(self) -> float:
        """Return the current time in seconds."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Advance the clock without waiting."""
        assert seconds > 0
        self.seconds += seconds

    def make_query(self, times_ms: Iterable[float], name: str = "") -> Callable[[], object]:
        """Make a query, a function that takes the next of these times whenever it is called.

        Args:
            times_ms: Duration of each call in milliseconds; at least as many as there are calls.
            name: The name that each call appends to `log`.
        """
        remaining = iter(times_ms)

        def run() -> None:
            self.log.append(name)
            self.seconds += next(remaining) / 1000

        return run
