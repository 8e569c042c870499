"""Measures single points of the study, each in a new process, so that its memory is its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from tinyvit.bench import machine
from tinyvit.bench.accuracy.evaluate import evaluate
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.latency.interleave import run_interleaved
from tinyvit.bench.latency.open_artifact import open_in_engine
from tinyvit.bench.latency.queries import make_network_query
from tinyvit.data.dataset import Dataset, DatasetLocation, open_dataset
from tinyvit.data.dataset_matching import match_dataset
from tinyvit.errors import ArtifactError
from tinyvit.privacy import hide_openvino_telemetry
from tinyvit.processes.python_process import protect_worker_processes
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.registry import get_engine
from tinyvit.studies.scaling.networks import Network

Result = TypeVar("Result")

_CLEAR_REFS = Path("/proc/self/clear_refs")
"""File of Linux that resets the recorded peak of the memory."""
_LIMIT_S = 600
"""Longest duration of a process. A process that the system kills never answers."""


@dataclass(frozen=True)
class RunCost:
    """The time and the memory of one run, or of one piece of work.

    Attributes:
        seconds: Median time of a run, or time of the piece of work.
        grown_bytes: How much the largest memory of the process grew since it had imported what it
            needs, and had listed the pictures; None where the system does not report it.
        with_list_bytes: The same, since it began to list the pictures; None if it lists none.
    """

    seconds: float
    grown_bytes: int | None
    with_list_bytes: int | None = None


@dataclass(frozen=True)
class Run:
    """How a network is run.

    Attributes:
        path: The file.
        engine: Name of the engine.
        threads: Number of CPU threads.
        batch: Number of images in a run.
        seconds: Time limit of the runs, of which at least three are made.
    """

    path: Path
    engine: str
    threads: int = 1
    batch: int = 1
    seconds: float = 2.0


def call_in_process(
    function: Callable[..., Result], *arguments: object, limit_s: float | None = None
) -> Result:
    """Call a function in a new process.

    Args:
        function: A function of a module.
        *arguments: Its arguments, which must be picklable.
        limit_s: Longest duration of the process; None for ten minutes.

    Returns:
        What the function returned.

    Raises:
        ArtifactError: The process did not answer within this time, for example because the system
            killed it.
    """
    limit_s = _LIMIT_S if limit_s is None else limit_s
    context = multiprocessing.get_context("spawn")
    with protect_worker_processes(), context.Pool(1) as pool:
        try:
            return pool.apply_async(function, arguments).get(limit_s)
        except multiprocessing.TimeoutError as error:
            raise ArtifactError(
                f"a process did not end within {limit_s:g} s",
                "check whether the machine has enough memory, or measure less",
            ) from error


def measure_run(run: Run) -> RunCost:
    """Time the runs of a network in this process, and measure how its memory grows.

    Args:
        run: How the network is run.
    """
    with hide_openvino_telemetry():
        import_module(get_engine(run.engine).package)
    before = _read_memory_after_reset()
    with open_in_engine(str(run.path), run.engine, RuntimeOptions(threads=run.threads)) as opened:
        query = make_network_query(opened, run.batch)
        timing = run_interleaved({"run": query}, rounds=1000, warmup=2, budget_s=run.seconds)
    return RunCost(timing["run"].median_ms / 1e3, _measure_growth(before))


def measure_listing(path: Path, pictures: Path) -> RunCost:
    """List labeled pictures, and find the class of each, as accuracy does before it reads any.

    Args:
        path: The artifact, which has the labels.
        pictures: Folder with one folder of pictures for each class.
    """
    manifest = read_artifact(path).manifest
    assert manifest is not None  # tinyvit-export wrote the file
    before = _read_memory_after_reset()
    start_s = time.perf_counter()
    match_dataset(open_dataset(DatasetLocation(str(pictures))), manifest.labels)
    return RunCost(time.perf_counter() - start_s, _measure_growth(before))


def measure_accuracy(path: Path, pictures: Path, ray_workers: int | None = None) -> RunCost:
    """Classify labeled pictures in this process on one thread, or with the workers of Ray.

    Args:
        path: The artifact.
        pictures: Folder with one folder of pictures for each class.
        ray_workers: Number of Ray workers on this machine, of one thread each; None for this
            process alone.
    """
    if ray_workers is None:
        before_list = _read_memory_after_reset()
        dataset = open_dataset(DatasetLocation(str(pictures)))
        listing_bytes = _measure_growth(before_list)
        cost = _time_evaluation(path, dataset, EvaluationOptions(threads=1))
        return _add_list(cost, before_list, listing_bytes)
    dataset = open_dataset(DatasetLocation(str(pictures)))
    import ray

    ray.init(num_cpus=ray_workers, include_dashboard=False, log_to_driver=False)
    try:
        return _time_evaluation(path, dataset, EvaluationOptions(threads=1, ray_address=""))
    finally:
        ray.shutdown()


def _time_evaluation(path: Path, dataset: Dataset, options: EvaluationOptions) -> RunCost:
    before = _read_memory_after_reset()
    start_s = time.perf_counter()
    evaluate(str(path), dataset, options)
    return RunCost(time.perf_counter() - start_s, _measure_growth(before))


def measure_calibration(pictures: Path, count: int, img_size: int) -> RunCost:
    """Calibrate the demo model on pictures, in this process.

    Args:
        pictures: Folder of pictures.
        count: Number of pictures.
        img_size: Size of the demo model's images.
    """
    import torch

    from tinyvit.nn.checkpoints.hub import load_released
    from tinyvit.nn.fold import fold_model
    from tinyvit.quant.calibration import calibrate_recipe
    from tinyvit.quant.images.calibration_data import read_calibration_set

    torch.set_num_threads(1)
    checkpoint = load_released("demo").at_size(img_size)
    folded = fold_model(checkpoint.build())
    before = _read_memory_after_reset()
    start_s = time.perf_counter()
    images = read_calibration_set(pictures, checkpoint.preprocess, count)
    calibrate_recipe(checkpoint, folded, images, weight_bits=7)
    return RunCost(time.perf_counter() - start_s, _measure_growth(before))


def measure_streamed_calibration(network: Network, pictures: Path, count: int) -> RunCost:
    """Calibrate a network with random weights on many pictures, in this process.

    As many of the pictures are kept in memory as would be kept of pictures of 224 x 224 pixels.

    Args:
        network: The network.
        pictures: Folder of different pictures.
        count: Number of pictures.
    """
    import torch

    from tinyvit.nn.fold import fold_model
    from tinyvit.preprocess import timm_preprocess
    from tinyvit.quant.calibration import measure_tensors
    from tinyvit.quant.images import pixel_source
    from tinyvit.quant.images.distinct_images import list_in_order, read_distinct_images
    from tinyvit.quant.images.normalized_images import NormalizedImages

    torch.set_num_threads(1)
    pixel_source.MAX_CACHED_BYTES = pixel_source.MAX_CACHED_BYTES * network.img_size**2 // 224**2
    folded = fold_model(network.build())
    preprocess = timm_preprocess(network.img_size)
    before_list = _read_memory_after_reset()
    start_s = time.perf_counter()
    listing = list_in_order(pictures, seed=0)
    listing_bytes = _measure_growth(before_list)
    before = _read_memory_after_reset()
    images = read_distinct_images(pictures, listing, preprocess, count)
    measure_tensors(folded, NormalizedImages(images.pixels, preprocess))
    cost = RunCost(time.perf_counter() - start_s, _measure_growth(before))
    return _add_list(cost, before_list, listing_bytes)


def _read_memory_after_reset() -> int | None:
    """Return the memory of this process, after its recorded peak was set to it (on Linux)."""
    with suppress(OSError):
        _CLEAR_REFS.write_text("5", encoding="ascii")  # man 5 proc_pid_clear_refs
    return machine.read_peak_memory_bytes()


def _add_list(cost: RunCost, before_list: int | None, listing_bytes: int | None) -> RunCost:
    """Add the memory since the list of pictures was begun, with the largest one of its making."""
    total = _measure_growth(before_list)
    if total is None or listing_bytes is None:
        return cost
    return replace(cost, with_list_bytes=max(total, listing_bytes))


def _measure_growth(before: int | None) -> int | None:
    after = machine.read_peak_memory_bytes()
    return None if before is None or after is None else after - before
