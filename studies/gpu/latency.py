"""Measures the latency of all variants, eager and compiled, and the parity of their logits."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from tinyvit.distill.training.network.student import make_student
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.nn.fold import fold_model
from tinyvit.nn.model import TinyViT
from tinyvit.studies.gpu.record import Part, Row
from tinyvit.studies.gpu.settings import LatencyCase, Mode, Precision, Settings
from tinyvit.studies.gpu.timing import (
    free_memory,
    make_device,
    set_tf32,
    summarize_timing,
    synchronize,
    time_alternating,
)
from tinyvit.studies.gpu.training import find_img_size
from tinyvit.variants import DEMO_MODEL

TOLERANCES: dict[Precision, float] = {"float32": 1e-4, "tf32": 1e-2, "float16": 1e-2}
"""Arithmetic -> largest difference of the logits from those of the unfolded network in eager
float32, as a fraction of the largest absolute logit."""
_COMPILED_WARMUP_RUNS = 3
"""Runs after which a compiled network has compiled its code and recorded its CUDA graph."""


def measure_latency(mode: Mode, settings: Settings, part: Part) -> None:
    """Measure the latency of all cases that fit into the time budget.

    The networks are folded, as they are exported.

    Args:
        mode: Whether to measure the eager or the compiled cases.
        settings: The settings of the study.
        part: The part of the record to fill.
    """
    # Every compilation is expected to take as long as the slowest one so far.
    slowest_s = settings.compile_s
    compiled_s: list[float] = []
    for case in settings.latency_cases:
        if case.mode != mode:
            continue
        needed_s = slowest_s if case.mode == "compiled" else 0.0
        begin_s = time.monotonic()
        row = part.measure(
            {**asdict(case), "img_size": find_img_size(case.variant, settings.img_size)},
            partial(_measure_case, case, settings),
            needed_s,
        )
        free_memory(settings.device)
        if row is None:
            continue
        if case.mode == "compiled":
            compiled_s.append(time.monotonic() - begin_s)
            slowest_s = max(compiled_s)
        part.check(
            f"relative difference of the logits of {case.variant}, {case.mode}, {case.precision},"
            f" batch {case.batch}",
            row["logits_difference"],
            TOLERANCES[case.precision],
        )


@cache
def _make_network(variant: str, img_size: int) -> TinyViT:
    """Return a network on the CPU: the demo model if it has this variant, else random weights."""
    demo = load_released(DEMO_MODEL)
    if demo.variant.name == variant:
        # "scaled": the attention windows change in proportion to the image size.
        return demo.at_size(img_size, windows="scaled").build().eval()
    student = make_student(variant, init=None, labels=None, num_classes=1000, size=img_size, seed=0)
    return student.model.eval()


@cache
def _make_folded_network(variant: str, img_size: int) -> TinyViT:
    """Return the network that an export writes, on the CPU."""
    return fold_model(copy.deepcopy(_make_network(variant, img_size))).eval()


def _make_images(batch: int, img_size: int, device: str) -> Tensor:
    random = torch.Generator().manual_seed(0)
    images = torch.randn((batch, 3, img_size, img_size), generator=random)
    return images.to(device, memory_format=torch.channels_last)


@cache
def _compute_reference(variant: str, img_size: int, batch: int, device: str) -> Tensor:
    """Return the logits of the unfolded network in eager float32, moved to the CPU."""
    network = make_device(device, "float32").move_module(
        copy.deepcopy(_make_network(variant, img_size))
    )
    with set_tf32("float32"), torch.no_grad():
        logits: Tensor = network(_make_images(batch, img_size, device))
    return logits.cpu()


def _measure_case(case: LatencyCase, settings: Settings) -> Row:
    img_size = find_img_size(case.variant, settings.img_size)
    reference = _compute_reference(case.variant, img_size, case.batch, settings.device)
    network: nn.Module = copy.deepcopy(_make_folded_network(case.variant, img_size))
    network = make_device(settings.device, case.precision).move_module(network)
    images = _make_images(case.batch, img_size, settings.device)
    if case.precision == "float16":
        network, images = network.half(), images.half()
    entries: Row = {}
    with set_tf32(case.precision), torch.no_grad():
        if case.mode == "compiled":
            network, entries["compile_s"] = _compile(network, images, settings)
        # A CUDA graph overwrites its output in the next run, so the logits are copied at once.
        logits = network(images).float().cpu()
        run = partial(network, images)
        times = time_alternating(
            {"network": run}, settings.device, settings.max_rounds, settings.latency_timing_s
        )
    difference = float((logits - reference).abs().max() / reference.abs().max())
    same_class_share = float((logits.argmax(1) == reference.argmax(1)).float().mean())
    return {
        **entries,
        **summarize_timing(times["network"], case.batch),
        "logits_difference": difference,
        "same_class": same_class_share,
    }


def _compile(network: nn.Module, images: Tensor, settings: Settings) -> tuple[nn.Module, float]:
    """Return the compiled network and the seconds of its first runs."""
    # Without a reset, the networks of earlier cases count towards torch's limit of recompilations.
    torch.compiler.reset()
    begin_s = time.perf_counter()
    options: Any = settings.compile_options  # torch annotates each argument with its own type
    # torch.compile returns a module for a module, but its annotation says a callable.
    compiled = cast(nn.Module, torch.compile(network, **options))
    for _ in range(_COMPILED_WARMUP_RUNS):
        compiled(images)
    synchronize(settings.device)
    return compiled, time.perf_counter() - begin_s
