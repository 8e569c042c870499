"""Finds the preprocessing with which a network was trained.

Each setting is taken from the first source that states it. The sources are, in this order: the
options of the command, an entry `preprocess` in the checkpoint that this package wrote, the
arguments of the training in the checkpoint, other entries in it, files with the arguments beside it
(`tinyvit.nn.checkpoints.metadata.settings_files`), `config.json`, `preprocessor_config.json`, and
the defaults of timm, of the paper's code or of SAM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinyvit.errors import CheckpointError, TinyViTError
from tinyvit.image_sizes import ImageSize
from tinyvit.nn.checkpoints.metadata.settings_files import SETTINGS_FILES, TRAINING_ARGUMENTS
from tinyvit.nn.checkpoints.preprocessing.normalization_notes import (
    explain_unknown_normalization,
    find_missing_normalization,
)
from tinyvit.nn.checkpoints.preprocessing.preprocess_sources import (
    list_checkpoint_sources,
    read_config_json,
    read_preprocessor_config,
)
from tinyvit.nn.checkpoints.preprocessing.setting_values import make_crop_pct
from tinyvit.nn.checkpoints.weights import Weights
from tinyvit.preprocess import (
    PREPROCESS_FIELDS,
    Preprocess,
    paper_preprocess,
    sam_preprocess,
    timm_preprocess,
)
from tinyvit.preprocess_settings import (
    MergedSettings,
    PreprocessSettings,
    PreprocessSource,
    describe_sources,
    merge_sources,
)
from tinyvit.serialization import parse_dataclass, require_fields
from tinyvit.variants import VARIANTS, Variant

_DEFAULTS = {
    "timm": timm_preprocess,
    "official": paper_preprocess,
    "mobile_sam": sam_preprocess,
}
"""The function that returns the default preprocessing for an image size, for each layout."""

_DEFAULT_NAMES = {
    "timm": "the default of timm's TinyViT",
    "official": "the default of the paper's code",
    "mobile_sam": "the preprocessing of SAM",
}

_OWN_ENTRY = "the checkpoint's own entry preprocess"
"""Name in messages of the entry that this package writes."""

_VARIANT_NAME = re.compile(r"tiny_vit_\d+m_\d+")
"""Matches the name of a variant inside a longer name, such as "tiny_vit_5m_224.in1k"."""


@dataclass(frozen=True)
class TrainingPreprocess:
    """The preprocessing of a network, and where it comes from.

    Attributes:
        preprocess: The preprocessing.
        source: Where the preprocessing comes from, in words, such as "config.json".
        notes: Sentences about contradictions and conversions.
        settings: The settings that the sources state, and that hold at every image size.
    """

    preprocess: Preprocess
    source: str
    notes: tuple[str, ...]
    settings: PreprocessSettings


def find_preprocess(
    weights: Weights,
    layout: str,
    img_size: ImageSize,
    path: Path,
    options: PreprocessSource | None = None,
) -> TrainingPreprocess:
    """Find the preprocessing with which a network was trained.

    Args:
        weights: The content of the checkpoint file.
        layout: Layout of the state dict: "timm", "official" or "mobile_sam".
        img_size: Size of the network's input in pixels.
        path: The checkpoint file or its folder, for error messages and for files beside it.
        options: The options of the command, which take precedence over all other sources; None if
            there are none.

    Returns:
        The preprocessing for `img_size`, and its sources.

    Raises:
        CheckpointError: A source states a value that cannot be used, and no earlier source states
            this setting.
    """
    own_entry = _read_own_entry(weights.metadata, layout, path)
    sources = [source for source in (options, own_entry) if source is not None]
    sources += list_checkpoint_sources(weights.metadata)
    sources += _read_files_beside(weights, path)
    if not any(map(_states_normalization, sources)):
        missing = find_missing_normalization(weights.metadata)
        sources += [] if missing is None else [missing]
    merged = merge_sources(sources)
    variant = _find_stated_variant(weights)
    settings, default_name = merged.settings, _DEFAULT_NAMES[layout]
    if layout == "timm" and variant is not None:
        settings = _complete_crop(settings, timm_preprocess(variant.img_size))
        default_name = f"the default of timm's {variant.name}"
    preprocess = make_preprocess(settings, layout, img_size, path)
    unused_notes = explain_unknown_normalization(weights.metadata, preprocess)
    notes = (*merged.notes, *_explain_crop(merged, layout, img_size), *unused_notes)
    return TrainingPreprocess(
        preprocess=preprocess,
        source=describe_sources(merged.source_names, default_name),
        notes=tuple(dict.fromkeys(notes)),
        settings=settings,
    )


def make_preprocess(
    settings: PreprocessSettings, layout: str, img_size: ImageSize, path: Path | str
) -> Preprocess:
    """Return the preprocessing with the settings of a training, for an image size.

    Args:
        settings: The settings.
        layout: Layout of the state dict, which selects the defaults of all other settings.
        img_size: Size of the network's input in pixels.
        path: The checkpoint, for error messages.

    Returns:
        The preprocessing.

    Raises:
        CheckpointError: Artifacts do not offer this combination of a crop mode and a crop_pct.
    """
    try:
        return settings.apply(_DEFAULTS[layout](img_size))
    except TinyViTError as error:
        raise CheckpointError(
            f"{path} was trained with a crop that artifacts do not offer (crop_mode"
            f" {settings.crop} with crop_pct {settings.crop_pct})",
            "give --crop-pct for a center crop: the side of the input divided by the length to"
            " which the image is resized",
        ) from error


def _read_own_entry(
    metadata: Mapping[str, Any], layout: str, path: Path
) -> PreprocessSource | None:
    """Read the entry `preprocess` that this package writes; None if there is none."""
    data = metadata.get("preprocess")
    if not isinstance(data, dict) or not {"size", "resize"} & data.keys():
        return None
    try:
        require_fields(data, PREPROCESS_FIELDS, "preprocess")
        preprocess = parse_dataclass(Preprocess, data, "preprocess")
    except (ValueError, TinyViTError) as error:
        raise CheckpointError(
            f"the preprocessing in the metadata of {path} is not valid ({error})",
            "correct the entry preprocess in the metadata of the file, or remove it",
        ) from error
    settings = PreprocessSettings(preprocess.mean, preprocess.std, preprocess.interpolation)
    default = _DEFAULTS[layout](preprocess.size)
    # The settings must hold at every image size, and the default crop may depend on the size.
    # Therefore, the crop becomes a setting only if it is not the default.
    if (preprocess.resize, preprocess.crop) != (default.resize, default.crop):
        crop_pct = make_crop_pct(preprocess.size, preprocess.resize)
        settings = replace(settings, crop=preprocess.crop, crop_pct=crop_pct)
    return PreprocessSource(_OWN_ENTRY, settings)


def _read_files_beside(weights: Weights, path: Path) -> list[PreprocessSource]:
    """Read `config.json` and `preprocessor_config.json` of the folder of a checkpoint."""
    if not weights.config and not path.is_dir():
        return []
    sources = (read_config_json(weights.config), read_preprocessor_config(path))
    return [source for source in sources if source is not None]


def _states_normalization(source: PreprocessSource) -> bool:
    """Return whether a source states a mean or a standard deviation, usable or not."""
    is_usable = source.settings.mean is not None or source.settings.std is not None
    return is_usable or not {"mean", "std"}.isdisjoint(source.problems)


def _find_stated_variant(weights: Weights) -> Variant | None:
    """Return the variant that the training's arguments or `config.json` name; None without any."""
    arguments = [weights.metadata.get(key) for key in (*TRAINING_ARGUMENTS, *SETTINGS_FILES)]
    names = [entry.get("model") for entry in arguments if isinstance(entry, Mapping)]
    for name in (*names, weights.metadata.get("arch"), weights.config.get("architecture")):
        match = _VARIANT_NAME.search(name) if isinstance(name, str) else None
        if match is not None and match[0] in VARIANTS:
            return VARIANTS[match[0]]
    return None


def _complete_crop(settings: PreprocessSettings, default: Preprocess) -> PreprocessSettings:
    """Fill in the crop that timm uses for a variant at every image size, where none is stated.

    Args:
        settings: The settings that the sources state.
        default: timm's preprocessing at the image size for which the variant was released.
    """
    crop_pct = settings.crop_pct
    if crop_pct is None:
        # timm has 0.95 for the variants that were released for 224 pixels, 1 for the larger ones.
        crop_pct = 0.95 if default.size == 224 else 1.0
    return replace(settings, crop=settings.crop or default.crop, crop_pct=crop_pct)


def _explain_crop(merged: MergedSettings, layout: str, img_size: ImageSize) -> tuple[str, ...]:
    """Return a note if a stated crop_pct replaces the squash that is usual at this size."""
    settings, default = merged.settings, _DEFAULTS[layout](img_size)
    if settings.crop is None and settings.crop_pct not in (None, 1) and default.crop == "squash":
        source_name = merged.source_names["crop_pct"]
        return (
            f"{source_name} states a crop_pct and no crop_mode: the image is resized"
            " and the center is cropped, instead of squashing it into a square",
        )
    return ()
