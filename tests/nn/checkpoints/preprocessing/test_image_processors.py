"""The preprocessor_config.json of transformers is translated, or refused with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from tinyvit.nn.checkpoints.preprocessing.preprocess_sources import (
    list_checkpoint_sources,
    read_preprocessor_config,
)
from tinyvit.preprocess_settings import PreprocessSettings, PreprocessSource

HALF = [0.5, 0.5, 0.5]
SQUARE = {"height": 224, "width": 224}
PROCESSOR: dict[str, Any] = {
    "image_mean": HALF,
    "image_std": HALF,
    "size": SQUARE,
    "resample": 3,
    "do_resize": True,
    "do_normalize": True,
}


def read(folder: Path, **changes: Any) -> PreprocessSource:
    """Return the source that a preprocessor_config.json becomes."""
    values = {k: v for k, v in {**PROCESSOR, **changes}.items() if v != "absent"}
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    source = read_preprocessor_config(folder)
    assert source is not None
    return source


@pytest.mark.parametrize(
    ("changes", "mean", "std"),
    [
        ({}, 0.5, 0.5),
        ({"do_rescale": True, "rescale_factor": 1 / 255}, 0.5, 0.5),
        # (2 * pixel - 0.5) / 0.5 for pixels from 0 to 1
        ({"do_rescale": True, "rescale_factor": 1 / 127.5}, 0.25, 0.25),
        # (2 * pixel - 1 - 0) / 1, as in EfficientNet's processor without normalization
        (
            {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
            0.5,
            0.5,
        ),
        ({"rescale_factor": 1 / 127.5, "offset": True}, 0.75, 0.25),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51] * 3}, 0.5, 0.2),
        ({"rescale_factor": 1, "image_mean": [127.5] * 3, "image_std": [51] * 3}, 0.5, 0.2),
        ({"do_normalize": False}, 0.0, 1.0),
    ],
)
def test_rescaling_becomes_a_part_of_mean_and_std(
    tmp_path: Path, changes: dict[str, Any], mean: float, std: float
) -> None:
    source = read(tmp_path, **changes)
    assert source.settings.mean == pytest.approx([mean] * 3)
    assert source.settings.std == pytest.approx([std] * 3)
    assert source.problems == {}


@pytest.mark.parametrize(
    ("changes", "setting", "problem"),
    [
        ({"do_rescale": False}, "mean", "no rescaling of pixel values, with mean [0.5, 0.5, 0.5]"),
        ({"do_rescale": False, "do_normalize": False}, "std", "no rescaling of pixel values"),
        ({"rescale_factor": "x"}, "mean", "rescale_factor 'x', which is not a number above 0"),
        ({"do_flip_channel_order": True}, "mean", "True: images in BGR order, and artifacts give"),
        (
            {"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": SQUARE},
            "crop",
            "size {'height': 256, 'width': 256}, then a center crop of 224, which artifacts do not",
        ),
    ],
)
def test_what_artifacts_do_not_offer_is_a_problem(
    tmp_path: Path, changes: dict[str, Any], setting: str, problem: str
) -> None:
    assert problem in read(tmp_path, **changes).problems[setting]


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        (
            {"do_pad": True, "do_grayscale": True},
            "not applied: do_pad, do_grayscale in preprocessor_config.json",
        ),
        ({"do_resize": False}, "states that images are not resized, but artifacts resize them"),
        (
            {"size": {"shortest_edge": 256}},
            "not used: size {'shortest_edge': 256} in preprocessor_config.json, which does not tell"
            " how images become squares",
        ),
        (
            {
                "do_rescale": True,
                "image_mean": "absent",
                "image_std": "absent",
                "do_normalize": "absent",
            },
            "preprocessor_config.json states no normalization, so none is applied",
        ),
    ],
)
def test_what_is_assumed_or_left_out_is_noted(
    tmp_path: Path, changes: dict[str, Any], note: str
) -> None:
    assert note in "; ".join(read(tmp_path, **changes).notes)


def test_a_processor_inside_of_a_checkpoint_is_read() -> None:
    half = (0.5, 0.5, 0.5)
    (source,) = list_checkpoint_sources({"processor": PROCESSOR})
    assert (source.settings.mean, source.settings.std) == (half, half)
    (source,) = list_checkpoint_sources({"preprocessor_config": PROCESSOR})
    assert source.settings == PreprocessSettings(half, half, "bicubic", "squash", 1.0)
    (source,) = list_checkpoint_sources({"preprocessor_config": {**PROCESSOR, "do_rescale": False}})
    assert "no rescaling of pixel values" in source.problems["mean"]
