"""Times all combinations of artifacts and engine options, and compares their latencies."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace

from tinyvit.bench.artifact_info import read_artifact_info
from tinyvit.bench.latency.combinations import Combination
from tinyvit.bench.latency.config import LatencyConfig
from tinyvit.bench.latency.interference import detect_drift
from tinyvit.bench.latency.interleave import Timing
from tinyvit.bench.latency.percentiles import ratio_interval, summarize
from tinyvit.bench.latency.scenarios import (
    Clock,
    Warmup,
    find_highest_rate,
    run_back_to_back,
    run_server,
    warm_up,
)
from tinyvit.bench.latency.workload import STAGES
from tinyvit.bench.record import LatencyRatio, LatencyResult
from tinyvit.errors import RequestError
from tinyvit.progress import Progress


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
        RequestError: No arrival rate meets the limit of the 99th percentile.
    """
    warmups = []
    for index, combination in enumerate(combinations):
        progress.advance("warming up", index, len(combinations))
        warmups.append(warm_up(combination.query, clock))
        if combination.end_to_end:
            combination.end_to_end.stages_ms.clear()
    progress.advance("warming up", len(combinations), len(combinations))
    progress.message(f"timing {len(combinations)} combinations of artifact and options")
    if config.scenario == "server":
        timings, rates = _time_server(combinations, config, clock)
    else:
        timings, rates = _time_alternately(combinations, config, clock), None
    results = [
        _make_result(combination, warmup, timing, config)
        for combination, warmup, timing in zip(combinations, warmups, timings)
    ]
    if rates is None:
        results[1:] = [
            replace(result, ratio=_compare(combination, timing, combinations[0], timings[0]))
            for result, combination, timing in zip(results[1:], combinations[1:], timings[1:])
        ]
    else:
        results = [
            replace(result, images_per_s=rate, queries_per_s=rate, p99_limit_ms=config.p99_ms)
            for result, rate in zip(results, rates)
        ]
    return results, _warn_unsteady(combinations, warmups, timings)


def _warn_unsteady(
    combinations: Sequence[Combination], warmups: Sequence[Warmup], timings: Sequence[Timing]
) -> list[str]:
    """Return warnings about latencies that did not settle in the warm-up, or drifted later."""
    paths = [combination.workload.path for combination in combinations]
    unsteady = [
        f"the latency of {path} had not settled after {warmup.queries} warm-up queries"
        for path, warmup in zip(paths, warmups)
        if not warmup.is_steady
    ]
    return unsteady + detect_drift(
        [(path, timing.samples_ms) for path, timing in zip(paths, timings)]
    )


def _time_alternately(
    combinations: Sequence[Combination], config: LatencyConfig, clock: Clock
) -> list[Timing]:
    queries = {str(index): combination.query for index, combination in enumerate(combinations)}
    return list(run_back_to_back(queries, config.runs, config.seconds, clock).values())


def _time_server(
    combinations: Sequence[Combination], config: LatencyConfig, clock: Clock
) -> tuple[list[Timing], list[float]]:
    """Return the latencies and the arrival rate of each combination.

    Combinations are timed one after the other: alternating them would delay arriving queries.
    """
    timings, rates = list[Timing](), list[float]()
    for combination in combinations:
        query = combination.query
        if config.rate is not None:
            rate, timing = config.rate, run_server(query, config.rate, config.runs, clock)
        else:
            assert config.p99_ms is not None  # LatencyConfig requires one of the two
            best = find_highest_rate(query, config.p99_ms, config.runs, clock)
            if best is None:
                raise RequestError(
                    f"the 99th percentile of {combination.workload.path} exceeds"
                    f" {config.p99_ms:g} ms at every arrival rate that was tried",
                    "give a higher --p99-ms; --scenario single-stream measures how long one query"
                    " takes",
                )
            rate, timing = best
        rates.append(rate)
        timings.append(timing)
    return timings, rates


def _make_result(
    combination: Combination, warmup: Warmup, timing: Timing, config: LatencyConfig
) -> LatencyResult:
    summary = summarize(timing.samples_ms)
    stages_ms: dict[str, float] = {}
    if combination.end_to_end:
        columns = zip(*combination.end_to_end.stages_ms)
        stages_ms = {stage: statistics.median(column) for stage, column in zip(STAGES, columns)}
    workload = combination.workload
    return LatencyResult(
        artifact=read_artifact_info(workload.path, workload.runtime.describe()),
        scenario=config.scenario,
        batch=combination.images_per_query,
        warmup_queries=warmup.queries,
        is_steady=warmup.is_steady,
        images_per_s=combination.images_per_query * 1e3 / (summary.mean_ms or 1e-9),
        turns_ms=timing.turns_ms,
        load_ms=workload.load_ms,
        stages_ms=stages_ms,
        **asdict(summary),
    )


def _compare(
    combination: Combination, timing: Timing, reference: Combination, reference_timing: Timing
) -> LatencyRatio:
    """Divide the latency per image of a combination by that of the first combination."""
    interval = ratio_interval(timing, reference_timing)
    scale = reference.images_per_query / combination.images_per_query
    name = reference.workload.path
    if combination.workload.path == name:  # the same artifact with other options
        threads = reference.options.threads or "engine default"
        batch = reference.images_per_query
        name += f" ({reference.workload.engine}, threads {threads}, batch {batch})"
    return LatencyRatio(name, interval.median * scale, interval.low * scale, interval.high * scale)
