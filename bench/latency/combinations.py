"""Opens every combination of artifact, engine, thread count and batch size to measure."""

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
    choose_images_per_query,
    make_network_query,
    open_workload,
)
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.base import RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.registry import engines_for_format


@dataclass(frozen=True)
class Combination:
    """An artifact in one engine, with one thread count and one number of images per query.

    Attributes:
        workload: The artifact, open in an engine.
        options: Device and threads with which the engine was opened.
        images_per_query: Number of images in one query.
        query: A callable; each call runs one query.
        end_to_end: The same object as `query` if that runs from image files to classes; None if
            `query` runs the network alone.
    """

    workload: OpenWorkload
    options: RuntimeOptions
    images_per_query: int
    query: Query
    end_to_end: EndToEndQuery | None


def resolve_thread_count(options: RuntimeOptions, engine: RuntimeInfo, cores: int) -> int:
    """Return the CPU threads that an engine uses.

    Args:
        options: Options with which the engine was opened.
        engine: What the engine reports about itself, which may include its default threads.
        cores: Number of processor cores, returned if the engine does not report its default.
    """
    return options.threads or engine.threads or cores


def open_combinations(
    paths: Sequence[str], config: LatencyConfig, stack: ExitStack, failures: Failures
) -> list[Combination]:
    """Open every combination of artifact, engine, thread count and batch size.

    Args:
        paths: Paths of the artifacts.
        config: Engines, thread counts, batch sizes and images.
        stack: Closes the engines when it is closed.
        failures: Receives the errors of the combinations that cannot be opened.

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
    """Return those of the requested engines that can open the artifact.

    None stands for the best installed engine and occurs only alone.
    A single engine is not checked here, because opening the artifact raises a more specific error.
    """
    if len(engines) == 1:
        return list(engines)
    supported = engines_for_format(read_artifact(path).format)
    selected: list[str | None] = [engine for engine in engines if engine in supported]
    if not selected:
        raise RequestError(
            f"none of the engines {', '.join(map(str, engines))} can open it",
            f"add --runtime {' or '.join(supported)}",
        )
    return selected


def _make_combination(
    workload: OpenWorkload, options: RuntimeOptions, batch: int | None, config: LatencyConfig
) -> Combination:
    images_per_query = choose_images_per_query(workload, batch, IMAGES_PER_QUERY[config.scenario])
    end_to_end = EndToEndQuery(workload, config.images, images_per_query) if config.images else None
    query = end_to_end or make_network_query(workload, images_per_query)
    return Combination(workload, options, images_per_query, query, end_to_end)
