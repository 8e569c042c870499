"""Times training steps whose images are already on the device, and measures their memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import torch

from tinyvit.bench.latency.interleave import Timing
from tinyvit.bench.latency.percentiles import ratio_interval
from tinyvit.distill.training.batches.data_loader import TrainingBatch
from tinyvit.distill.training.device import BFLOAT16_FLAGS
from tinyvit.distill.training.trainer import TrainingRun
from tinyvit.runtimes import processor
from tinyvit.studies.gpu.record import Part, Row
from tinyvit.studies.gpu.settings import Precision, Settings, StepCase
from tinyvit.studies.gpu.teachers import DeviceTeacher
from tinyvit.studies.gpu.timing import (
    free_memory,
    make_device,
    measure_peak_memory,
    set_tf32,
    summarize_timing,
    time_alternating,
)
from tinyvit.studies.gpu.training import (
    LEARNING_RATE,
    Shape,
    find_img_size,
    keep_labels,
    keep_teacher_outputs,
    make_batch,
    make_config,
    make_run,
)

FROM_LABELS, FROM_STORE = "no teacher", "store"
"""Names of two kinds of steps in the record; see `in_the_loop` for the others."""
OUT_OF_MEMORY = "out of memory"
"""Status of a case that needs more memory than the GPU has."""


def measure_steps(settings: Settings, part: Part) -> None:
    """Time the training steps of all cases.

    Args:
        settings: The settings of the study.
        part: The part of the record to fill.
    """
    too_large: set[tuple[str, Precision]] = set()
    for case in settings.step_cases:
        if (case.student, case.precision) in too_large:
            continue  # a smaller batch already exceeded the memory
        row = _record_case(case, settings, part)
        while row is None and case.teachers and part.remaining_s > 0:
            # A teacher that fails must not prevent the comparison of the other kinds of steps, so
            # the case is repeated without its last teacher.
            case = replace(case, teachers=case.teachers[:-1])
            row = _record_case(case, settings, part)
        if row and row.get("status") == OUT_OF_MEMORY:
            too_large.add((case.student, case.precision))


def _record_case(case: StepCase, settings: Settings, part: Part) -> Row | None:
    """Measure and record one case; return None if it failed or if no time is left."""
    description = _describe_case(case, settings)
    row = part.measure(description, partial(_measure_case, case, settings))
    free_memory(settings.device)
    return row


def in_the_loop(teacher: str) -> str:
    """Return the name of the kind of step in which a teacher predicts.

    Args:
        teacher: Name of the teacher.
    """
    return f"{teacher} in the loop"


def step_with_teacher(
    run: TrainingRun, teacher: DeviceTeacher, batch: TrainingBatch, learning_rate: float
) -> float:
    """Let a teacher predict, and make one optimizer step.

    Args:
        run: The training run.
        teacher: The teacher.
        batch: A batch whose views are on the device.
        learning_rate: The learning rate.

    Returns:
        The loss.
    """
    return run.step([teacher.add_outputs(batch)], learning_rate)


def _describe_case(case: StepCase, settings: Settings) -> Row:
    return {
        "student": case.student,
        "img_size": find_img_size(case.student, settings.img_size),
        "device": case.device,
        "precision": case.precision,
        "batch": case.batch,
        "num_classes": case.num_classes,
        "top_k": case.top_k,
    }


def _measure_case(case: StepCase, settings: Settings) -> Row:
    """Return the times and the memory of every kind of step of one case."""
    is_emulated = not BFLOAT16_FLAGS & (processor.read_flags() or frozenset())
    if case.device == "cpu" and case.precision == "bfloat16" and is_emulated:
        return {"status": "skipped: this processor has no bfloat16 instructions"}
    try:
        with set_tf32(case.precision):
            return {"kinds": _measure_kinds(case, settings)}
    except torch.OutOfMemoryError:
        return {"status": OUT_OF_MEMORY}


def _measure_kinds(case: StepCase, settings: Settings) -> Row:
    shape = Shape(
        case.student,
        find_img_size(case.student, settings.img_size),
        case.batch,
        case.num_classes,
        case.top_k,
    )
    device = make_device(case.device, case.precision)
    run = make_run(shape, make_config(shape.batch), device)
    batch = make_batch(shape, device.name)
    steps: dict[str, Callable[[], object]] = {
        FROM_LABELS: partial(run.step, [keep_labels(batch)], LEARNING_RATE),
        FROM_STORE: partial(run.step, [keep_teacher_outputs(batch)], LEARNING_RATE),
    }
    peaks = {name: measure_peak_memory(step, device.name) for name, step in steps.items()}
    teachers = []
    for name in case.teachers:
        teacher = DeviceTeacher(name, case.num_classes, case.top_k, device)
        # The batch has no class labels, as with a store. The step replaces its teacher outputs.
        step = partial(step_with_teacher, run, teacher, keep_teacher_outputs(batch), LEARNING_RATE)
        peaks[in_the_loop(name)] = measure_peak_memory(step, device.name)
        # The memory of the next kind must not include this teacher.
        teacher.move("cpu")
        steps[in_the_loop(name)] = step
        teachers.append(teacher)
    for teacher in teachers:
        teacher.move(device.name)
    times = time_alternating(steps, device.name, settings.max_rounds, settings.step_timing_s)
    return {
        name: {
            **summarize_timing(timing, case.batch),
            "peak_memory_bytes": peaks[name],
            **_compare(name, times),
        }
        for name, timing in times.items()
    }


def _compare(name: str, times: dict[str, Timing]) -> Row:
    """Return the ratios of one kind's time to those of steps without a teacher and with a store.

    Args:
        name: Name of the kind of step.
        times: Times of all kinds, by name.
    """
    references = {FROM_LABELS: (), FROM_STORE: (FROM_LABELS,)}.get(name, (FROM_LABELS, FROM_STORE))
    return {
        f"ratio_to_{reference.replace(' ', '_')}": asdict(
            ratio_interval(times[name], times[reference])
        )
        for reference in references
    }
