"""Measures the latency of several artifacts (exported model files), and detects disturbances.

All artifacts are open at once and run alternately, so that a temporary slowdown of the machine
affects all of them. The result is a record: the device, the options, and one result per artifact
and combination of options.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from tinyvit.bench import machine
from tinyvit.bench.failures import Failures, collect_warnings
from tinyvit.bench.latency.baselines import measure_baselines, require_programs
from tinyvit.bench.latency.combinations import (
    Combination,
    open_combinations,
    resolve_thread_count,
)
from tinyvit.bench.latency.config import END_TO_END, NETWORK_ALONE, LatencyConfig
from tinyvit.bench.latency.interference import detect_interference, take_snapshot
from tinyvit.bench.latency.result_details import add_cold_start, add_kernel_profile
from tinyvit.bench.latency.roofline import compute_peak_share, measure_peak_rates
from tinyvit.bench.latency.scenarios import Clock, WallClock
from tinyvit.bench.latency.timing import time_combinations
from tinyvit.bench.record import (
    PACKAGE_VERSION,
    BaselineResult,
    DeviceInfo,
    LatencyResult,
    PeakRates,
    Record,
    Scalar,
    current_time,
)
from tinyvit.progress import NullProgress, Progress

__all__ = ["LatencyConfig", "measure_latency"]

_FAST_GOVERNORS = ("performance", "schedutil")
"""Frequency governors of Linux that let a busy core run at its full clock rate."""


def measure_latency(
    paths: Sequence[str],
    config: LatencyConfig,
    *,
    device_name: str | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Record:
    """Measure the latency of artifacts.

    Args:
        paths: Paths of the artifacts. All combinations of artifact and options are compared with
            the first combination.
        config: The options of the measurement.
        device_name: Name of this machine in the record; by default the name of the board or host.
        progress: Receives the progress; none is shown by default.
        clock: The clock for timing; tests pass a fake one.

    Returns:
        A record with one result per combination of artifact and options. Combinations that cannot
        be measured are in its `failures`.

    Raises:
        TinyViTError: No combination can be opened; the error states the first cause. Or, in the
            scenario "server", the 99th percentile of the latency exceeds `config.p99_ms` at every
            arrival rate of queries that was tried. Or a package or program that a baseline needs
            is missing; this is found before anything is measured.
    """
    clock, progress = clock or WallClock(), progress or NullProgress()
    date, device = current_time(), machine.read_device_info(device_name)
    failures = Failures()
    with ExitStack() as stack:
        with collect_warnings() as warnings:
            combinations = open_combinations(paths, config, stack, failures)
        if not combinations:
            raise failures.make_error()
        require_programs(
            config.baselines,
            [combination.open_artifact.engine_name for combination in combinations],
        )
        before = take_snapshot()
        results, timing_warnings = time_combinations(combinations, config, clock, progress)
        after = take_snapshot()
        baselines = _measure_baselines(combinations, config, device.core_count, failures, progress)
    warnings += _make_setup_warnings(device, combinations)
    warnings += detect_interference(before, after)
    warnings += timing_warnings
    # The engines are closed here. The kernel profile and the cold start open each artifact again.
    results, detail_warnings = _add_details(
        results, combinations, config, device.core_count, progress
    )
    warnings += detail_warnings
    if config.roofline:
        progress.message("measuring the peak rates of this machine")
    results, peak_rates = _add_roofline(results, combinations, config, device.core_count)
    return Record(
        kind="latency",
        date=date,
        package=PACKAGE_VERSION,
        device=replace(device, clock_after_mhz=after.clock_mhz),
        settings=_describe_settings(config),
        warnings=tuple(dict.fromkeys(warnings)),
        failures=tuple(failures.messages),
        latency=tuple(results),
        peak_rates=peak_rates,
        baselines=tuple(baselines),
    )


def _describe_settings(config: LatencyConfig) -> dict[str, Scalar]:
    """Return the settings that the record states."""
    return {
        "timed": END_TO_END if config.images else NETWORK_ALONE,
        "scenario": config.scenario,
        "runs": config.runs,
        "seconds": config.seconds,
        "rate": config.rate,
        "p99_ms": config.p99_ms,
        "images": len(config.images),
    }


def _measure_baselines(
    combinations: Sequence[Combination],
    config: LatencyConfig,
    core_count: int,
    failures: Failures,
    progress: Progress,
) -> list[BaselineResult]:
    """Time the requested baselines alternately with each combination."""
    results: list[BaselineResult] = []
    if config.baselines:
        step = f"measuring {', '.join(config.baselines)}"
        for index, combination in enumerate(combinations):
            progress.advance(step, index, len(combinations))
            open_artifact = combination.open_artifact
            info = open_artifact.runtime.describe()
            threads = resolve_thread_count(combination.options, info, core_count)
            results += measure_baselines(config.baselines, open_artifact, threads, failures)
        progress.advance(step, len(combinations), len(combinations))
    return results


def _add_details(
    results: Sequence[LatencyResult],
    combinations: Sequence[Combination],
    config: LatencyConfig,
    core_count: int,
    progress: Progress,
) -> tuple[list[LatencyResult], list[str]]:
    """Add the kernel profile and the cold start to each result; also return warnings."""
    step = "profiling kernels" + (" and measuring cold starts" if config.cold_starts else "")
    detailed_results: list[LatencyResult] = []
    warnings: list[str] = []
    for index, (result, combination) in enumerate(zip(results, combinations)):
        progress.advance(step, index, len(combinations))
        result, profile_warnings = add_kernel_profile(
            result, combination, core_count, list_operators=config.operators
        )
        result, cold_start_warnings = add_cold_start(result, combination, config)
        detailed_results.append(result)
        warnings += [*profile_warnings, *cold_start_warnings]
    progress.advance(step, len(combinations), len(combinations))
    return detailed_results, warnings


def _add_roofline(
    results: list[LatencyResult],
    combinations: Sequence[Combination],
    config: LatencyConfig,
    core_count: int,
) -> tuple[list[LatencyResult], PeakRates | None]:
    """Measure the machine's peak rates, and add to each result how close it comes to them.

    The peak rates are measured with as many threads as the combination with the most threads has.

    Returns:
        The results and the peak rates; the unchanged results and None unless `config.roofline`.
    """
    if not config.roofline:
        return results, None
    threads = max(
        resolve_thread_count(combination.options, result.artifact.engine, core_count)
        for result, combination in zip(results, combinations)
    )
    peak_rates = measure_peak_rates(threads)
    results = [
        replace(result, peak_share=compute_peak_share(result, peak_rates)) for result in results
    ]
    return results, peak_rates


def _make_setup_warnings(device: DeviceInfo, combinations: Sequence[Combination]) -> list[str]:
    """Return warnings about settings that are known to distort latencies."""
    warnings = []
    if device.governor not in (None, *_FAST_GOVERNORS):
        warnings.append(
            f"the frequency governor of the processor is {device.governor}, which lowers the clock"
            " rate: run 'sudo cpupower frequency-set -g performance'"
        )
    threads = max((combination.options.threads or 0 for combination in combinations), default=0)
    if threads > device.core_count:
        warnings.append(
            f"--threads is {threads}, but this process may use only {device.core_count} cores"
        )
    return warnings
