"""Adds details to the latency result of an artifact: the executed kernels, and a cold start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tinyvit.bench.kernel_profile import KernelProfile, profile_kernels
from tinyvit.bench.latency.cold_start import measure_cold_start
from tinyvit.bench.latency.combinations import Combination, resolve_thread_count
from tinyvit.bench.latency.config import LatencyConfig
from tinyvit.bench.profilers import profiler_names
from tinyvit.bench.record import LatencyResult, OperatorTime
from tinyvit.errors import TinyViTError

_MAX_OPERATORS = 12
"""Maximum number of operator types that a result lists, those that take the most time."""


def add_kernel_profile(
    result: LatencyResult, combination: Combination, cores: int, with_operators: bool
) -> tuple[LatencyResult, list[str]]:
    """Add the kernels that the engine executed, if it has a profiler and runs on the CPU.

    Args:
        result: The latency of the combination.
        combination: The artifact and options that were timed.
        cores: Number of processor cores; the thread count if the engine does not report its own.
        with_operators: Whether to list the operators that take the most time.

    Returns:
        The result with the number of multiply-accumulates, the share in integer kernels and the
        operators; and a warning if the profile failed.
    """
    workload = combination.workload
    engine = workload.engine
    threads = resolve_thread_count(combination.options, result.artifact.engine, cores)
    runs_on_cpu = "cpu" in result.artifact.engine.device.lower()
    if engine not in profiler_names() or not runs_on_cpu:
        return result, []
    try:
        profile = profile_kernels(workload.artifact.path, threads, engine)
    except (TinyViTError, ValueError) as error:
        return result, [
            f"the kernels that {engine} executed for {workload.path} are unknown ({error})"
        ]
    total_macs = profile.integer_macs + profile.float_macs
    return replace(
        result,
        artifact=replace(result.artifact, int8_mac_share=profile.integer_share),
        gmacs_per_image=total_macs / (workload.batch or 1) / 1e9,
        operators=_slowest_operators(profile) if with_operators else (),
    ), []


def add_cold_start(
    result: LatencyResult, combination: Combination, config: LatencyConfig
) -> tuple[LatencyResult, list[str]]:
    """Add the time and memory of a cold start, if the configuration requests one.

    Args:
        result: The latency of the combination.
        combination: The artifact and options that were timed.
        config: The device, and the number of processes to start.

    Returns:
        The result with the cold start; and a warning if it failed.
    """
    if not config.cold_starts:
        return result, []
    path = combination.workload.path
    arguments = _cold_start_arguments(combination, config.device)
    try:
        cold_start = measure_cold_start(path, arguments, config.cold_starts)
    except TinyViTError as error:
        return result, [str(error)]
    return replace(result, cold_start=cold_start), []


def _cold_start_arguments(combination: Combination, device: str) -> Sequence[str]:
    """Return the arguments of `cold_start` that open the same engine with the same options."""
    arguments = ["--runtime", combination.workload.engine, "--device", device]
    threads = combination.options.threads
    return [*arguments, "--threads", str(threads)] if threads else arguments


def _slowest_operators(profile: KernelProfile) -> tuple[OperatorTime, ...]:
    kernels = sorted(profile.kernels, key=lambda kernel: -kernel.time_ms)[:_MAX_OPERATORS]
    return tuple(
        OperatorTime(kernel.name, kernel.node_count, kernel.time_ms, kernel.is_integer)
        for kernel in kernels
    )
