"""The parts of the study that vary the number of pictures, and of workers that classify them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tinyvit.bench.accuracy.cluster import SHARD_IMAGES
from tinyvit.bench.ray_cluster import require_ray
from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.progress import Progress
from tinyvit.studies.export_process import run_export
from tinyvit.studies.scaling.curves import MEMORY, SECONDS, Curve, Part, Point, extrapolate
from tinyvit.studies.scaling.generated_pictures import (
    link_pictures,
    read_class_labels,
    save_pictures,
)
from tinyvit.studies.scaling.plan import Budget, ScalingPlan
from tinyvit.studies.scaling.processes import (
    RunCost,
    call_in_process,
    measure_accuracy,
    measure_calibration,
    measure_listing,
)

_EXTRAPOLATED_PICTURES = 1_000_000
"""Number of pictures to which the last two points are continued."""
_CLUSTER_PICTURES, _CLUSTER_MACHINES = 50_000, 100
"""A validation set of the size of ImageNet's, and a cluster, for which a time is computed."""


def export_demo(folder: Path, img_size: int) -> Path:
    """Export the demo model to ONNX, unless the file exists.

    Args:
        folder: An existing folder.
        img_size: Size of the images in pixels.

    Returns:
        The file.

    Raises:
        ArtifactError: The export fails.
    """
    path = folder / f"demo-{img_size}.onnx"
    if not path.exists():
        options = ("--model", "demo", "--img-size", str(img_size), "-o", str(path))
        export_error = run_export(options)
        if export_error is not None:
            raise ArtifactError("the demo model cannot be exported", export_error)
    return path


def measure_listings(plan: ScalingPlan, folder: Path, progress: Progress) -> Part:
    """Measure how the time and memory of a list of pictures grow with their number."""
    path = export_demo(folder, plan.img_size)
    labels = read_class_labels(path)

    def measure(count: int) -> RunCost:
        pictures = link_pictures(folder, count, labels)
        try:
            return call_in_process(measure_listing, path, pictures)
        finally:
            shutil.rmtree(pictures)

    part = Part("listing", "Number of pictures: their list", "pictures")
    return measure_counts(part, plan.listing_counts, measure, plan, progress)


def measure_pictures(plan: ScalingPlan, folder: Path, progress: Progress) -> Part:
    """Measure how the time and memory of accuracy grow with the number of pictures."""
    path = export_demo(folder, plan.img_size)
    labels = read_class_labels(path)

    def measure(count: int) -> RunCost:
        pictures = save_pictures(folder, count, labels)
        return call_in_process(measure_accuracy, path, pictures)

    part = Part("pictures", "Number of pictures: accuracy", "pictures")
    measured = measure_counts(part, plan.picture_counts, measure, plan, progress)
    return _add_extrapolation(measured, _EXTRAPOLATED_PICTURES, "many-pictures")


def measure_calibrations(plan: ScalingPlan, folder: Path, progress: Progress) -> Part:
    """Measure how the time and memory of a calibration grow with the number of pictures."""
    labels = read_class_labels(export_demo(folder, plan.img_size))

    def measure(count: int) -> RunCost:
        pictures = save_pictures(folder, count, labels)
        limit_s = 2 * plan.calibration_seconds
        return call_in_process(measure_calibration, pictures, count, plan.img_size, limit_s=limit_s)

    part = Part("calibration", "Number of pictures: calibration", "pictures")
    limited = replace(plan, part_seconds=plan.calibration_seconds)
    measured = measure_counts(part, plan.calibration_counts, measure, limited, progress)
    return _add_extrapolation(measured, _EXTRAPOLATED_PICTURES, "many-calibration")


def measure_workers(plan: ScalingPlan, folder: Path, progress: Progress) -> Part:
    """Measure how the time of accuracy falls with the number of Ray workers."""
    part = Part("ray", "Ray workers on this machine", "workers")
    try:
        require_ray()
    except MissingDependencyError as error:
        return replace(part, notes=(f"Not run: {error}.",))
    path = export_demo(folder, plan.img_size)
    pictures = save_pictures(folder, plan.worker_pictures, read_class_labels(path))
    alone = call_in_process(measure_accuracy, path, pictures)

    def measure(workers: int) -> RunCost:
        return call_in_process(measure_accuracy, path, pictures, workers)

    measured = measure_counts(part, plan.workers, measure, plan, progress)
    curves = tuple(
        replace(curve, name="accuracy") for curve in measured.curves if curve.quantity == SECONDS
    )
    points = curves[0].points if curves else ()
    notes = describe_workers(points, alone.seconds, plan.worker_pictures)
    return replace(measured, curves=curves, notes=(*notes, *measured.notes))


