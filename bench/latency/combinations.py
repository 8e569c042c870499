"""Opening every combination of artifact, engine, thread count and batch that is to be measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

from tinyvit.bench.failures import Failures
from tinyvit.bench.latency.config import LatencyConfig
from tinyvit.bench.latency.scenarios import IMAGES_PER_QUERY, Query
from tinyvit.bench.latency.workload import (
    EndToEndQuery,
    OpenWorkload,
    images_per_query,
    network_query,
    open_workload,
)
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.base import RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.registry import engines_for_format


@dataclass(frozen=True)
class Combination:
    """An artifact in one engine, with one number of threads and of images per query.

    Attributes:
        workload: The open artifact.
        options: How the engine was opened.
        images: Images per query.
        query: Answers one query.
        end_to_end: `query` itself if it leads from image files to classes; None if it runs the
            network alone.
    """

    workload: OpenWorkload
    options: RuntimeOptions
    images: int
    query: Query
    end_to_end: EndToEndQuery | None


def thread_count(options: RuntimeOptions, engine: RuntimeInfo, cores: int) -> int:
    """Return the CPU threads that an engine uses.

    Args:
        options: How the engine was opened.
        engine: What the engine reports about itself.
        cores: Processor cores, the answer for an engine that does not report its default.
    """
    return options.threads or engine.threads or cores


def open_combinations(
    paths: Sequence[str], config: LatencyConfig, stack: ExitStack, failures: Failures
) -> list[Combination]:
    """Open every combination of artifact, engine, thread count and batch.

    Args:
        paths: The artifacts.
        config: Engines, thread counts, batches, and what a query is.
        stack: Closes the engines.
        failures: Receives the combinations that cannot be opened.

    Returns:
        The combinations in the order of the artifacts, then of the options.
    """
    combinations: list[Combination] = []
    for path in paths:
        try:
            engines = _select_engines(path, config.runtimes)
        except TinyViTError as error:
            failures.add(path, error)
            continue
        for engine, threads, batch in product(engines, config.threads, config.batches):
            options = RuntimeOptions(config.device, threads)
            try:
                workload = stack.enter_context(open_workload(path, engine, options))
                combinations.append(_make_combination(workload, options, batch, config))
            except TinyViTError as error:
                failures.add(path, error)
    return combinations


def _select_engines(path: str, engines: Sequence[str | None]) -> list[str | None]:
    """Return the engines that open the artifact.

    A single engine is returned unchecked: opening the artifact then explains why it does not fit.
    """
    if len(engines) == 1:
        return list(engines)
    able = engines_for_format(read_artifact(path).format)
    selected: list[str | None] = [engine for engine in engines if engine in able]
    if not selected:
        raise RequestError(
            f"none of the engines {', '.join(map(str, engines))} opens it",
            f"add --runtime {' or '.join(able)}",
        )
    return selected


def _make_combination(
    workload: OpenWorkload, options: RuntimeOptions, batch: int | None, config: LatencyConfig
) -> Combination:
    images = images_per_query(workload, batch, IMAGES_PER_QUERY[config.scenario])
    end_to_end = EndToEndQuery(workload, config.images, images) if config.images else None
    query = end_to_end or network_query(workload, images)
    return Combination(workload, options, images, query, end_to_end)
