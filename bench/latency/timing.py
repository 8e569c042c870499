"""Times all combinations of artifacts and engine options, and compares their latencies."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

from tinyvit.bench.artifact_info import read_artifact_info
from tinyvit.bench.latency.combinations import Combination
from tinyvit.bench.latency.config import LatencyConfig
from tinyvit.bench.latency.interference import detect_drift
from tinyvit.bench.latency.interleave import Timing
from tinyvit.bench.latency.percentiles import ratio_interval, summarize
from tinyvit.bench.latency.queries import STAGES
from tinyvit.bench.latency.scenarios import (
    Clock,
    ServerTiming,
    Warmup,
    find_highest_rate,
    run_back_to_back,
    run_server,
    warm_up,
)
from tinyvit.bench.record import LatencyRatio, LatencyResult
from tinyvit.errors import RequestError
from tinyvit.progress import Progress

_WARMUP_STEP = "warming up"
_MIN_MEAN_MS = 1e-9
"""Avoids a division by zero if a clock of low resolution measured 0 ms for every query."""


def time_combinations(
    combinations: Sequence[Combination], config: LatencyConfig, clock: Clock, progress: Progress
) -> tuple[list[LatencyResult], list[str]]:
    """Warm up all combinations, then time them in the scenario of the configuration.

    Args:
        combinations: The combinations to time, at least one.
        config: The scenario, and the limits of queries and time.
        clock: The clock for timing.
        progress: Receives the progress.

    Returns:
        One result per combination, and warnings about latencies that were not steady.

    Raises:
        RequestError: The 99th percentile exceeds its limit at every arrival rate that was tried.
    """
    warmups = _warm_up_all(combinations, clock, progress)
    progress.message(f"timing all combinations of artifact and options ({len(combinations)})")
    if config.scenario == "server":
        server_timings = [
            _time_server(combination, config, clock, progress) for combination in combinations
        ]
        timings = [server_timing.timing for server_timing in server_timings]
        results = _make_results(combinations, warmups, timings, config)
        results = _add_arrival_rates(results, server_timings, config)
    else:
        timings = _time_alternately(combinations, config, clock, progress)
        results = _make_results(combinations, warmups, timings, config)
        results = _add_ratios(results, combinations, timings)
    return results, _make_unsteadiness_warnings(combinations, warmups, timings)


def _warm_up_all(
    combinations: Sequence[Combination], clock: Clock, progress: Progress
) -> list[Warmup]:
    """Warm up each combination, and discard the stage times that its warm-up recorded."""
    warmups = []
    for index, combination in enumerate(combinations):
        progress.advance(_WARMUP_STEP, index, len(combinations))
        warmups.append(warm_up(combination.query, clock))
        if combination.end_to_end:
            combination.end_to_end.stages_ms.clear()
    progress.advance(_WARMUP_STEP, len(combinations), len(combinations))
    return warmups


def _time_alternately(
    combinations: Sequence[Combination], config: LatencyConfig, clock: Clock, progress: Progress
) -> list[Timing]:
    """Return the latencies of each combination, in all scenarios except server."""
    # Paths cannot be the names, because several combinations can have the same path.
    queries = {str(index): combination.query for index, combination in enumerate(combinations)}
    report = partial(progress.advance, "timing")
    return list(run_back_to_back(queries, config.runs, config.seconds, clock, report).values())


def _time_server(
    combination: Combination, config: LatencyConfig, clock: Clock, progress: Progress
) -> ServerTiming:
    """Return the latencies of one combination in the scenario server.

    Combinations are timed one after the other: alternating them would delay arriving queries.
    """
    query = combination.query
    if config.rate is not None:
        report = partial(progress.advance, "queries")
        timing = run_server(query, config.rate, config.runs, clock, report=report)
        return ServerTiming(config.rate, timing)
    assert config.p99_ms is not None  # LatencyConfig requires either a rate or this limit
    report = partial(progress.advance, "searching the highest rate, queries")
    highest = find_highest_rate(query, config.p99_ms, config.runs, clock, report)
    if highest is None:
        raise RequestError(
            f"the 99th percentile of {combination.open_artifact.path} exceeds"
            f" {config.p99_ms:g} ms at every arrival rate that was tried",
            "give a higher --p99-ms; --scenario single-stream measures how long one query takes",
        )
    return highest


def _make_results(
    combinations: Sequence[Combination],
    warmups: Sequence[Warmup],
    timings: Sequence[Timing],
    config: LatencyConfig,
) -> list[LatencyResult]:
    """Make the result of each combination, without ratios and arrival rates."""
    return [
        _make_result(combination, warmup, timing, config)
        for combination, warmup, timing in zip(combinations, warmups, timings)
    ]


def _make_result(
    combination: Combination, warmup: Warmup, timing: Timing, config: LatencyConfig
) -> LatencyResult:
    """Make the result of one combination."""
    summary = summarize(timing.samples_ms)
    open_artifact = combination.open_artifact
    return LatencyResult(
        artifact=read_artifact_info(open_artifact.path, open_artifact.runtime.describe()),
        scenario=config.scenario,
        batch=combination.images_per_query,
        warmup_queries=warmup.queries,
        is_steady=warmup.is_steady,
        images_per_s=combination.images_per_query * 1e3 / (summary.mean_ms or _MIN_MEAN_MS),
        turns_ms=timing.turns_ms,
        load_ms=open_artifact.load_ms,
        stages_ms=_compute_stage_medians_ms(combination),
        **asdict(summary),
    )


def _compute_stage_medians_ms(combination: Combination) -> dict[str, float]:
    """Return the median time of each stage by name; empty if only the network was timed."""
    if combination.end_to_end is None:
        return {}
    times_by_stage = zip(*combination.end_to_end.stages_ms)
    return {stage: statistics.median(times_ms) for stage, times_ms in zip(STAGES, times_by_stage)}


def _add_arrival_rates(
    results: Sequence[LatencyResult], server_timings: Sequence[ServerTiming], config: LatencyConfig
) -> list[LatencyResult]:
    """Add the arrival rate to each result; with one image per query, it is the throughput too."""
    return [
        replace(
            result,
            images_per_s=server_timing.queries_per_s,
            queries_per_s=server_timing.queries_per_s,
            p99_limit_ms=config.p99_ms,
        )
        for result, server_timing in zip(results, server_timings)
    ]


def _add_ratios(
    results: Sequence[LatencyResult],
    combinations: Sequence[Combination],
    timings: Sequence[Timing],
) -> list[LatencyResult]:
    """Add the ratio to the first combination's latency to every result after the first."""
    first_result, *other_results = results
    return [
        first_result,
        *(
            replace(result, ratio=_compare(combination, timing, combinations[0], timings[0]))
            for result, combination, timing in zip(other_results, combinations[1:], timings[1:])
        ),
    ]


