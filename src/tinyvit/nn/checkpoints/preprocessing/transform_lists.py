"""Reads resizing, crop and normalization from a list of the transforms of images.

The transforms are those of torchvision, albumentations, MMEngine and fastai, as pickled objects or
as dicts in a configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tinyvit.nn.checkpoints.metadata.settings_text import TextBudget
from tinyvit.nn.checkpoints.preprocessing.channel_order import (
    find_channel_problem,
    make_channel_problem,
)
from tinyvit.nn.checkpoints.preprocessing.per_image_normalization import (
    PER_IMAGE_REASON,
    find_per_image_problem,
)
from tinyvit.nn.checkpoints.preprocessing.setting_values import (
    find_first,
    is_for_255,
    is_vector,
    list_entries,
    read_image_side,
    shorten,
)
from tinyvit.nn.checkpoints.preprocessing.transform_kinds import Transform, read_transform

_FILTER_KEYS = ("interpolation", "resample", "resamples")
"""Names of the argument that is the resampling filter of a resize."""

_MAX_TRANSFORMS = 64
"""Limit of the transforms that are read from a list."""

_TRAINING = re.compile(r"(?<![a-z])train(?!ing|er)", re.IGNORECASE)
"""Matches a part of the keys of lists that hold the transforms of the training."""

_TENSOR_NAMES = ("totensor", "convertimagedtype", "tofloat", "inttofloattensor")
"""Names, in lower case, of the transforms that divide pixel values by 255."""

_OPENCV_FILTERS = {0: "nearest", 1: "bilinear", 2: "bicubic", 3: "area", 4: "lanczos"}
"""OpenCV's numbers of filters, which albumentations uses. They differ from Pillow's numbers."""


@dataclass(frozen=True)
class TransformSettings:
    """Settings that a list of transforms, or an image processor of transformers, states.

    Attributes:
        values: Settings by the keys of training scripts, such as "resize", "crop", "crop_mode",
            "crop_pct", "interpolation", "mean" and "std".
        img_size: Side of the square image in pixels that the network receives; None if unknown.
        problems: For each setting that cannot be used, a clause that says why (see
            `tinyvit.preprocess_settings.PreprocessSource`).
        notes: Facts that a user should know.
        divides_by_255: Whether a transform makes pixel values from 0 to 1 out of those from 0 to
            255.
    """

    values: dict[str, Any] = field(default_factory=dict)
    img_size: int | None = None
    problems: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    divides_by_255: bool = False


def read_transforms(path: str, values: Mapping[str, Any], budget: TextBudget) -> TransformSettings:
    """Read the transforms of the evaluation in a dict with a list of transforms.

    Args:
        path: Keys that lead to the dict, joined with ".".
        values: The dict, such as `{"val_transforms": [{"name": "Resize", "size": 256}, ...]}`.
        budget: Limits the length of printed transforms, for all dicts of a checkpoint together.

    Returns:
        The settings of the first list that states any, even if they cannot be used. If no list
        states any, the notes about the first list that is not used; an empty `TransformSettings` if
        there is no list of transforms.
    """
    if _TRAINING.search(path):
        return TransformSettings()
    unused = TransformSettings()
    for key, entries in list_entries(values):
        if isinstance(entries, (list, tuple)) and not _TRAINING.search(str(key)):
            transforms = [
                transform
                for entry in entries[:_MAX_TRANSFORMS]
                if (transform := read_transform(entry, budget)) is not None
            ]
            result = _combine(transforms, f"{path}.{key}" if path else str(key))
            if result.values or result.problems:
                return result
            unused = unused if unused.notes else result
    return unused


def _combine(transforms: Sequence[Transform], name: str) -> TransformSettings:
    """Return the settings that the transforms of one list state; messages contain its name."""
    normalization = _read_normalization(transforms)
    geometry = _read_geometry(transforms, name)
    unknown = [transform.name for transform in transforms if transform.kind == "unknown"]
    values = {**geometry.values, **normalization.values}
    notes = (*geometry.notes, *normalization.notes)
    if unknown and (values or geometry.notes):
        notes = (*notes, f"not applied: {', '.join(unknown)} in {name}")
    problems = {**geometry.problems, **normalization.problems}
    divides_by_255 = any(
        transform.name.lower().replace("_", "") in _TENSOR_NAMES
        or transform.arguments.get("scale") is True  # ToDtype of torchvision
        for transform in transforms
    )
    return TransformSettings(values, geometry.img_size, problems, notes, divides_by_255)


def _read_geometry(transforms: Sequence[Transform], name: str) -> TransformSettings:
    """Read how an image is resized and cropped; `Transform` describes the kinds of transforms."""
    weights = [transform for transform in transforms if transform.kind == "weights"]
    if weights:
        arguments = weights[0].arguments
        resize, crop = (read_image_side(arguments.get(k)) for k in ("resize_size", "crop_size"))
        values = {"resize": resize, "crop": crop, "interpolation": arguments.get("interpolation")}
        return TransformSettings({**values, "crop_mode": "center"}, crop)
    steps = [
        transform
        for transform in transforms
        if transform.kind in ("squash", "resize", "crop", "cover")
    ]
    if not steps or any(transform.kind == "random" for transform in transforms):
        return TransformSettings()
    text = ", then ".join(f"{step.name} {shorten(step.stated_size)}" for step in steps)
    kinds, sides = [step.kind for step in steps], [step.side for step in steps]
    if None in sides or kinds in (["resize"], ["crop"]):
        note = f"not used: {text} in {name}, which does not tell how images become squares"
        return TransformSettings(notes=(note,))
    filters, notes = _read_filter(steps[0], name)
    if kinds == ["squash"] or (kinds == ["squash", "crop"] and sides[0] == sides[1]):
        values = {"crop_mode": "squash", "crop_pct": 1.0, **filters}
        return TransformSettings(values, sides[0], notes=notes)
    if kinds == ["cover"]:
        values = {"resize": sides[0], "crop": sides[0], "crop_mode": "center", **filters}
        return TransformSettings(values, sides[0], notes=notes)
    is_larger = len(sides) == 2 and (sides[0] or 0) >= (sides[1] or 0)
    if kinds == ["resize", "crop"] and is_larger:
        values = {"resize": sides[0], "crop": sides[1], "crop_mode": "center", **filters}
        return TransformSettings(values, sides[1], notes=notes)
    problem = f"{text}, which artifacts do not offer"
    return TransformSettings(filters, sides[-1], {"crop": problem, "crop_pct": problem}, notes)


def _read_filter(step: Transform, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read the filter of a transform that resizes, as values and notes."""
    stated = find_first(step.arguments, _FILTER_KEYS)
    # fastai stores the filter of images and that of masks.
    stated = stated[0] if isinstance(stated, (list, tuple)) and stated else stated
    if stated is None:
        note = (
            f"{step.name} in {name} states no interpolation; it is assumed to be bilinear, the"
            " default of torchvision, albumentations, MMEngine and fastai"
        )
        return {"interpolation": "bilinear"}, (note,)
    if isinstance(stated, str):
        return {"interpolation": stated.lower().replace("inter_", "")}, ()
    if step.is_opencv and type(stated) is int:
        return {"interpolation": _OPENCV_FILTERS.get(stated, str(stated))}, ()
    return {"interpolation": stated}, ()


