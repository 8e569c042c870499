"""Files and a plan -> a record of how fast each ran, what really ran, and what disturbed it.

All files are open at once and take turns, so that a slow spell of the machine hits all of them alike.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace

from tinyvit.bench import machine
from tinyvit.bench import profilers as readers
from tinyvit.bench.artifact_info import Failures, read_artifact_info
from tinyvit.bench.kernel_profile import KernelProfile, profile_kernels
from tinyvit.bench.latency import interference as watch
from tinyvit.bench.latency.baselines import measure_baselines
from tinyvit.bench.latency.cold_start import measure_cold_start
from tinyvit.bench.latency.interleave import Timing
from tinyvit.bench.latency.percentiles import MIN_SAMPLES_ABOVE, ratio_interval, summarize
from tinyvit.bench.latency.roofline import measure_peak_rates, share_of_peak
from tinyvit.bench.latency.scenarios import (
    PER_QUERY,
    Clock,
    WallClock,
    Warmup,
    find_highest_rate,
    run_back_to_back,
    run_server,
    warm_up,
)
from tinyvit.bench.latency.workload import (
    STAGES,
    EndToEnd,
    OpenWorkload,
    network_query,
    open_workload,
    pictures_per_query,
)
from tinyvit.bench.record import (
    TOOL,
    BaselineResult,
    LatencyRatio,
    LatencyResult,
    OperatorTime,
    Record,
    Scenario,
    current_time,
)
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.runtimes.artifact import open_artifact
from tinyvit.runtimes.base import AUTO_DEVICE, RuntimeOptions
from tinyvit.runtimes.registry import engines_for_format

OFFLINE = 8
"""Pictures at once, offline, of a file that takes any number."""
_OPERATORS = 12
"""Kinds of operators in a profile, those that take most."""


@dataclass(frozen=True)
class LatencyConfig:
    """What to measure. Each of runtimes, threads and batches is tried with each of the others; None is the engine's or the scenario's own.

    runs: queries of each file, or more. seconds: for each, where that is reached before. rate: arrivals a second for "server", or
    p99_ms, the bound that the highest rate is looked for with. images: of the whole way from bytes to classes, else the network
    alone. cold: new processes to start for each, 0 for none. operators: list what the time goes into. roofline: measure the machine's
    peak. rivals: of rivals.py, beside each file.
    """

    scenario: Scenario = "single-stream"
    runtimes: tuple[str | None, ...] = (None,)
    threads: tuple[int | None, ...] = (None,)
    batches: tuple[int | None, ...] = (None,)
    device: str = AUTO_DEVICE
    runs: int = MIN_SAMPLES_ABOVE[0.99]
    seconds: float = 60
    rate: float | None = None
    p99_ms: float | None = None
    images: tuple[bytes, ...] = ()
    cold: int = 3
    operators: bool = False
    roofline: bool = False
    rivals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.scenario == "server") != (
            self.rate is not None or self.p99_ms is not None
        ) or None not in (self.rate, self.p99_ms):
            raise RequestError(
                "how queries arrive is not clear",
                "give --scenario server with --rate or with --p99-ms, others with neither",
            )
        counts = [self.runs, *self.batches, *self.threads]
        if (
            any(count is not None and count < 1 for count in counts)
            or self.cold < 0
            or not self.seconds > 0
        ):
            raise RequestError(
                "there is nothing to time",
                "give --runs, --batch and --threads from 1, --seconds above 0, --cold from 0",
            )
        if any(value is not None and not value > 0 for value in (self.rate, self.p99_ms)):
            raise RequestError(
                "a rate or a time of 0 or less is not possible", "give --rate or --p99-ms above 0"
            )
        if self.scenario == "server" and any(batch not in (None, 1) for batch in self.batches):
            raise RequestError("a server's queries are of one picture", "leave --batch out")


@dataclass(frozen=True)
class _Run:
    """One file as it is measured: pictures a query; query: does one; whole: where that is the whole way."""

    opened: OpenWorkload
    options: RuntimeOptions
    pictures: int
    query: Callable[[], object]
    whole: EndToEnd | None


def measure_latency(
    paths: Sequence[str],
    plan: LatencyConfig,
    *,
    clock: Clock | None = None,
    name: str | None = None,
) -> Record:
    """Measure each file as planned; `name` is the device's instead of its own. Files that cannot be measured are in `refusals`.

    Raises the first reason where nothing can be measured.
    """
    clock = clock or WallClock()
    date, device = current_time(), machine.read_device_info(name)
    with ExitStack() as stack:
        runs, refusals, said = _opened(paths, plan, stack)
        if not runs:
            raise refusals.error()
        before = watch.take_snapshot()
        results, told = _timed(runs, plan, clock)
        after = watch.take_snapshot()
        peers = _rivals(runs, plan, device.cores, refusals)
    said += [
        *_about(device.governor, runs, device.cores),
        *watch.detect_interference(before, after),
        *told,
    ]
    for i, run in enumerate(runs):
        results[i], missed = _looked_into(results[i], run, plan)
        said += missed
    found = (
        measure_peak_rates(max(run.options.threads or device.cores for run in runs))
        if plan.roofline
        else None
    )
    if found:
        results = [replace(one, peak_share=share_of_peak(one, found)) for one in results]
    return Record(
        kind="latency",
        date=date,
        tool=TOOL,
        device=replace(device, clock_after_mhz=after.clock_mhz),
        settings=_settings(plan),
        warnings=tuple(dict.fromkeys(said)),
        failures=tuple(refusals.lines),
        latency=tuple(results),
        peak_rates=found,
        baselines=tuple(peers),
    )


def _settings(plan: LatencyConfig) -> dict[str, str | int | float | bool | None]:
    return {
        "timed": "from bytes to classes" if plan.images else "network alone",
        "scenario": plan.scenario,
        "runs": plan.runs,
        "seconds": plan.seconds,
        "rate": plan.rate,
        "p99_ms": plan.p99_ms,
        "images": len(plan.images),
    }


def _opened(
    paths: Sequence[str], plan: LatencyConfig, stack: ExitStack
) -> tuple[list[_Run], Failures, list[str]]:
    """(what can be measured, what cannot and why, warnings)."""
    runs: list[_Run] = []
    refusals = Failures()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        for path in paths:
            try:
                wanted = _engines(path, plan.runtimes)
            except TinyViTError as error:
                refusals.add(path, error)
                continue
            for engine, threads, batch in (
                (e, t, b) for e in wanted for t in plan.threads for b in plan.batches
            ):
                try:
                    runs.append(
                        _run(stack, path, engine, RuntimeOptions(plan.device, threads), batch, plan)
                    )
                except TinyViTError as error:
                    refusals.add(path, error)
    return (
        runs,
        refusals,
        [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)],
    )


def _engines(path: str, runtimes: Sequence[str | None]) -> list[str | None]:
    """Those of several that open the file; of one, that one, which says itself why it does not."""
    if len(runtimes) == 1:
        return list(runtimes)
    able = engines_for_format(open_artifact(path).format)
    wanted: list[str | None] = [engine for engine in runtimes if engine in able]
    if not wanted:
        raise RequestError(
            f"none of {', '.join(str(engine) for engine in runtimes)} opens it",
            f"add --runtime {' or '.join(able)}",
        )
    return wanted


def _run(
    stack: ExitStack,
    path: str,
    engine: str | None,
    options: RuntimeOptions,
    batch: int | None,
    plan: LatencyConfig,
) -> _Run:
    opened = stack.enter_context(open_workload(path, engine, options))
    pictures = pictures_per_query(opened, batch, PER_QUERY.get(plan.scenario, OFFLINE))
    whole = EndToEnd(opened, plan.images, pictures) if plan.images else None
    return _Run(opened, options, pictures, whole or network_query(opened, pictures), whole)


def _timed(
    runs: Sequence[_Run], plan: LatencyConfig, clock: Clock
) -> tuple[list[LatencyResult], list[str]]:
    warm = [warm_up(run.query, clock) for run in runs]
    for run in runs:
        if run.whole:
            run.whole.stages_ms.clear()
    if plan.scenario == "server":
        times, rates = _served(runs, plan, clock)
    else:
        times = list(
            run_back_to_back(
                {str(i): run.query for i, run in enumerate(runs)}, plan.runs, plan.seconds, clock
            ).values()
        )
    results = [_result(run, warm[i], times[i], plan) for i, run in enumerate(runs)]
    if plan.scenario == "server":
        results = [
            replace(one, images_per_s=rate, queries_per_s=rate, p99_limit_ms=plan.p99_ms)
            for one, rate in zip(results, rates)
        ]
    else:
        results[1:] = [
            replace(one, ratio=_ratio(run, time, runs[0], times[0]))
            for one, run, time in zip(results[1:], runs[1:], times[1:])
        ]
    said = [
        f"{run.opened.given} was not steady after {w.queries} queries"
        for run, w in zip(runs, warm)
        if not w.is_steady
    ]
    said += watch.detect_drift(
        [(run.opened.given, one.samples_ms) for run, one in zip(runs, times)]
    )
    return results, said


def _ratio(ours: _Run, our_times: Timing, theirs: _Run, their_times: Timing) -> LatencyRatio:
    found, scale = ratio_interval(our_times, their_times), theirs.pictures / ours.pictures
    to = theirs.opened.given
    if ours.opened.given == to:  # the file against itself, otherwise run
        to += f" ({theirs.opened.engine}, threads {theirs.options.threads or 'its own'}, batch {theirs.pictures})"
    return LatencyRatio(to, found.median * scale, found.low * scale, found.high * scale)


def _served(
    runs: Sequence[_Run], plan: LatencyConfig, clock: Clock
) -> tuple[list[Timing], list[float]]:
    """Times and rates of each file, one file after the other: what arrives at one must not wait for another."""
    times, rates = list[Timing](), list[float]()
    for run in runs:
        if plan.rate is not None:
            found = plan.rate, run_server(run.query, plan.rate, plan.runs, clock)
        else:
            best = find_highest_rate(run.query, plan.p99_ms or 0, plan.runs, clock)
            if best is None:
                cause = (
                    f"{run.opened.given} meets a 99th percentile of {plan.p99_ms:g} ms at no rate"
                )
                raise RequestError(
                    cause,
                    "give a higher --p99-ms, or see what it takes with --scenario single-stream",
                )
            found = best
        rates.append(found[0])
        times.append(found[1])
    return times, rates


def _result(run: _Run, warm: Warmup, times: Timing, plan: LatencyConfig) -> LatencyResult:
    found = summarize(times.samples_ms)
    stages: Mapping[str, float] = {}
    if run.whole:
        stages = {
            stage: statistics.median(column)
            for stage, column in zip(STAGES, zip(*run.whole.stages_ms))
        }
    return LatencyResult(
        artifact=read_artifact_info(run.opened.given, run.opened.runtime.describe()),
        scenario=plan.scenario,
        batch=run.pictures,
        warmup_queries=warm.queries,
        is_steady=warm.is_steady,
        images_per_s=run.pictures * 1e3 / (found.mean_ms or 1e-9),
        turns_ms=times.turns_ms,
        load_ms=run.opened.load_ms,
        stages_ms=dict(stages),
        **asdict(found),
    )


def _looked_into(
    one: LatencyResult, run: _Run, plan: LatencyConfig
) -> tuple[LatencyResult, list[str]]:
    """With what the engine says that it executed, and with what a new process pays; and what of it could not be had."""
    path, engine, threads, missed = (
        run.opened.given,
        run.opened.engine,
        run.options.threads,
        list[str](),
    )
    try:
        if engine in readers.names() and "cpu" in one.artifact.engine.device.lower():
            found = profile_kernels(
                run.opened.artifact.path,
                threads or one.artifact.engine.threads or 1,
                engine,
            )
            one = replace(
                one,
                artifact=replace(one.artifact, int8_mac_share=found.share),
                gmacs_per_image=(found.int8_macs + found.float_macs) / 1e9,
            )
            one = replace(one, operators=_operators(found) if plan.operators else ())
    except (TinyViTError, ValueError) as error:
        missed.append(f"what {engine} executed of {path} is not known ({error})")
    if plan.cold:
        asked = [
            "--runtime",
            engine,
            "--device",
            plan.device,
            *(["--threads", str(threads)] if threads else []),
        ]
        try:
            one = replace(one, cold_start=measure_cold_start(path, asked, plan.cold))
        except TinyViTError as error:
            missed.append(str(error))
    return one, missed


def _operators(found: KernelProfile) -> tuple[OperatorTime, ...]:
    dearest = sorted(found.kernels, key=lambda kernel: -kernel.ms)[:_OPERATORS]
    return tuple(
        OperatorTime(kernel.name, kernel.nodes, kernel.ms, kernel.is_integer) for kernel in dearest
    )


def _rivals(
    runs: Sequence[_Run], plan: LatencyConfig, cores: int, refusals: Failures
) -> list[BaselineResult]:
    peers = list[BaselineResult]()
    for run in runs if plan.rivals else ():
        peers += measure_baselines(
            plan.rivals,
            run.opened,
            run.options.threads or run.opened.runtime.describe().threads or cores,
            refusals,
        )
    return peers


def _about(governor: str | None, runs: Sequence[_Run], cores: int) -> list[str]:
    """What is known to spoil figures before anything is measured."""
    said = []
    if governor not in (None, "performance", "schedutil"):
        said.append(
            f"the processor's governor is {governor}, which clocks it lower: sudo cpupower frequency-set -g performance"
        )
    if (most := max((run.options.threads or 0 for run in runs), default=0)) > cores:
        said.append(f"more threads were asked for than there are cores ({most} and {cores})")
    return said
