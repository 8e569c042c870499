"""Reads the preprocessing from a config of the paper's code or of Swin, whose form is the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyvit.nn.checkpoints.preprocessing.setting_values import NAMED_NORMALIZATION, shorten
from tinyvit.preprocess_settings import PreprocessSettings, PreprocessSource

_PAPER_NORMALIZATION = {
    "default": NAMED_NORMALIZATION["imagenet"],
    "inception": NAMED_NORMALIZATION["inception"],
    "clip": NAMED_NORMALIZATION["clip"],
}
"""Mean and standard deviation for each value of DATA.MEAN_AND_STD_TYPE (microsoft/Cream,
TinyViT/data/build.py)."""


def read_paper_config(path: str, config: Mapping[str, Any]) -> PreprocessSource:
    """Read the preprocessing in a config (microsoft/Cream, TinyViT/data/build.py).

    Args:
        path: Keys that lead to the config in the checkpoint, joined with ".".
        config: The config, with a dict under DATA.

    Returns:
        The settings that the config states.
    """
    data, test = config["DATA"], config.get("TEST")
    settings: dict[str, Any] = {}
    problems: dict[str, str] = {}
    normalization_name = data.get("MEAN_AND_STD_TYPE", "default")
    if isinstance(normalization_name, str) and normalization_name in _PAPER_NORMALIZATION:
        settings["mean"], settings["std"] = _PAPER_NORMALIZATION[normalization_name]
    else:
        problem = f"DATA.MEAN_AND_STD_TYPE {shorten(normalization_name)}, which is not known"
        problems.update(mean=problem, std=problem)
    interpolation = data.get("INTERPOLATION")
    if interpolation == "hamming":
        problems["interpolation"] = "DATA.INTERPOLATION 'hamming', which artifacts do not offer"
    elif interpolation is not None:
        # The paper's code resizes with a bilinear filter for every other value.
        is_named = interpolation in ("bicubic", "lanczos")
        settings["interpolation"] = interpolation if is_named else "bilinear"
    is_cropped = test.get("CROP") if isinstance(test, Mapping) else None
    if isinstance(is_cropped, bool):
        settings["crop"] = "center" if is_cropped else "squash"
        # For a crop, the paper's code resizes the shorter side to 256/224 of the image size.
        settings["crop_pct"] = 224 / 256 if is_cropped else 1.0
    name = f"the training's configuration ({path or 'DATA'}) in the checkpoint"
    return PreprocessSource(name, PreprocessSettings(**settings), problems)
