"""The list of architectures and released checkpoints that `tinyvit-export --list` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tinyvit.variants import RELEASED, ReleasedCheckpoint


def select_models(
    min_top1: float | None = None, max_mmacs: float | None = None
) -> tuple[ReleasedCheckpoint, ...]:
    """Select released checkpoints.

    Args:
        min_top1: Smallest published top-1 accuracy on ImageNet-1k, in percent. Checkpoints without
            a published accuracy are left out then. None for any.
        max_mmacs: Largest number of multiply-accumulates for one image, in millions; None for any.

    Returns:
        The checkpoints, in the order of `tinyvit.variants.RELEASED`.
    """
    return tuple(
        released
        for released in RELEASED.values()
        if (min_top1 is None or (released.top1 is not None and released.top1 >= min_top1))
        and (max_mmacs is None or released.variant.macs <= max_mmacs * 1e6)
    )


def format_model_list(selection: Sequence[ReleasedCheckpoint]) -> list[str]:
    """Format released checkpoints and their architectures as text.

    Args:
        selection: The checkpoints.

    Returns:
        The lines of two tables, each with a heading.
    """
    return [
        "architectures, with parameters and multiply-accumulates (MACs) for 1000 classes",
        *_architecture_rows(selection),
        "",
        "released checkpoints, each in the repository timm/NAME on huggingface.co",
        "(top-1 and top-5 in percent, as published; evaluation: crop, resized side -> input size, "
        "interpolation)",
        *_checkpoint_rows(selection),
        "",
        "A short name selects the architecture's checkpoint dist_in22k_ft_in1k. demo selects a "
        "5M network with twelve ImageNet classes that is part of this package.",
        "To export one: tinyvit export --model tinyvit_5m",
    ]


def make_model_records(selection: Sequence[ReleasedCheckpoint]) -> list[dict[str, Any]]:
    """Describe released checkpoints for JSON output.

    Args:
        selection: The checkpoints.

    Returns:
        One dictionary of JSON types for each checkpoint.
    """
    return [
        {
            **asdict(released),
            "preprocess": asdict(released.preprocess),
            "paper_preprocess": asdict(released.paper_preprocess),
        }
        for released in selection
    ]


def _architecture_rows(selection: Sequence[ReleasedCheckpoint]) -> list[str]:
    rows = [
        f"  {'name':17} {'short name':17} {'dims':19} {'depths':11} {'heads':13} {'windows':13} "
        f"{'params':>7} {'MACs':>7}"
    ]
    for variant in dict.fromkeys(released.variant for released in selection):
        dims, depths, heads, windows = (
            ",".join(map(str, values))
            for values in (
                variant.embed_dims,
                variant.depths,
                variant.num_heads,
                variant.window_sizes,
            )
        )
        rows.append(
            f"  {variant.name:17} {variant.short_name:17} {dims:19} {depths:11} {heads:13} "
            f"{windows:13} {variant.params / 1e6:6.1f}M {variant.macs / 1e9:6.2f}G"
        )
    return rows


def _checkpoint_rows(selection: Sequence[ReleasedCheckpoint]) -> list[str]:
    evaluations = {released.name: _describe_evaluation(released) for released in selection}
    width = max(map(len, evaluations.values()), default=0)
    rows = [
        f"  {'name':35} {'classes':>7} {'top-1':>6} {'top-5':>6}  {'evaluation':{width}} license"
    ]
    for name, released in zip(evaluations, selection):
        top1, top5 = (
            "-" if accuracy is None else f"{accuracy:.1f}"
            for accuracy in (released.top1, released.top5)
        )
        rows.append(
            f"  {name:35} {released.num_classes:>7} {top1:>6} {top5:>6}  "
            f"{evaluations[name]:{width}} {released.license}"
        )
    return rows


def _describe_evaluation(released: ReleasedCheckpoint) -> str:
    """Describe the crop, the sizes and the interpolation of a checkpoint's evaluation."""
    preprocess = released.preprocess
    return f"{preprocess.crop} {preprocess.resize} -> {preprocess.size}, {preprocess.interpolation}"
