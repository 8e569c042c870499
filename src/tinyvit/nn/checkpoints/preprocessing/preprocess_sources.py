"""Reads the settings of the preprocessing from what a training left behind.

The places are the arguments of training scripts (timm, torchvision, DeiT, the paper's code, and
scripts of a user's own), `config.json` of timm and Hugging Face, and `preprocessor_config.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinyvit.nn.checkpoints.metadata.metadata_search import walk_dicts
from tinyvit.nn.checkpoints.metadata.settings_files import SETTINGS_FILES, TRAINING_ARGUMENTS
from tinyvit.nn.checkpoints.metadata.settings_text import TextBudget
from tinyvit.nn.checkpoints.preprocessing.channel_order import (
    find_channel_entries,
    find_channel_problem,
)
from tinyvit.nn.checkpoints.preprocessing.image_processors import (
    is_image_processor,
    read_image_processor,
    without_processor_keys,
)
from tinyvit.nn.checkpoints.preprocessing.paper_settings import read_paper_config
from tinyvit.nn.checkpoints.preprocessing.per_image_normalization import (
    find_per_image_entries,
    find_per_image_problem,
)
from tinyvit.nn.checkpoints.preprocessing.roboflow_settings import (
    is_roboflow,
    read_roboflow,
    without_roboflow_steps,
)
from tinyvit.nn.checkpoints.preprocessing.setting_keys import (
    NORMALIZATION_KEYS,
    find_normalization,
    lower_keys,
)
from tinyvit.nn.checkpoints.preprocessing.setting_values import (
    NAMED_NORMALIZATION,
    find_first,
    is_vector,
    make_crop_pct,
    read_crop_pct,
    read_image_side,
    read_interpolation,
    read_normalization,
    shorten,
)
from tinyvit.nn.checkpoints.preprocessing.transform_lists import TransformSettings, read_transforms
from tinyvit.nn.checkpoints.weight_folders import find_settings_folder
from tinyvit.preprocess_settings import PreprocessSettings, PreprocessSource
from tinyvit.serialization import read_json

_OWN_LAYER = "normalization"
"""Key under which `read_weights` returns the mean and std of a layer inside the model."""

_INTERPOLATION_KEYS = ("interpolation", "val_interpolation", "test_interpolation", "resample")
_CROP_PCT_KEYS = ("crop_pct", "eval_crop_ratio", "crop_ratio")

_INPUT_SIZE_KEYS = ("input_size", "img_size", "image_size", "val_crop_size", "crop_size", "img_dim")
"""Keys of the side of the network's input in pixels."""

_RESIZE_KEYS = ("val_resize_size", "eval_resize_size", "resize_size")
"""Keys of the length in pixels to which an image is resized before the crop."""

_CROP_KEYS = ("crop", "center_crop", "crop_size")
"""Keys of the side of the center crop in pixels, in dicts that have a key "resize"."""

_RGB_KEYS = frozenset(("to_rgb", "bgr_to_rgb", "rgb_to_bgr"))
"""Keys of MMEngine's data preprocessors that state the order of the channels."""

_SETTING_CONTAINERS = frozenset(
    {
        *TRAINING_ARGUMENTS,
        "data",
        "data_config",
        "datamodule_hyper_parameters",
        "default_cfg",
        "input",
        "meta",
        "model_args",
        "model_kwargs",
        "normalization",
        "normalize",
        "preprocess",
        "preprocessing",
        "preprocessor_config",
        "pretrained_cfg",
        "test_transform",
        "test_transforms",
        "training_args",
        "transform",
        "transforms",
        "val_transform",
        "val_transforms",
    }
)
"""Keys of dicts whose entries are settings. In other dicts, only a mean and a standard deviation of
three channels, and the order of the channels, are read: a key such as "size" can mean anything
there."""

_PREPROCESSOR_FILE = "preprocessor_config.json"
"""Name of the file in which Hugging Face stores the preprocessing."""

_MAX_CONFIG_BYTES = 2**20


