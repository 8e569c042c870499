import pytest

from tinyvit.bench.latency.interleave import Timing, median_ratio, run_interleaved


class Machine:
    """A clock that moves only when work is done: known times, measured right or not."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def work(self, name: str, *times_ms: float):
        queue = list(times_ms)

        def run() -> None:
            self.log.append(name)
            self.now += (queue.pop(0) if len(queue) > 1 else queue[0]) / 1e3

        return run


def test_known_times_are_measured_in_turn():
    machine = Machine()
    timed = run_interleaved(
        {"a": machine.work("a", 3), "b": machine.work("b", 5)},
        rounds=4,
        warmup=1,
        clock=lambda: machine.now,
    )
    assert machine.log == ["a", "b"] * 5
    assert timed["a"].samples_ms == pytest.approx([3] * 4)
    assert timed["b"].median_ms == pytest.approx(5)
    assert median_ratio(timed["a"], timed["b"]) == pytest.approx(0.6)


def test_warm_up_and_the_first_of_a_block_are_not_counted():
    machine = Machine()
    run = machine.work("a", 100, 100, 100, 50, 2, 2, 50, 2, 2)
    timed = run_interleaved({"a": run}, rounds=2, warmup=1, block=3, clock=lambda: machine.now)
    assert timed["a"].turns_ms == (pytest.approx((2, 2)), pytest.approx((2, 2)))


def test_a_budget_stops_early_but_not_before_three_rounds():
    machine = Machine()
    timed = run_interleaved(
        {"a": machine.work("a", 1000)}, rounds=50, warmup=1, budget_s=0.5, clock=lambda: machine.now
    )
    assert len(timed["a"].samples_ms) == 3
    timed = run_interleaved(
        {"a": machine.work("a", 1000)},
        rounds=50,
        warmup=0,
        budget_s=10.5,
        clock=lambda: machine.now,
    )
    assert len(timed["a"].samples_ms) == 11


def test_the_ratio_survives_a_machine_that_changes_pace():
    ours = Timing(((9,), (9,), (18,), (18,), (18,)))
    theirs = Timing(((10,), (10,), (20,), (20,), (20,)))
    assert median_ratio(ours, theirs) == pytest.approx(0.9)
