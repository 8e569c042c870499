"""Opens every combination of artifact, engine, thread count and batch size to measure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

from tinyvit.bench.failures import Failures
from tinyvit.bench.latency.config import LatencyConfig
from tinyvit.bench.latency.open_artifact import OpenArtifact, open_in_engine
from tinyvit.bench.latency.queries import (
    EndToEndQuery,
    Query,
    choose_images_per_query,
    make_network_query,
)
from tinyvit.bench.latency.scenarios import IMAGES_PER_QUERY
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.base import RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.registry import engines_for_format


@dataclass(frozen=True)
class Combination:
    """An artifact in one engine, with one thread count and one number of images per query.

    Attributes:
        open_artifact: The artifact, open in the engine.
        options: Device and threads with which the engine was opened.
        images_per_query: Number of images in one query.
        query: A function; each call answers one query.
        end_to_end: The same object as `query` if each query starts from image files and ends with
            classes; None if `query` runs the network alone.
    """

    open_artifact: OpenArtifact
    options: RuntimeOptions
    images_per_query: int
    query: Query
    end_to_end: EndToEndQuery | None


def resolve_thread_count(options: RuntimeOptions, info: RuntimeInfo, core_count: int) -> int:
    """Return the number of CPU threads that an engine uses.

    Args:
        options: Options with which the engine was opened.
        info: What the engine reports about itself, which may include its default thread count.
        core_count: Number of processor cores, returned if the thread count is in neither.
    """
    return options.threads or info.threads or core_count


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
            engine_names = _select_engines(path, config.engine_names)
        except TinyViTError as error:
            failures.add(path, error)
            continue
        for engine_name, threads, batch in product(engine_names, config.threads, config.batches):
            options = RuntimeOptions(config.device, threads)
            try:
                open_artifact = stack.enter_context(open_in_engine(path, engine_name, options))
                combinations.append(_make_combination(open_artifact, options, batch, config))
            except TinyViTError as error:
                failures.add(path, error)
    return combinations


def _select_engines(path: str, engine_names: Sequence[str | None]) -> list[str | None]:
    """Return those of the requested engines that can open the artifact.

    None stands for the best installed engine; it is never one of several names. A single engine is
    not checked here, because opening the artifact raises a more specific error.
    """
    if len(engine_names) == 1:
        return list(engine_names)
    supported = engines_for_format(read_artifact(path).format)
    selected: list[str | None] = [name for name in engine_names if name in supported]
    if not selected:
        raise RequestError(
            f"none of the engines {', '.join(map(str, engine_names))} can open it",
            f"add --runtime {' or '.join(supported)}",
        )
    return selected


def _make_combination(
    open_artifact: OpenArtifact, options: RuntimeOptions, batch: int | None, config: LatencyConfig
) -> Combination:
    """Choose the number of images per query, and make the query."""
    images_per_query = choose_images_per_query(
        open_artifact, requested=batch, default=IMAGES_PER_QUERY[config.scenario]
    )
    end_to_end = (
        EndToEndQuery(open_artifact, config.images, images_per_query) if config.images else None
    )
    return Combination(
        open_artifact=open_artifact,
        options=options,
        images_per_query=images_per_query,
        query=end_to_end or make_network_query(open_artifact, images_per_query),
        end_to_end=end_to_end,
    )
