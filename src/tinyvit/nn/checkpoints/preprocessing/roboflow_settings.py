"""Reads the preprocessing of a data set of Roboflow.

Roboflow stores it as a dict from the name of each step to its arguments, for example

    {"auto-orient": {"enabled": True}, "resize": {"enabled": True, "width": 224, "height": 224,
     "format": "Stretch to"}}

Roboflow applies the steps to the images that it stores, before a training sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyvit.nn.checkpoints.preprocessing.channel_order import make_channel_problem
from tinyvit.nn.checkpoints.preprocessing.setting_values import read_image_side, shorten
from tinyvit.nn.checkpoints.preprocessing.transform_lists import TransformSettings

_WITHOUT_EFFECT = frozenset(("auto-orient", "filter-null", "remap"))
"""Steps that this package applies too (the EXIF orientation), or that do not change images."""

_PIXEL_STEPS = frozenset(("contrast", "grayscale"))
"""Steps that change the pixel values of images."""

_GEOMETRY_STEPS = frozenset(("isolate", "isolate-objects", "static-crop", "tile"))
"""Steps that cut images."""

_STEPS = _WITHOUT_EFFECT | _PIXEL_STEPS | _GEOMETRY_STEPS | {"resize"}

_RESIZES = {"stretch to": "squash", "fill (with center crop) in": "center"}
"""Maps formats of the step "resize" to the crop that artifacts offer."""


def is_roboflow(values: Mapping[str, Any]) -> bool:
    """Return whether a dict is the preprocessing of a data set of Roboflow.

    Args:
        values: The dict, with keys in lower case.
    """
    return any(
        key in _STEPS and isinstance(value, Mapping) and isinstance(value.get("enabled"), bool)
        for key, value in values.items()
    )


def read_roboflow(values: Mapping[str, Any], name: str) -> TransformSettings:
    """Read the preprocessing of a data set of Roboflow.

    Args:
        values: The dict, with keys in lower case.
        name: Name of the dict for messages.

    Returns:
        The crop; problems for steps that artifacts do not offer, and a note about unknown steps.
    """
    settings: dict[str, Any] = {}
    problems: dict[str, str] = {}
    unknown: list[str] = []
    for key, arguments in values.items():
        if not isinstance(arguments, Mapping) or arguments.get("enabled") is not True:
            continue
        step = f"{key} of Roboflow"
        if key == "resize":
            crop, problem = _read_resize(arguments)
            settings.update(crop)
            problems.update(dict.fromkeys(("crop", "crop_pct"), problem) if problem else {})
        elif key == "grayscale":
            problems.update(dict.fromkeys(("mean", "std"), make_channel_problem(step)))
        elif key in _PIXEL_STEPS:
            problem = f"{step}, which changes the pixel values of each image"
            problems.update(dict.fromkeys(("mean", "std"), problem))
        elif key in _GEOMETRY_STEPS:
            problem = f"{step}, which artifacts do not offer"
            problems.update(dict.fromkeys(("crop", "crop_pct"), problem))
        elif key not in _WITHOUT_EFFECT:
            unknown.append(key[:40])
    notes = (f"not applied: {', '.join(unknown)[:200]} in {name}",) if unknown else ()
    return TransformSettings(settings, problems=problems, notes=notes)


def without_roboflow_steps(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict without the entries that `read_roboflow` reads.

    Args:
        values: The dict, with keys in lower case.
    """
    return {
        key: value
        for key, value in values.items()
        if not (isinstance(value, Mapping) and "enabled" in value)
    }


def _read_resize(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the settings of a resize, and why artifacts do not offer it, or ""."""
    statement = f"resize {shorten(arguments.get('format'))} of Roboflow"
    crop = _RESIZES.get(str(arguments.get("format")).lower())
    if crop is None:
        return {}, f"{statement}, which artifacts do not offer"
    size = {key: arguments[key] for key in ("width", "height") if key in arguments}
    if read_image_side(size) is None:
        return {}, f"{statement} {shorten(size)}, which is not the size of a square"
    return {"crop_mode": crop, "crop_pct": 1.0}, ""