def list_checkpoint_sources(metadata: Mapping[str, Any]) -> list[PreprocessSource]:
    """List the sources in a checkpoint file and in the files of settings beside it.

    Args:
        metadata: All values in the file except the weights, and the content of each file of
            settings by its name.

    Returns:
        The sources that state something, the most important first: a layer of the model that
        normalizes images, the arguments of the training, all other dicts in the checkpoint, then
        the files of settings.
    """
    dicts = sorted(walk_dicts(metadata), key=lambda path_and_dict: _rank_path(path_and_dict[0]))
    budget = TextBudget()
    sources = [_read_dict(path, values, budget) for path, values in dicts]
    return [source for source in sources if source is not None]


def _rank_path(path: str) -> int:
    """Return the rank of a dict among the sources by the keys that lead to it; 0 comes first."""
    first_paths = (_OWN_LAYER, *TRAINING_ARGUMENTS)
    if path in first_paths:
        return first_paths.index(path)
    return len(first_paths) + path.startswith(SETTINGS_FILES)


def read_config_json(config: Mapping[str, Any]) -> PreprocessSource | None:
    """Read `config.json` of timm, or of Hugging Face's wrapper of timm.

    Args:
        config: The parsed file. Older files have the entries of `pretrained_cfg` at the top.

    Returns:
        The source; None if it states nothing.
    """
    inner = config.get("pretrained_cfg")
    values = dict(inner) if isinstance(inner, Mapping) else dict(config)
    source = _read_settings("config.json", values)
    return None if source.is_empty else source


def read_preprocessor_config(path: Path) -> PreprocessSource | None:
    """Read `preprocessor_config.json` of Hugging Face.

    Args:
        path: The folder of the checkpoint, or the checkpoint file in it.

    Returns:
        The source; None if there is no such file or it states nothing.
    """
    try:
        data = read_json(find_settings_folder(path) / _PREPROCESSOR_FILE, _MAX_CONFIG_BYTES)
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict):
        return None
    timm_dicts = [data[key] for key in ("data_config", "pretrained_cfg") if key in data]
    timm_dicts = [values for values in timm_dicts if isinstance(values, dict)]
    if timm_dicts:
        source = _read_settings(_PREPROCESSOR_FILE, timm_dicts[0])
    else:
        processor = read_image_processor(data, _PREPROCESSOR_FILE)
        source = _add_transforms(_read_settings(_PREPROCESSOR_FILE, processor.values), processor)
    return None if source.is_empty and not source.notes else source


def _read_dict(path: str, values: Mapping[str, Any], budget: TextBudget) -> PreprocessSource | None:
    """Read a dict in a checkpoint; None if it states nothing about the preprocessing."""
    if isinstance(values.get("DATA"), Mapping):
        mean, std = find_normalization(lower_keys(values["DATA"]))
        if "MEAN_AND_STD_TYPE" in values["DATA"] or not is_vector(mean) or not is_vector(std):
            return read_paper_config(path, values)
        # Programs other than the paper's code also name a dict DATA, and state the mean and the
        # standard deviation in it as numbers.
        prefix = f"{path}." if path else ""
        return _read_settings(f"{prefix}DATA in the checkpoint", values["DATA"])
    # A dict DATA, and what is inside it, was read together with the dict that contains it.
    if path.removeprefix("config.").partition(".")[0] == "DATA":
        return None
    name, transforms = _name_source(path, values), read_transforms(path, values, budget)
    values = lower_keys(values)
    processor = TransformSettings()
    if is_image_processor(values):
        processor = read_image_processor(values, name)
        values = {**without_processor_keys(values), **processor.values}
    elif is_roboflow(values):
        processor = read_roboflow(values, name)
        values = {**without_roboflow_steps(values), **processor.values}
    if path.endswith("data_preprocessor") and not _RGB_KEYS & values.keys():
        values["to_rgb"] = False  # the default of MMEngine's data preprocessors
    notes: tuple[str, ...] = ()
    is_container = path.rpartition(".")[2].lower() in _SETTING_CONTAINERS
    if not is_container and not processor.values and path not in SETTINGS_FILES:
        values, notes = _select_normalization(path, values)
    source = _read_settings(name, {**transforms.values, **values})
    source = _add_transforms(_add_transforms(source, processor), transforms)
    source = replace(source, notes=(*source.notes, *notes))
    return None if source.is_empty and not source.notes else source


def _add_transforms(source: PreprocessSource, transforms: TransformSettings) -> PreprocessSource:
    """Add the problems and notes of transforms to a source."""
    return replace(
        source,
        problems={**source.problems, **transforms.problems},
        notes=(*source.notes, *transforms.notes),
    )