def _read_normalization(transforms: Sequence[Transform]) -> TransformSettings:
    """Read the mean and the standard deviation of the only normalization."""
    problem = _find_input_problem(transforms)
    steps = [transform for transform in transforms if transform.kind in ("normalize", "weights")]
    complete_steps = [
        step
        for step in steps
        if is_vector(step.arguments.get("mean")) and is_vector(step.arguments.get("std"))
    ]
    if len(complete_steps) > 1:
        problem = "several normalizations one after another, which artifacts do not offer"
    if problem:
        return TransformSettings(problems={"mean": problem, "std": problem})
    if not complete_steps:
        return TransformSettings()
    arguments = complete_steps[0].arguments
    mean, std = arguments["mean"], arguments["std"]
    # albumentations multiplies mean and std by this number: by 255 if they belong to pixel values
    # from 0 to 1, and by 1 if they belong to pixel values from 0 to 255.
    max_pixel_value = arguments.get("max_pixel_value")
    if max_pixel_value not in (None, 255) and not is_for_255(mean, std):
        problem = f"mean and std with max_pixel_value {shorten(max_pixel_value)}, which is not 255"
        return TransformSettings(problems={"mean": problem, "std": problem})
    return TransformSettings({"mean": mean, "std": std})


def _find_input_problem(transforms: Sequence[Transform]) -> str:
    """Return why artifacts cannot make the images of a list of transforms; "" if they can.

    Such a reason is, for example, another order of the channels. The values of mean and std are not
    considered.
    """
    for transform in transforms:
        if transform.kind == "channels":
            return make_channel_problem(transform.name)
        if transform.kind == "per image":
            return f"{transform.name}, {PER_IMAGE_REASON}"
        if transform.kind == "normalize":
            arguments = transform.arguments
            problem = find_channel_problem(arguments) or find_per_image_problem(arguments)
            if problem:
                return problem
    return ""
