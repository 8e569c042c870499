"""Compares training losses on the GPU with those on the CPU."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tinyvit.studies.gpu.record import Part, Row
from tinyvit.studies.gpu.settings import Precision, Settings
from tinyvit.studies.gpu.timing import free_memory, make_device, set_tf32
from tinyvit.studies.gpu.training import Shape, find_img_size, make_batch, make_config, make_run

STEP_COUNT = 5
LEARNING_RATE = 1e-4
"""Learning rate of the compared steps, which is high enough to change the loss in each step."""
TOLERANCES: dict[Precision, float] = {"float32": 1e-5, "bfloat16": 1e-2}
"""Arithmetic on the GPU -> largest allowed difference from the loss in float32 on the CPU, as a
fraction of that loss."""


def measure_losses(settings: Settings, part: Part) -> None:
    """Train every student for a few steps on both devices, and compare the losses.

    The loss is the divergence from the teacher plus half the cross-entropy with labels, so that
    both terms are compared. Images, labels and teacher outputs are random. Stochastic depth is off,
    because its random numbers differ between devices.

    Args:
        settings: The settings of the study.
        part: The part of the record to fill.
    """
    for student in settings.students:
        shape = Shape(student, find_img_size(student, settings.img_size), settings.loss_batch)
        case = {"student": student, "img_size": shape.img_size, "batch": shape.batch}
        reference = part.measure(
            {**case, "device": "cpu", "precision": "float32"},
            partial(_train, shape, "cpu", "float32"),
        )
        for precision, tolerance in TOLERANCES.items():
            row = part.measure(
                {**case, "device": settings.device, "precision": precision},
                partial(_train, shape, settings.device, precision),
            )
            if reference and row:
                part.check(
                    f"largest relative difference of a loss of {student} in {precision} from the"
                    " CPU's in float32",
                    _find_largest_difference(row["losses"], reference["losses"]),
                    tolerance,
                )
        free_memory(settings.device)


def _train(shape: Shape, device: str, precision: Precision) -> Row:
    """Train for `STEP_COUNT` steps and return their losses.

    Every call starts with the same weights and uses the same batches.
    """
    config = replace(make_config(shape.batch), drop_path=0.0, label_weight=0.5)
    with set_tf32(precision):
        run = make_run(shape, config, make_device(device, precision))
        batches = (make_batch(shape, device, seed) for seed in range(STEP_COUNT))
        return {"losses": [run.step([batch], LEARNING_RATE) for batch in batches]}


def _find_largest_difference(losses: list[float], reference_losses: list[float]) -> float:
    """Return the largest difference of a loss, as a fraction of the reference loss."""
    return max(
        abs(loss - reference) / abs(reference) for loss, reference in zip(losses, reference_losses)
    )