def _compare(
    combination: Combination, timing: Timing, reference: Combination, reference_timing: Timing
) -> LatencyRatio:
    """Divide the latency per image of a combination by that of the first combination."""
    interval = ratio_interval(timing, reference_timing)
    # The interval is for latencies per query, but the record compares latencies per image.
    scale = reference.images_per_query / combination.images_per_query
    reference_name = reference.open_artifact.path
    if combination.open_artifact.path == reference_name:  # the same artifact with other options
        threads = reference.options.threads or "engine default"
        engine_name = reference.open_artifact.engine_name
        reference_name += f" ({engine_name}, threads {threads}, batch {reference.images_per_query})"
    return LatencyRatio(
        reference=reference_name,
        median=interval.median * scale,
        low=None if interval.low is None else interval.low * scale,
        high=None if interval.high is None else interval.high * scale,
    )


def _make_unsteadiness_warnings(
    combinations: Sequence[Combination], warmups: Sequence[Warmup], timings: Sequence[Timing]
) -> list[str]:
    """Return warnings about latencies that did not settle in the warm-up, or drifted later."""
    paths = [combination.open_artifact.path for combination in combinations]
    unsteady = [
        f"the latency of {path} had not settled after {warmup.queries} warm-up queries"
        for path, warmup in zip(paths, warmups)
        if not warmup.is_steady
    ]
    samples_ms = [(path, timing.samples_ms) for path, timing in zip(paths, timings)]
    return unsteady + detect_drift(samples_ms)
