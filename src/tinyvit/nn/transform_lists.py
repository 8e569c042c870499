"""Reads resizing, crop and normalization from a list of the transforms of images.

The transforms are those of torchvision, albumentations and MMEngine, as pickled objects or as dicts
in a configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tinyvit.nn.setting_values import (
    find_first,
    is_vector,
    read_image_side,
    read_normalization,
    shorten,
)
from tinyvit.nn.settings_text import CLASS_KEY, parse_call
from tinyvit.preprocess_settings import is_number

_CLASS_KEYS = (
    CLASS_KEY,
    "__class_fullname__",
    "class_path",
    "name",
    "type",
    "class_name",
    "transform",
)
_ARGUMENT_KEYS = ("init_args", "params", "kwargs", "args")
"""Keys of the arguments of a transform, where they are in a dict of their own."""

_SIZE_KEYS = ("size", "img_size", "crop_size", "scale", "max_size")
_FILTER_KEYS = ("interpolation", "resample")
_MAX_ENTRIES = 2000
"""Limit of the entries that are read from a dict of an untrusted file."""

_MAX_TRANSFORMS = 64
_MAX_NAME_LENGTH = 200
_TRAINING = re.compile(r"(?<![a-z])train(?!ing|er)", re.IGNORECASE)
"""Occurs in the keys of transforms that are not those of the evaluation."""

_RESIZES = ("resize", "resizeimage")
_SHORTER_SIDE_RESIZES = ("resizeedge", "resizeshortestedge", "smallestmaxsize")
_NORMALIZATIONS = ("normalize", "normalizeimage")
_GEOMETRY = re.compile(r"crop|resize|affine|rotat|perspective")
"""Occurs after "random" in the names of transforms that move the content of an image."""

_WITHOUT_EFFECT = re.compile(
    r"^(?:to(?!gray)|maybeto|pilto|convert|load|pack|collect|imageto|compose|sequential|identity)"
    r"|random|flip|jitter|augment|erasing|cutout|cutmix|mixup|^resize$"
)
"""Matches names of transforms that convert the type of an image, or that only the training applies.

Names of transforms are compared in lower case and without "_"."""

BGR_KEYS = frozenset(("to_rgb", "bgr_to_rgb", "rgb_to_bgr"))
"""Keys of MMEngine that tell the order of the channels."""

_OPENCV_FILTERS = {0: "nearest", 1: "bilinear", 2: "bicubic", 3: "area", 4: "lanczos"}
"""OpenCV's numbers of filters, which albumentations uses. Those of Pillow are others."""


@dataclass(frozen=True)
class Transforms:
    """What a list of transforms states.

    Attributes:
        values: Settings by the keys of training scripts: "resize", "crop", "crop_mode",
            "crop_pct", "interpolation", "mean" and "std".
        img_size: Side of the square image in pixels that the network receives; None if unknown.
        problems: See `tinyvit.preprocess_settings.PreprocessSource`.
        notes: Facts that a user should know.
    """

    values: dict[str, Any] = field(default_factory=dict)
    img_size: int | None = None
    problems: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Transform:
    """A transform in a list.

    Attributes:
        name: Name of its class.
        kind: "squash" (resizes to a square), "resize" (resizes the shorter side), "crop" (crops the
            center), "normalize", "weights" (torchvision's transforms of published weights),
            "random", "ignored" or "unknown".
        arguments: Arguments of its class by name.
        is_opencv: Whether numbers of filters are those of OpenCV.
    """

    name: str
    kind: str
    arguments: Mapping[str, Any]
    is_opencv: bool

    @property
    def side(self) -> int | None:
        """The size in pixels to which it resizes or crops; None if that is not a square."""
        if "height" in self.arguments:
            return read_image_side([self.arguments["height"], self.arguments.get("width")])
        size = find_first(self.arguments, _SIZE_KEYS)
        if isinstance(size, (list, tuple)) and len(size) == 2 and -1 in size:
            size = max(size, key=lambda value: value if is_number(value) else 0)
        return read_image_side(size)


