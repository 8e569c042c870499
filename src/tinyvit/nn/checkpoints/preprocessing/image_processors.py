"""Reads the settings of image processors of transformers (`preprocessor_config.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyvit.nn.checkpoints.preprocessing.channel_order import find_channel_problem
from tinyvit.nn.checkpoints.preprocessing.setting_values import (
    is_for_255,
    read_image_side,
    read_normalization,
    shorten,
)
from tinyvit.nn.checkpoints.preprocessing.transform_lists import TransformSettings
from tinyvit.preprocess_settings import is_number

_APPLIED_STEPS = frozenset(
    (
        "do_center_crop",
        "do_convert_rgb",
        "do_flip_channel_order",
        "do_normalize",
        "do_reduce_labels",
        "do_rescale",
        "do_resize",
    )
)
"""Keys of steps that are read here, or that need not be read: artifacts convert every image to RGB
(`do_convert_rgb`), and `do_reduce_labels` does not concern images."""

_TRANSLATED_KEYS = frozenset(
    (
        "crop_pct",
        "crop_size",
        "do_flip_channel_order",
        "do_normalize",
        "image_mean",
        "image_std",
        "resample",
        "size",
    )
)
"""Keys whose entries `read_image_processor` translates to other keys."""

_PROCESSOR_KEYS = frozenset(("do_resize", "do_rescale", "do_normalize", "resample"))
"""A dict of an image processor has at least one of these keys."""


def is_image_processor(values: Mapping[str, Any]) -> bool:
    """Return whether a dict contains the settings of an image processor of transformers.

    Args:
        values: The dict.
    """
    states_pixel_range = "image_mean" in values or "do_rescale" in values
    return states_pixel_range and bool(_PROCESSOR_KEYS & values.keys())


def without_processor_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict without the entries that `read_image_processor` translates.

    Args:
        values: The dict.
    """
    return {k: v for k, v in values.items() if k not in _TRANSLATED_KEYS}


def read_image_processor(data: Mapping[str, Any], name: str) -> TransformSettings:
    """Translate the entries of an image processor to keys of training scripts.

    Args:
        data: The entries.
        name: Where the entries are, for messages.

    Returns:
        The settings. A rescaling is a part of their mean and standard deviation.
    """
    values = {"interpolation": data.get("resample"), "crop_pct": data.get("crop_pct")}
    normalization, problem = _read_normalization(data)
    problems = dict.fromkeys(("mean", "std"), problem) if problem else {}
    notes = (
        [f"{name} states no normalization, so none is applied"] if _never_normalizes(data) else []
    )
    crop = _read_crop(data, name)
    steps = [
        key
        for key, value in data.items()
        if str(key).startswith("do_") and value is True and key not in _APPLIED_STEPS
    ]
    notes += crop.notes
    notes += [f"not applied: {', '.join(steps)[:200]} in {name}"] if steps else []
    return TransformSettings(
        values={**values, **normalization, **crop.values},
        problems={**problems, **crop.problems},
        notes=tuple(notes),
    )


def _never_normalizes(data: Mapping[str, Any]) -> bool:
    """Return whether a processor, such as MobileViT's, rescales images and never normalizes."""
    is_stated = any(key in data for key in ("do_normalize", "image_mean", "image_std"))
    return "do_rescale" in data and not is_stated


def _read_normalization(data: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the mean and std for pixel values from 0 to 1, and why they cannot be used, or ""."""
    problem = find_channel_problem(data)
    if problem:
        return {}, problem
    mean, std = data.get("image_mean"), data.get("image_std")
    if data.get("do_normalize") is False or _never_normalizes(data):
        mean, std = [0.0] * 3, [1.0] * 3
    factor = data.get("rescale_factor")
    if data.get("do_rescale") is False or factor == 1:
        return _read_without_rescaling(mean, std)
    offset = data.get("rescale_offset", data.get("offset")) is True
    if factor is None and not offset:
        return {"mean": mean, "std": std}, ""
    factor = 1 / 255 if factor is None else factor
    if not is_number(factor) or factor <= 0:
        return {}, f"rescale_factor {shorten(factor)}, which is not a number above 0"
    return _fold_rescaling(mean, std, factor * 255, float(offset))


def _read_without_rescaling(mean: Any, std: Any) -> tuple[dict[str, Any], str]:
    """Return a mean and std for pixel values that the processor does not rescale."""
    if is_for_255(mean, std):
        return {"mean": mean, "std": std}, ""
    return {}, (
        f"no rescaling of pixel values, with mean {shorten(mean)} and std {shorten(std)}, which"
        " does not tell whether these values are from 0 to 255 or were divided by 255 before"
    )


def _fold_rescaling(mean: Any, std: Any, scale: float, offset: float) -> tuple[dict[str, Any], str]:
    """Make a rescaling of pixel values a part of the mean and the standard deviation.

    The processor computes `(pixel * scale - offset - mean) / std`, and artifacts compute
    `(pixel - mean) / std`, both for pixel values from 0 to 1.
    """
    if abs(scale - 1) < 1e-3 and not offset:
        return {"mean": mean, "std": std}, ""
    try:
        normalization = read_normalization(mean, std)
    except ValueError as error:
        return {}, str(error)
    if normalization.mean is None or normalization.std is None or normalization.is_scaled:
        return {}, f"a rescaling by {scale / 255:.4g} without a mean and std for its pixel values"
    means = [(value + offset) / scale for value in normalization.mean]
    return {"mean": means, "std": [value / scale for value in normalization.std]}, ""


def _read_crop(data: Mapping[str, Any], name: str) -> TransformSettings:
    """Read how images become squares."""
    size, crop_size = read_image_side(data.get("size")), read_image_side(data.get("crop_size"))
    text = f"size {shorten(data.get('size'))}"
    if data.get("do_resize") is False:
        note = f"{name} states that images are not resized, but artifacts resize them"
        return TransformSettings(notes=(note,))
    is_square = isinstance(data.get("size"), Mapping) and "height" in data["size"]
    if data.get("do_center_crop") and size and crop_size:
        if is_square and size != crop_size:
            problem = f"{text}, then a center crop of {crop_size}, which artifacts do not offer"
            return TransformSettings(problems={"crop": problem, "crop_pct": problem})
        if not is_square:
            return TransformSettings({"val_resize_size": size, "val_crop_size": crop_size})
    if not size or data.get("crop_pct") is not None:
        return TransformSettings()
    if isinstance(data["size"], Mapping) and "shortest_edge" in data["size"]:
        note = f"not used: {text} in {name}, which does not tell how images become squares"
        return TransformSettings(notes=(note,))
    return TransformSettings({"crop_mode": "squash", "crop_pct": 1.0})
