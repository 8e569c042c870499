"""The parts of the study with very many pictures. They run only when they are named.

The pictures and the network are small, because only the number of pictures matters here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tinyvit.labels import imagenet_labels
from tinyvit.progress import Progress
from tinyvit.studies.scaling.curves import Part
from tinyvit.studies.scaling.generated_pictures import save_pictures
from tinyvit.studies.scaling.networks import SMALL_VARIANT, Network
from tinyvit.studies.scaling.picture_parts import measure_counts
from tinyvit.studies.scaling.plan import ScalingPlan
from tinyvit.studies.scaling.processes import (
    RunCost,
    call_in_process,
    measure_accuracy,
    measure_streamed_calibration,
)

KEPT_NOTE = (
    "The network runs on each picture once. As many decoded pictures stay in memory as would of"
    " pictures of 224 x 224 pixels; the others are decoded twice."
)
"""What the page says about the calibration."""


def measure_many_pictures(plan: ScalingPlan, folder: Path, progress: Progress) -> Part:
    """Measure how the time and memory of accuracy grow up to very many pictures."""
    path = _make_network(plan).save(folder)[0]
    part = Part("many-pictures", "Very many pictures: accuracy", "pictures")

    def measure(pictures: Path, _: int) -> RunCost:
        return call_in_process(measure_accuracy, path, pictures, limit_s=2 * plan.long_part_seconds)

    return _measure_part(part, measure, plan, folder, progress)


def measure_many_calibrations(plan: ScalingPlan, folder: Path, progress: Progress) -> Part:
    """Measure how the time and memory of a calibration grow up to very many pictures."""
    part = Part("many-calibration", "Very many pictures: calibration", "pictures")

    def measure(pictures: Path, count: int) -> RunCost:
        return call_in_process(
            measure_streamed_calibration,
            _make_network(plan),
            pictures,
            count,
            limit_s=2 * plan.long_part_seconds,
        )

    measured = _measure_part(part, measure, plan, folder, progress)
    return replace(measured, notes=(*measured.notes, KEPT_NOTE))


def _make_network(plan: ScalingPlan) -> Network:
    return Network(plan.long_img_size, SMALL_VARIANT)


def _measure_part(
    part: Part,
    measure: Callable[[Path, int], RunCost],
    plan: ScalingPlan,
    folder: Path,
    progress: Progress,
) -> Part:
    """Measure a part. `measure` gets the folder and the number of pictures."""
    network = _make_network(plan)
    macs = network.save(folder)[1]
    labels = imagenet_labels(network.classes)
    assert labels is not None  # `Network.classes` is that of ImageNet-1k unless it is given

    def measure_count(count: int) -> RunCost:
        # The pictures are kept for the other part, because a million take minutes to make.
        return measure(save_pictures(folder, count, labels, plan.long_img_size), count)

    limited = replace(plan, part_seconds=plan.long_part_seconds)
    measured = measure_counts(part, plan.long_counts, measure_count, limited, progress)
    side = plan.long_img_size
    note = (
        f"Pictures of {side} x {side} pixels, and a network of four blocks and few channels:"
        f" {macs / 1e6:.1f} million multiply-accumulates for each picture."
    )
    return replace(measured, notes=(note, *measured.notes))


LONG_PARTS = {
    "many-pictures": measure_many_pictures,
    "many-calibration": measure_many_calibrations,
}
"""Name -> function that measures the part."""