def read_transforms(path: str, values: Mapping[str, Any]) -> Transforms:
    """Read the transforms of the evaluation in a dict with a list of transforms.

    Args:
        path: Keys that lead to the dict, joined with ".".
        values: The dict, such as `{"val_transforms": [{"name": "Resize", "size": 256}, ...]}`.

    Returns:
        What the first list with a resize, a crop or a normalization states; an empty
        `Transforms` if there is no such list.
    """
    if _TRAINING.search(path):
        return Transforms()
    for key, entries in islice(values.items(), _MAX_ENTRIES):
        if isinstance(entries, (list, tuple)) and not _TRAINING.search(str(key)):
            transforms = [
                transform
                for entry in entries[:_MAX_TRANSFORMS]
                if (transform := _read_transform(entry)) is not None
            ]
            result = _combine(transforms, f"{path}.{key}" if path else str(key))
            if result.values or result.problems:
                return result
    return Transforms()


def _read_transform(entry: Any) -> _Transform | None:
    """Read an entry of a list; return None if it is no transform."""
    if isinstance(entry, str) and len(entry) <= _MAX_NAME_LENGTH:
        entry = parse_call(entry)
    if not isinstance(entry, Mapping):
        return None
    name, arguments = find_first(entry, _CLASS_KEYS), entry
    if name is None and len(entry) == 1:
        name, content = next(iter(entry.items()))
        arguments = content if isinstance(content, Mapping) else {"size": content}
    if not isinstance(name, str) or len(name) > _MAX_NAME_LENGTH:
        return None
    nested = find_first(arguments, _ARGUMENT_KEYS)
    if isinstance(nested, Mapping):
        arguments = {**arguments, **nested}
    is_opencv = "__class_fullname__" in entry or name.startswith("albumentations.")
    name = name.rpartition(".")[2]
    return _Transform(name, _classify(name, arguments), arguments, is_opencv)


