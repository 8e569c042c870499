"""Times an artifact and its baseline alternately on this machine, each on one thread.

With more threads, torch's threads wait for one another hundreds of times in each run. Other work on
the machine makes these waits longer: torch then takes 2 to 50 times as long, but the engine only
twice as long. On one thread, both slow down alike (docs/lab-notes/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy.typing as npt

from tinyvit.bench.latency.interference import (
    detect_interference,
    select_disturbances,
    take_snapshot,
)
from tinyvit.bench.latency.interleave import Timing, median_ratio, run_interleaved
from tinyvit.bench.profilers import random_input
from tinyvit.image_sizes import height_and_width
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime, RuntimeOptions
from tinyvit.runtimes.registry import open_runtime

if TYPE_CHECKING:
    from tinyvit.nn.model import TinyViT

QuietPeriod: TypeAlias = "Callable[[], AbstractContextManager[object]]"
"""A function that returns a context in which other work of the same export is paused, so that it
does not disturb measurements of latency."""

ONE_THREAD = RuntimeOptions(threads=1)
"""Options with which an artifact is opened to be timed."""

ROUNDS = 12
"""Number of timed rounds. In each round, the artifact and the baseline run several times each."""
WARMUP_ROUNDS = 2
"""Number of rounds before the timed ones, whose times are not counted."""
RUNS_PER_ROUND = 3
"""Number of runs of the artifact, and of the baseline, in each round. The time of the first of them
is not counted (see `run_interleaved`)."""
MAX_SECONDS = 3.0
"""After this time, warm-up included, no further round begins; but at least three are timed."""
MIN_DISTURBED_SHARE = 0.25
"""If other processes use more than this fraction of a core meanwhile, the times are called
unreliable. tinyvit-bench, which people run to get figures, is stricter."""


@dataclass(frozen=True)
class SpeedComparison:
    """The latency of an artifact and of its baseline, measured alternately.

    Attributes:
        artifact: Latency of the artifact for one batch.
        baseline: Latency of the baseline for one batch of the same size.
        baseline_name: Description of the baseline, such as "eager torch" or "float32 in openvino".
        disturbances: Warnings about disturbances of the measurement, such as other processes.
    """

    artifact: Timing
    baseline: Timing
    baseline_name: str
    disturbances: tuple[str, ...] = ()

    @property
    def speedup(self) -> float:
        """Return how many times as fast as the baseline the artifact is (median of rounds)."""
        return 1 / median_ratio(self.artifact, self.baseline)


def compare_with_torch(
    runtime: Runtime, batch: npt.NDArray[Any], network: TinyViT
) -> SpeedComparison:
    """Compare the latency of an artifact with that of the same network in eager torch.

    Args:
        runtime: The artifact, opened on one thread.
        batch: A batch of the shape, layout and dtype that the artifact takes.
        network: The folded network. It runs on batches of the same size, with torch limited to
            one thread.

    Returns:
        Both latencies.
    """
    import torch

    images = torch.zeros(len(batch), 3, *height_and_width(network.img_size))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return _time_alternately(
                lambda: runtime.run(batch), lambda: network(images), "eager torch"
            )
    finally:
        torch.set_num_threads(threads)


def compare_with_float32(artifact: Artifact, float32: Artifact) -> SpeedComparison:
    """Compare the latency of an artifact with that of the float32 artifact of the same target.

    Args:
        artifact: The artifact, to be opened by its own engine.
        float32: The float32 artifact; its input has the same shape, layout and dtype.

    Returns:
        Both latencies.
    """
    with (
        open_runtime(artifact, options=ONE_THREAD) as runtime,
        open_runtime(float32, options=ONE_THREAD) as float32_runtime,
    ):
        batch = random_input(runtime.inputs[0].shape, runtime.inputs[0].dtype)
        return _time_alternately(
            lambda: runtime.run(batch),
            lambda: float32_runtime.run(batch),
            f"float32 in {runtime.describe().engine}",
        )


def _time_alternately(
    run_artifact: Callable[[], object], run_baseline: Callable[[], object], baseline_name: str
) -> SpeedComparison:
    """Time both functions alternately; each call of a function runs one batch."""
    before = take_snapshot()
    timings = run_interleaved(
        {"artifact": run_artifact, "baseline": run_baseline},
        rounds=ROUNDS,
        warmup=WARMUP_ROUNDS,
        budget_s=MAX_SECONDS,
        runs_per_turn=RUNS_PER_ROUND,
    )
    warnings = detect_interference(before, take_snapshot(), min_share=MIN_DISTURBED_SHARE)
    disturbances = select_disturbances(warnings)
    return SpeedComparison(timings["artifact"], timings["baseline"], baseline_name, disturbances)