def _select_normalization(
    path: str, values: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Select what is read from a dict that need not contain settings.

    Args:
        path: Keys that lead to the dict, joined with ".".
        values: The dict with keys in lower case.

    Returns:
        The entries that are read; and a note about entries that are not used because the dict
        states no mean and standard deviation.
    """
    mean, std = find_normalization(values)
    is_stated = is_vector(mean) and is_vector(std)
    normalization = {"mean": mean, "std": std} if is_stated else {}
    input_entries = {**find_channel_entries(values), **find_per_image_entries(values)}
    # At the top level of a file (path ""), entries with other keys are settings, too.
    if not path:
        settings = {k: v for k, v in values.items() if k not in NORMALIZATION_KEYS}
        return {**settings, **normalization}, ()
    if is_stated or not input_entries:
        return {**normalization, **input_entries}, ()
    text = ", ".join(f"{path}.{key} {shorten(value)}" for key, value in input_entries.items())
    note = f"not used: {text[:200]} in the checkpoint, which may state the colors of images"
    return {}, (note,)


def _name_source(path: str, values: Mapping[str, Any]) -> str:
    """Return the name of a dict in a checkpoint for messages."""
    if path == _OWN_LAYER:
        return "the model's own normalization layer"
    if path.startswith(SETTINGS_FILES):
        return path
    if {"mean", "std", "crop_pct", "interpolation"} <= values.keys() and path == "args":
        return "the arguments of timm's train.py in the checkpoint"
    if {"val_crop_size", "val_resize_size"} <= values.keys():
        return "the arguments of torchvision's train.py in the checkpoint"
    return f"{path} in the checkpoint" if path else "the checkpoint"


def _read_settings(name: str, values: Mapping[str, Any]) -> PreprocessSource:
    """Read the settings in a dict whose keys are those of timm or of other training scripts."""
    problems: dict[str, str] = {}
    notes: list[str] = []
    values = lower_keys(values)
    settings: dict[str, Any] = {}
    mean, std = find_normalization(values)
    if mean is None and std is None and values.get("imagenet_default_mean_and_std") is False:
        mean, std = NAMED_NORMALIZATION["inception"]  # an argument of DeiT and ConvNeXt
    input_problem = find_channel_problem(values) or find_per_image_problem(values)
    try:
        if input_problem:
            raise ValueError(input_problem)
        normalization = read_normalization(mean, std)
        settings.update(mean=normalization.mean, std=normalization.std)
        if normalization.is_scaled:
            notes.append(
                f"{name} states mean and std for pixel values from 0 to 255; they were divided by"
                " 255"
            )
    except ValueError as error:
        problems.update(mean=str(error), std=str(error))
    _read_crop(values, settings, problems)
    try:
        settings["interpolation"] = read_interpolation(find_first(values, _INTERPOLATION_KEYS))
    except ValueError as error:
        problems["interpolation"] = str(error)
    return PreprocessSource(name, PreprocessSettings(**settings), problems, tuple(notes))


def _read_crop(
    values: Mapping[str, Any],
    settings: dict[str, Any],
    problems: dict[str, str],
) -> None:
    """Read the crop into `settings`, or the reason why it cannot be used into `problems`."""
    mode = values.get("crop_mode") or None
    if isinstance(mode, str) and mode in ("center", "squash"):
        settings["crop"] = mode
    elif mode is not None:
        problems["crop"] = f"crop_mode {shorten(mode)}, which artifacts do not offer"
    try:
        settings["crop_pct"] = read_crop_pct(find_first(values, _CROP_PCT_KEYS))
    except ValueError as error:
        problems["crop_pct"] = str(error)
    size, resize = _read_sizes(values)
    if settings.get("crop_pct") is None and resize and size and resize >= size:
        settings["crop_pct"] = make_crop_pct(size, resize)


def _read_sizes(values: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Read the side of the crop and the length after resizing, in pixels; None if not stated."""
    resize = read_image_side(values.get("resize"))
    crop = read_image_side(find_first(values, _CROP_KEYS))
    if resize and crop:
        return crop, resize
    size = read_image_side(find_first(values, _INPUT_SIZE_KEYS))
    return size, read_image_side(find_first(values, _RESIZE_KEYS))
