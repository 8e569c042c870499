"""Finds the image size of a checkpoint's training, and the default of `--windows` for other sizes.

The weights tell only the sizes of the attention windows. A network that was trained at 288 pixels
with timm has the windows of 224 pixels, because timm pads feature maps (`tinyvit.nn.window_grid`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tinyvit.image_sizes import (
    ImageSize,
    Windows,
    describe_pixels,
    is_image_size,
    is_supported_size,
    make_image_size,
)
from tinyvit.nn.checkpoints.metadata.metadata_search import walk_dicts
from tinyvit.nn.checkpoints.metadata.settings_files import SETTINGS_FILES, TRAINING_ARGUMENTS
from tinyvit.nn.checkpoints.metadata.settings_text import TextBudget
from tinyvit.nn.checkpoints.preprocessing.transform_lists import read_transforms
from tinyvit.nn.checkpoints.state_dicts.layouts import MOBILE_SAM

_SIZE_KEYS = ("img_size", "input_size", "image_size", "imgsz")
"""Names under which training scripts store the image size. timm's train.py has the first two, and
uses the second if the first is not set."""

_SECTION_KEYS = ("model_kwargs", "model", "data", "dataset")
"""Keys under which settings may be in a dict of their own. timm's train.py has the first, the
arguments of the model."""

_MOBILE_SAM_SIZE = 1024
"""Side in pixels of the images of MobileSAM's training."""

_MAX_DIGITS = 5
"""Largest number of digits of an image size that is stored as text."""

_MAX_TEXT_LENGTH = 40
"""Largest number of characters of a value in the file that a note contains."""


@dataclass(frozen=True)
class TrainingWindows:
    """The image size of the training, and the default of `--windows`.

    Attributes:
        img_size: Size of the images in pixels at which the network was trained. If the file does
            not tell it, the size to which the windows of the weights belong.
        default: What happens to the windows at another image size.
        reason: Why that is the default, as a clause for a message.
        notes: What the user should know about the size, as sentences.
    """

    img_size: ImageSize
    default: Windows
    reason: str
    notes: tuple[str, ...]


def find_training_windows(
    metadata: Mapping[str, Any], config: Mapping[str, Any], layout: str, window_img_size: int
) -> TrainingWindows:
    """Find the image size of the training and the default of `--windows`.

    Args:
        metadata: Everything in the checkpoint file besides the weights, as plain values.
        config: Content of the `config.json` that belongs to the file; {} if there is none.
        layout: Naming of the keys of the weights: "timm", "official" or "mobile_sam".
        window_img_size: Side of the image in pixels whose scaled windows (see
            `tinyvit.image_sizes.compute_window_sizes`) are those of the weights.

    Returns:
        The image size and the default.
    """
    sizes = list(_find_sizes(metadata, config))
    if layout == MOBILE_SAM:
        img_size, notes = _choose_size(sizes, _MOBILE_SAM_SIZE)
        return TrainingWindows(img_size, "checkpoint", "MobileSAM does so", notes)
    img_size, notes = _choose_size(sizes, window_img_size)
    default, reason = _choose_default(metadata, layout, img_size, window_img_size)
    return TrainingWindows(img_size, default, reason, notes)


def _choose_size(
    candidates: list[tuple[object, str]], default_size: int
) -> tuple[ImageSize, tuple[str, ...]]:
    """Choose one of the sizes that `_find_sizes` yielded; return it and notes for the user."""
    if not candidates:
        return default_size, ()
    size, source = candidates[0]
    if not is_supported_size(size):
        # The value may come from a hostile file, so it is escaped and shortened.
        text = ascii(size)[:_MAX_TEXT_LENGTH]
        note = (
            f"the image size in {source} is {text}, at which TinyViT cannot be exported; "
            f"{default_size} pixels are used instead, and --img-size chooses another size"
        )
        return default_size, (note,)
    notes = (
        f"the image size in {other_source} is {ascii(other_size)[:_MAX_TEXT_LENGTH]}, and in"
        f" {source} {size}; {size} is used"
        for other_size, other_source in candidates[1:]
        if other_size != size
    )
    return size, tuple(notes)


def _choose_default(
    metadata: Mapping[str, Any], layout: str, img_size: ImageSize, window_img_size: int
) -> tuple[Windows, str]:
    """Return the default of `--windows`, and the reason for it."""
    if img_size != window_img_size:
        return "checkpoint", f"the network was trained so, at {describe_pixels(img_size)}"
    if layout == "timm":
        return "checkpoint", "timm's TinyViT does so"
    if _find_paper_size(metadata) is not None:
        return "scaled", "the paper's training code does so"
    return "checkpoint", "the file does not tell how it was trained"


def _find_sizes(
    metadata: Mapping[str, Any], config: Mapping[str, Any]
) -> Iterator[tuple[object, str]]:
    """Yield the image sizes in the file with a description of their source, the surest first.

    Each size is yielded as `_read_size` returns it.
    """
    preprocess = metadata.get("preprocess")
    if isinstance(preprocess, Mapping) and "size" in preprocess:
        yield _read_size(preprocess["size"]), "the preprocessing in the checkpoint"
    paper_size = _find_paper_size(metadata)
    if paper_size is not None:
        yield paper_size, "the training configuration in the checkpoint"
    sources = [(metadata.get(key), "the training arguments") for key in TRAINING_ARGUMENTS]
    sources.append((metadata, "the training arguments"))
    sources += [
        (metadata.get(key), "the configuration of timm's model")
        for key in ("pretrained_cfg", "default_cfg")
    ]
    sources = [(settings, f"{name} in the checkpoint") for settings, name in sources]
    sources += [(metadata.get(name), name) for name in SETTINGS_FILES]
    sources += [
        (settings, "config.json")
        for settings in (config.get("model_args"), config.get("pretrained_cfg"), config)
    ]
    for settings, name in sources:
        size = _find_size(settings)
        if size is not None:
            yield size, name
    budget = TextBudget()
    for path, values in walk_dicts(metadata):
        size = read_transforms(path, values, budget).img_size
        if size is not None:
            yield size, f"the transforms in {f'{path} of ' if path else ''}the checkpoint"


def _find_paper_size(metadata: Mapping[str, Any]) -> object | None:
    """Return DATA.IMG_SIZE of the paper's configuration; None if there is none."""
    config = metadata.get("config")
    data = config.get("DATA") if isinstance(config, Mapping) else None
    return _read_size(data.get("IMG_SIZE")) if isinstance(data, Mapping) else None


def _find_size(settings: object) -> object | None:
    """Return the image size in the settings of a training script; None if there is none."""
    if not isinstance(settings, Mapping):
        return None
    sections = [settings.get(key) for key in _SECTION_KEYS]
    # The arguments of the model come first: images of another size do not fit in its network.
    for section in (sections[0], settings, *sections[1:]):
        if isinstance(section, Mapping):
            sizes = (_read_size(section.get(key)) for key in _SIZE_KEYS)
            size = next((size for size in sizes if size is not None), None)
            if size is not None:
                return size
    return None


def _read_size(value: object) -> object | None:
    """Return an image size in pixels.

    timm stores a side, (height, width), or (channels, height, width). A value of another form is
    returned unchanged.
    """
    if isinstance(value, (list, tuple)) and len(value) in (2, 3):
        height, width = value[-2:]
        size = (height, width)
        return make_image_size(height, width) if is_image_size(size) else size
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and len(value) <= _MAX_DIGITS and value.isdecimal():
        return int(value)
    return value
