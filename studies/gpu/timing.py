"""Measures time and memory, and switches TF32 on or off, on the GPU (in tests on the CPU)."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from tinyvit.bench.latency.interleave import Timing
from tinyvit.bench.latency.percentiles import summarize
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.studies.gpu.record import Row
from tinyvit.studies.gpu.settings import Precision

_MIN_ROUNDS = 3
_WARMUP_ROUNDS = {"cuda": 3, "cpu": 1}
"""Device -> number of rounds before the timed ones."""


@contextmanager
def set_tf32(precision: Precision) -> Iterator[None]:
    """Allow or forbid TF32 in matrix products and convolutions of float32 tensors, in a block.

    Args:
        precision: The arithmetic of the measurement: "tf32" allows TF32, all others forbid it.
            bfloat16 is switched on elsewhere, by `make_device`.

    Yields:
        Nothing.
    """
    previous = _read_tf32_settings()
    is_allowed = precision == "tf32"
    _apply_tf32_settings((is_allowed, is_allowed))
    try:
        yield
    finally:
        _apply_tf32_settings(previous)


def _read_tf32_settings() -> tuple[bool, bool]:
    """Return whether matrix products and convolutions may use TF32."""
    matmul: Any = torch.backends.cuda.matmul  # torch's annotations lack this attribute
    return matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def _apply_tf32_settings(settings: tuple[bool, bool]) -> None:
    """Apply a result of `_read_tf32_settings`."""
    matmul: Any = torch.backends.cuda.matmul
    matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = settings


def make_device(name: str, precision: Precision) -> ComputeDevice:
    """Return the device that computes with a precision.

    Args:
        name: "cuda" or "cpu".
        precision: The arithmetic; only "bfloat16" uses autocast.
    """
    return ComputeDevice(name, uses_bfloat16=precision == "bfloat16")


def synchronize(device: str) -> None:
    """Wait until the GPU has finished all work; do nothing on the CPU.

    Args:
        device: "cuda" or "cpu".
    """
    if device != "cpu":
        torch.cuda.synchronize()


def time_call(function: Callable[[], object], device: str) -> float:
    """Return the milliseconds of a call, on a GPU between two CUDA events.

    Args:
        function: The function to call.
        device: "cuda" or "cpu".
    """
    if device == "cpu":
        begin_s = time.perf_counter()
        function()
        return (time.perf_counter() - begin_s) * 1e3
    begin, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    torch.cuda.synchronize()
    begin.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end))


def time_alternating(
    runs: Mapping[str, Callable[[], object]], device: str, rounds: int, budget_s: float
) -> dict[str, Timing]:
    """Time several workloads alternately; each round runs every workload once.

    `bench.latency.interleave.run_interleaved` does the same with the clock of the CPU, which does
    not show when the GPU has finished.

    Args:
        runs: The workloads by name.
        device: "cuda" or "cpu".
        rounds: Largest number of timed rounds.
        budget_s: Seconds after which no further round begins, except that at least three are
            timed.

    Returns:
        The times of each workload, by name.
    """
    turns: dict[str, list[tuple[float, ...]]] = {name: [] for name in runs}
    for _ in range(_WARMUP_ROUNDS[device]):
        for run in runs.values():
            run()
    begin_s = time.monotonic()
    for index in range(rounds):
        if index >= _MIN_ROUNDS and time.monotonic() - begin_s > budget_s:
            break
        for name, run in runs.items():
            turns[name].append((time_call(run, device),))
    return {name: Timing(tuple(times)) for name, times in turns.items()}


def summarize_timing(timing: Timing, batch: int) -> Row:
    """Return the statistics of a workload as entries of a row.

    Args:
        timing: The times of the workload.
        batch: Images per run.
    """
    summary = summarize(timing.samples_ms)
    return {
        "median_ms": summary.median_ms,
        "p90_ms": summary.p90_ms,
        "images_per_s": batch / summary.median_ms * 1e3,
        "runs": summary.sample_count,
    }


def measure_peak_memory(run: Callable[[], object], device: str) -> int | None:
    """Return the most bytes that tensors use on the GPU during two runs; None on the CPU.

    Args:
        run: The workload.
        device: "cuda" or "cpu".
    """
    if device == "cpu":
        return None
    run()  # a first run allocates memory that later runs do not, such as optimizer states
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    run()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def free_memory(device: str) -> None:
    """Return the memory of deleted tensors to the GPU.

    Args:
        device: "cuda" or "cpu".
    """
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