def describe_workers(points: Sequence[Point], alone_s: float, pictures: int) -> list[str]:
    """Describe the efficiency of Ray workers, and what more machines would take.

    Args:
        points: Numbers of workers of one thread, and the seconds that they take.
        alone_s: Seconds that one process of one thread takes without Ray.
        pictures: Number of pictures that are classified.
    """
    notes = [
        f"{pictures:,} pictures in shards of {SHARD_IMAGES}; without Ray, one process of one"
        f" thread takes {alone_s:.1f} s. The time with Ray includes starting the workers, but not"
        " the cluster."
    ]
    for workers, seconds in points:
        efficiency = alone_s / (workers * seconds)
        notes.append(
            f"Workers: {workers:.0f}. Efficiency {efficiency:.0%} (the time without Ray, divided by"
            " workers times their time)."
        )
    if points and points[0][0] == 1:
        overhead_s = max(0.0, points[0][1] - alone_s)
        shards = math.ceil(math.ceil(_CLUSTER_PICTURES / SHARD_IMAGES) / _CLUSTER_MACHINES)
        total_s = shards * SHARD_IMAGES * alone_s / pictures + overhead_s
        notes.append(
            f"Overhead of one worker: {1e3 * overhead_s / pictures:.1f} ms for each picture."
            f" Computed from these parts, not run: {_CLUSTER_PICTURES:,} pictures on"
            f" {_CLUSTER_MACHINES} machines with one thread each would take {total_s:.0f} s,"
            f" because a machine has up to {shards} shards."
        )
    return notes


def measure_counts(
    part: Part,
    counts: tuple[int, ...],
    measure: Callable[[int], RunCost],
    plan: ScalingPlan,
    progress: Progress,
) -> Part:
    """Measure ascending numbers, as long as the next one is expected to end within the time.

    Args:
        part: The part without its curves.
        counts: The numbers, in ascending order.
        measure: Function that measures one number.
        plan: The plan, which states the time of the part.
        progress: Receives messages.

    Returns:
        The part with its curves.
    """
    budget = Budget(plan.part_seconds)
    seconds: list[Point] = []
    memory: list[Point] = []
    with_list: list[Point] = []
    notes: list[str] = []
    for count in counts:
        if not budget.allows(extrapolate(seconds, count) or 0.0):
            notes.append(f"Not run, because of the limit of time: {count:,} {part.x_label}.")
            continue
        progress.message(f"{part.name}: {count:,} {part.x_label}")
        cost = measure(count)
        seconds.append((count, cost.seconds))
        if cost.grown_bytes is not None:
            memory.append((count, cost.grown_bytes / 2**20))
        if cost.with_list_bytes is not None:
            with_list.append((count, cost.with_list_bytes / 2**20))
    points = (
        ("one thread", SECONDS, seconds),
        ("one thread", MEMORY, memory),
        ("one thread, with the list of pictures", MEMORY, with_list),
    )
    curves = tuple(
        Curve(name, quantity, tuple(values)) for name, quantity, values in points if values
    )
    return replace(part, curves=curves, notes=tuple(notes), seconds=budget.elapsed_s)


def _add_extrapolation(part: Part, count: int, measured_in: str) -> Part:
    """Add a note that continues the line of the time through its last two points.

    `measured_in` names the part that measures the memory of so many pictures.
    """
    times = [curve for curve in part.curves if curve.quantity == SECONDS]
    total_s = extrapolate(times[0].points, count) if times else None
    if total_s is None:
        return part
    note = (
        f"Extrapolated from the last two points, not run: {count:,} pictures would take"
        f" {total_s / 3600:.1f} hours. The part {measured_in} measures the memory for so many"
        " pictures."
    )
    return replace(part, notes=(*part.notes, note))


PICTURE_PARTS = {
    "listing": measure_listings,
    "pictures": measure_pictures,
    "calibration": measure_calibrations,
    "ray": measure_workers,
}
"""Name -> function that measures the part."""
