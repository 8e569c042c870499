"""Adds details to the latency result of an artifact: facts about the kernels, and a cold start."""

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
"""Maximum number of operator types that a result lists; they are those that take the most time."""


def add_kernel_profile(
    result: LatencyResult, combination: Combination, core_count: int, *, list_operators: bool
) -> tuple[LatencyResult, list[str]]:
    """Add facts about the executed kernels, if the engine has a profiler and runs on the CPU.

    Args:
        result: The latency of the combination.
        combination: The artifact and options that were timed.
        core_count: Number of processor cores; used as the thread count if neither the options nor
            the engine state one.
        list_operators: Whether to list the operators that take the most time.

    Returns:
        The result with the number of multiply-accumulates, their share in integer kernels and the
        operators; and a list of warnings, which has one item if the profiler failed.
    """
    open_artifact = combination.open_artifact
    engine_name = open_artifact.engine_name
    info = result.artifact.engine
    runs_on_cpu = "cpu" in info.device.lower()
    if engine_name not in profiler_names() or not runs_on_cpu:
        return result, []
    threads = resolve_thread_count(combination.options, info, core_count)
    try:
        # Profilers need `artifact.path`, in which "~" is replaced by the home folder.
        profile = profile_kernels(open_artifact.artifact.path, threads, engine_name)
    except (TinyViTError, ValueError) as error:
        return result, [
            f"the kernels that {engine_name} executed for {open_artifact.path} are unknown"
            f" ({error})"
        ]
    total_macs = profile.integer_macs + profile.float_macs
    # If the batch size is dynamic, the profiler runs one image.
    images_per_run = open_artifact.fixed_batch or 1
    detailed_result = replace(
        result,
        artifact=replace(result.artifact, int8_mac_share=profile.integer_share),
        gmacs_per_image=total_macs / images_per_run / 1e9,
        operators=_select_slowest_operators(profile) if list_operators else (),
    )
    return detailed_result, []


def add_cold_start(
    result: LatencyResult, combination: Combination, config: LatencyConfig
) -> tuple[LatencyResult, list[str]]:
    """Add the time and memory of a cold start, if the configuration requests one.

    Args:
        result: The latency of the combination.
        combination: The artifact and options that were timed.
        config: The device, and the number of processes to start.

    Returns:
        The result with the cold start; and a list of warnings, which has one item if the cold start
        failed.
    """
    if not config.cold_starts:
        return result, []
    path = combination.open_artifact.path
    arguments = _make_cold_start_arguments(combination, config.device)
    try:
        cold_start = measure_cold_start(path, arguments, process_count=config.cold_starts)
    except TinyViTError as error:
        return result, [str(error)]
    return replace(result, cold_start=cold_start), []


def _make_cold_start_arguments(combination: Combination, device: str) -> Sequence[str]:
    """Return the arguments of `cold_start` that open the same engine with the same options."""
    arguments = ["--runtime", combination.open_artifact.engine_name, "--device", device]
    threads = combination.options.threads
    return [*arguments, "--threads", str(threads)] if threads else arguments


def _select_slowest_operators(profile: KernelProfile) -> tuple[OperatorTime, ...]:
    """Return the operators that take the most time, the slowest first."""
    slowest_first = sorted(profile.kernels, key=lambda kernel: -kernel.time_ms)
    return tuple(
        OperatorTime(
            name=kernel.name,
            node_count=kernel.node_count,
            time_ms=kernel.time_ms,
            is_integer=kernel.is_integer,
        )
        for kernel in slowest_first[:_MAX_OPERATORS]
    )
