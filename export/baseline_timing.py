"""How fast an artifact is beside what it stands for, on this machine: alternating runs, on one thread each.

With more threads, torch's wait for one another hundreds of times a run: where anything else runs on the machine, that
multiplies its time by 2 to 50 and the engine's by 2. On one thread all slow down alike (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from tinyvit.bench.latency.interleave import Timing, run_interleaved
from tinyvit.bench.profilers import random_input
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime, RuntimeOptions
from tinyvit.runtimes.registry import open_runtime

if TYPE_CHECKING:
    from tinyvit.nn.model import TinyViT

ONE_THREAD = RuntimeOptions(threads=1)
ROUNDS, BUDGET_S = 12, 3.0


def beside_torch(
    runtime: Runtime, batch: npt.NDArray[Any], folded: TinyViT
) -> tuple[Timing, Timing]:
    """An artifact that was opened on one thread, on a batch as it takes it, and the network in eager torch on as many images."""
    import torch

    tensor = torch.zeros(len(batch), 3, folded.img_size, folded.img_size)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return _in_turn(lambda: runtime.run(batch), lambda: folded(tensor))
    finally:
        torch.set_num_threads(threads)


def beside_float32(ours: Artifact, float32: Artifact) -> tuple[Timing, Timing]:
    """Two artifacts of one network and one target, in the target's own engine."""
    with (
        open_runtime(ours, None, ONE_THREAD) as mine,
        open_runtime(float32, None, ONE_THREAD) as theirs,
    ):
        batch = random_input(mine.inputs[0].shape, mine.inputs[0].dtype)
        return _in_turn(lambda: mine.run(batch), lambda: theirs.run(batch))


def _in_turn(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[Timing, Timing]:
    timed = run_interleaved(
        {"ours": ours, "theirs": theirs}, rounds=ROUNDS, warmup=2, budget_s=BUDGET_S, block=3
    )
    return timed["ours"], timed["theirs"]
