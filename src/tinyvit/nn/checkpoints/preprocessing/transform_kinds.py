"""Reads one transform of images: its class, its kind and its arguments.

The transforms are those of torchvision, albumentations and MMEngine, as pickled objects or as dicts
in a configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinyvit.nn.checkpoints.metadata.settings_text import CLASS_KEY, TextBudget, parse_call
from tinyvit.nn.checkpoints.preprocessing.channel_order import converts_from_rgb
from tinyvit.nn.checkpoints.preprocessing.per_image_normalization import PER_IMAGE_TRANSFORM
from tinyvit.nn.checkpoints.preprocessing.setting_values import (
    find_first,
    is_vector,
    read_image_side,
)
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
"""Keys of the name of the class in a dict that describes a transform."""

_ARGUMENT_KEYS = ("init_args", "params", "kwargs", "args", "flags")
"""Keys under which the arguments of a transform may be in a dict of their own."""

_SIZE_KEYS = ("size", "img_size", "crop_size", "scale", "max_size")
"""Names of the argument that is the size after a resize or a crop, in pixels."""

_MAX_NAME_LENGTH = 200
"""Longer texts, in characters, are not taken for names of classes or printed transforms."""

# The names of transforms are compared in lower case and without "_".

_RESIZES = ("resize", "resizeimage")
"""Names of transforms whose arguments tell whether they resize the shorter side or both sides."""

_SHORTER_SIDE_RESIZES = ("resizeedge", "resizeshortestedge", "smallestmaxsize")
"""Names of transforms that resize the shorter side, unless the argument `edge` names another."""

_OTHER_KINDS = {
    "normalize": "normalize",
    "normalizeimage": "normalize",
    "centercrop": "crop",
    "imageclassification": "weights",
}
"""Maps the names of other transforms to their kinds (see `Transform`)."""

_FASTAI_RESIZES = {"squish": "squash", "crop": "cover", "pad": "unknown"}
"""Maps the methods of fastai's Resize to the kinds of what it does in evaluation."""

_GEOMETRY = re.compile(r"crop|resize|affine|rotat|perspective")
"""Occurs after "random" in the names of transforms that move the content of an image."""

_IGNORED = re.compile(
    r"^(?:to(?!gray)|maybeto|pilto|convert|load|pack|collect|imageto|compose|sequential|identity)"
    r"|random|flip|jitter|augment|erasing|cutout|cutmix|mixup"
)
"""Matches names of transforms that only convert the type of an image, contain other transforms, or
are applied only in training."""


@dataclass(frozen=True)
class Transform:
    """A transform in a list.

    Attributes:
        name: Name of its class without the module.
        kind: "squash" (resizes to a square), "resize" (resizes the shorter side), "crop" (crops the
            center), "cover" (resizes the shorter side and crops the center to a square of the same
            side), "normalize", "weights" (resizes, crops and normalizes, as torchvision's
            transforms of published weights do), "random" (crops or turns at random), "channels"
            (changes RGB to another order or color space), "per image" (normalizes each image with
            its own statistics), "ignored" (has no effect in evaluation) or "unknown".
        arguments: Arguments of its class by name; the dict may also have other entries, such as the
            name of the class.
        is_opencv: Whether a filter that is stated as a number is one of OpenCV's filters.
    """

    name: str
    kind: str
    arguments: Mapping[str, Any]
    is_opencv: bool

    @property
    def side(self) -> int | None:
        """Return the side in pixels to which the transform resizes or crops.

        It is None if the arguments do not state it, or if height and width differ.
        """
        size = self.stated_size
        is_pair = isinstance(size, (list, tuple)) and len(size) == 2
        # In MMEngine, -1 stands for the longer side; the other number is the shorter side.
        if is_pair and -1 in size and "height" not in self.arguments:
            size = max(size, key=lambda value: value if is_number(value) else 0)
        return read_image_side(size)

    @property
    def stated_size(self) -> Any:
        """Return the size as the arguments state it, for messages; None if there is none."""
        if "height" in self.arguments:
            return [self.arguments["height"], self.arguments.get("width")]
        return find_first(self.arguments, _SIZE_KEYS)


def read_transform(entry: Any, budget: TextBudget) -> Transform | None:
    """Read an entry of a list of transforms.

    Args:
        entry: A dict that describes the transform, or its printed form, such as "Resize(size=256)".
        budget: Limits the length of all printed forms.

    Returns:
        The transform; None if the entry is something else.
    """
    if isinstance(entry, str) and len(entry) <= _MAX_NAME_LENGTH:
        entry = parse_call(entry) if "(" in entry and budget.allows(entry) else None
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
    return Transform(name, _classify(name, arguments), arguments, is_opencv)


def _classify(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the kind of a transform (see `Transform`)."""
    name = name.lower().replace("_", "")
    if arguments.get("split_idx") == 0:  # fastai applies such a transform only in training
        return "ignored"
    if converts_from_rgb(name):
        return "channels"
    if PER_IMAGE_TRANSFORM.search(name):
        return "normalize" if is_vector(arguments.get("mean")) else "per image"
    if name in _RESIZES:
        return _classify_resize(arguments)
    if name in _SHORTER_SIDE_RESIZES:
        return "unknown" if arguments.get("edge") in ("long", "width", "height") else "resize"
    if name in _OTHER_KINDS:
        return _OTHER_KINDS[name]
    if "rotate" in name or _GEOMETRY.search(name.partition("random")[2]):
        return "random"
    return "ignored" if _IGNORED.search(name) else "unknown"


def _classify_resize(arguments: Mapping[str, Any]) -> str:
    """Return the kind of a transform that resizes, which depends on how its size is stated."""
    method = arguments.get("method")
    if isinstance(method, str) and method in _FASTAI_RESIZES:
        return _FASTAI_RESIZES[method]
    if "height" in arguments:
        return "squash"
    size = arguments.get("size")
    # In torchvision, a size that is one number is the length of the shorter side. In MMEngine,
    # `scale` is the length of both sides, and a size that contains -1 is that of the shorter side.
    if size is None and arguments.get("scale") is not None:
        return "unknown" if arguments.get("keep_ratio") is True else "squash"
    is_pair = isinstance(size, (list, tuple)) and len(size) == 2 and -1 not in size
    return "squash" if is_pair else "resize"