def _classify(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the kind of a transform (see `_Transform`)."""
    name = name.lower().replace("_", "")
    if name in _RESIZES:
        return _classify_resize(arguments)
    if name in _SHORTER_SIDE_RESIZES:
        return "unknown" if arguments.get("edge") in ("long", "width", "height") else "resize"
    if name in _NORMALIZATIONS:
        return "normalize"
    if name in ("centercrop", "imageclassification"):
        return {"centercrop": "crop", "imageclassification": "weights"}[name]
    if "rotate" in name or _GEOMETRY.search(name.partition("random")[2]):
        return "random"
    return "ignored" if _WITHOUT_EFFECT.search(name) else "unknown"


def _classify_resize(arguments: Mapping[str, Any]) -> str:
    """Return the kind of a transform that resizes, which depends on how its size is stated."""
    if "height" in arguments:
        return "squash"
    size = arguments.get("size")
    # In torchvision, a number is the length of the shorter side; in MMEngine, `scale` is that of
    # both sides, and a size with -1 that of the shorter side.
    if size is None and arguments.get("scale") is not None:
        return "unknown" if arguments.get("keep_ratio") is True else "squash"
    is_pair = isinstance(size, (list, tuple)) and len(size) == 2 and -1 not in size
    return "squash" if is_pair else "resize"


def _combine(transforms: Sequence[_Transform], name: str) -> Transforms:
    """Combine the transforms in the list with this name."""
    normalization = _read_normalization(transforms)
    geometry = _read_geometry(transforms, name)
    unknown = [transform.name for transform in transforms if transform.kind == "unknown"]
    values = {**geometry.values, **normalization.values}
    notes = (*geometry.notes, *normalization.notes)
    if unknown and (values or geometry.notes):
        notes = (*notes, f"not applied: {', '.join(unknown)} in {name}")
    problems = {**geometry.problems, **normalization.problems}
    return Transforms(values, geometry.img_size, problems, notes)


def _read_geometry(transforms: Sequence[_Transform], name: str) -> Transforms:
    """Read how an image is resized and cropped."""
    weights = [transform for transform in transforms if transform.kind == "weights"]
    if weights:
        arguments = weights[0].arguments
        resize, crop = (read_image_side(arguments.get(k)) for k in ("resize_size", "crop_size"))
        values = {"resize": resize, "crop": crop, "interpolation": arguments.get("interpolation")}
        return Transforms({**values, "crop_mode": "center"}, crop)
    steps = [
        transform for transform in transforms if transform.kind in ("squash", "resize", "crop")
    ]
    if not steps or any(transform.kind == "random" for transform in transforms):
        return Transforms()
    text = ", then ".join(f"{step.name} {shorten(_describe_size(step))}" for step in steps)
    kinds, sides = [step.kind for step in steps], [step.side for step in steps]
    if None in sides or kinds in (["resize"], ["crop"]):
        note = f"not used: {text} in {name}, which does not tell how images become squares"
        return Transforms(notes=(note,))
    filters, notes = _read_filter(steps[0], name)
    if kinds == ["squash"] or (kinds == ["squash", "crop"] and sides[0] == sides[1]):
        values = {"crop_mode": "squash", "crop_pct": 1.0, **filters}
        return Transforms(values, sides[0], notes=notes)
    is_larger = len(sides) == 2 and (sides[0] or 0) >= (sides[1] or 0)
    if kinds == ["resize", "crop"] and is_larger:
        values = {"resize": sides[0], "crop": sides[1], "crop_mode": "center", **filters}
        return Transforms(values, sides[1], notes=notes)
    problem = f"{text}, which artifacts do not offer"
    return Transforms(filters, sides[-1], {"crop": problem, "crop_pct": problem}, notes)


def _describe_size(step: _Transform) -> Any:
    """Return the size of a step as it is stated, for messages."""
    if "height" in step.arguments:
        return [step.arguments["height"], step.arguments.get("width")]
    return find_first(step.arguments, _SIZE_KEYS)


def _read_filter(step: _Transform, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read the filter of a transform that resizes, as values and notes."""
    stated = find_first(step.arguments, _FILTER_KEYS)
    if stated is None:
        note = (
            f"{step.name} in {name} states no interpolation; it is assumed to be bilinear, the"
            " default of torchvision, albumentations and MMEngine"
        )
        return {"interpolation": "bilinear"}, (note,)
    if isinstance(stated, str):
        return {"interpolation": stated.lower().replace("inter_", "")}, ()
    if step.is_opencv and type(stated) is int:
        return {"interpolation": _OPENCV_FILTERS.get(stated, str(stated))}, ()
    return {"interpolation": stated}, ()


def _read_normalization(transforms: Sequence[_Transform]) -> Transforms:
    """Read the mean and the standard deviation of the last normalization."""
    steps = [transform for transform in transforms if transform.kind in ("normalize", "weights")]
    if not steps:
        return Transforms()
    arguments = steps[-1].arguments
    mean, std = arguments.get("mean"), arguments.get("std")
    if not is_vector(mean) or not is_vector(std):
        return Transforms()
    problem = find_bgr_problem(arguments)
    largest = arguments.get("max_pixel_value")  # of albumentations
    if largest not in (None, 255) and not _is_for_255(mean, std):
        problem = f"mean and std with max_pixel_value {shorten(largest)}, which is not 255"
    values = {"mean": mean, "std": std}
    return Transforms(problems=dict.fromkeys(values, problem)) if problem else Transforms(values)


def _is_for_255(mean: Any, std: Any) -> bool:
    """Return whether a mean and a standard deviation are for pixel values from 0 to 255."""
    try:
        return read_normalization(mean, std).is_scaled
    except ValueError:
        return False


def find_bgr_problem(arguments: Mapping[str, Any]) -> str:
    """Explain a normalization of MMEngine whose network takes images in BGR order.

    Args:
        arguments: The arguments of the normalization.

    Returns:
        A clause; "" for images in RGB order.
    """
    is_bgr = (
        arguments.get("to_rgb") is False
        or arguments.get("bgr_to_rgb") is False
        or arguments.get("rgb_to_bgr") is True
    )
    if not is_bgr:
        return ""
    return (
        "mean and std for images in BGR order, and artifacts give the network RGB images (reverse"
        " the input channels of its first convolution)"
    )
