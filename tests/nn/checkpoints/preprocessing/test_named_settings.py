"""Names of normalizations, modes of Keras and Roboflow's dict are read, refused or noted."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")

from tests.helpers.state_dicts import Save, make_state
from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.preprocessing.normalization_notes import explain_unknown_normalization
from tinyvit.nn.checkpoints.preprocessing.preprocess_sources import list_checkpoint_sources
from tinyvit.nn.checkpoints.preprocessing.training_preprocess import find_preprocess
from tinyvit.nn.checkpoints.weight_files import read_weights
from tinyvit.preprocess import timm_preprocess
from tinyvit.preprocess_settings import PreprocessSettings, PreprocessSource

FROM_0_TO_1 = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
FROM_MINUS_1_TO_1 = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

RESIZE = {"enabled": True, "width": 224, "height": 224, "format": "Stretch to"}


def read_first(metadata: dict[str, Any]) -> PreprocessSource:
    """Return the most important source."""
    return list_checkpoint_sources(metadata)[0]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"args": {"normalize": "divide_by_255"}}, FROM_0_TO_1),
        ({"normalize": "divide_by_255"}, FROM_0_TO_1),
        ({"config": {"data": {"normalization": "0-1"}}}, FROM_0_TO_1),
        ({"args": {"image_normalization": "/255"}}, FROM_0_TO_1),
        ({"args": {"normalize": "[-1, 1]"}}, FROM_MINUS_1_TO_1),
        ({"args": {"input_range": "-1..1"}}, FROM_MINUS_1_TO_1),
        ({"preprocess": {"mode": "tf"}}, FROM_MINUS_1_TO_1),
        ({"args": {"mode": "tf"}}, FROM_MINUS_1_TO_1),
        ({"args": {"PREPROCESS_MODE": "TF"}}, FROM_MINUS_1_TO_1),
        ({"args": {"preprocess_input": "tf"}}, FROM_MINUS_1_TO_1),
        ({"args": {"preprocess_mode": "torch"}}, IMAGENET),
        ({"args": {"normalization_type": "imagenet"}}, IMAGENET),
    ],
)
def test_names_of_normalizations_are_read(
    metadata: dict[str, Any], expected: tuple[tuple[float, ...], ...]
) -> None:
    settings = read_first(metadata).settings
    assert (settings.mean, settings.std) == expected


def test_numbers_are_more_important_than_a_name() -> None:
    numbers = {"mean": [0.1] * 3, "std": [0.2] * 3}
    settings = read_first({"args": {"normalize": "divide_by_255", **numbers}}).settings
    assert settings.mean == (0.1, 0.1, 0.1)
    (note,) = explain_unknown_normalization(
        {"args": {"normalize": "divide_by_255", **numbers}}, timm_preprocess(224)
    )
    assert note.startswith("not used: args.normalize 'divide_by_255' in the checkpoint, which may")


@pytest.mark.parametrize("key", ["mode", "preprocess_mode", "preprocess_input"])
def test_the_mode_caffe_of_keras_is_refused(key: str) -> None:
    problem = read_first({"args": {key: "caffe"}}).problems["mean"]
    assert problem.startswith(f"{key} caffe: images in BGR order, and artifacts give the network")


@pytest.mark.parametrize(
    ("entries", "is_noted"),
    [
        ({"normalize": "quantile"}, True),
        ({"normalization_mode": "histogram"}, True),
        ({"image_normalization": "custom"}, True),
        ({"normalization": "BatchNorm2d"}, False),
        ({"normalization": "layer_norm"}, False),
        ({"norm_type": "bn"}, False),
        ({"mode": "train"}, False),
        ({"rescale": "0-1"}, True),
    ],
)
def test_other_names_are_noted(entries: dict[str, Any], is_noted: bool) -> None:
    assert all(source.settings.mean is None for source in list_checkpoint_sources({"a": entries}))
    notes = explain_unknown_normalization({"args": entries}, timm_preprocess(224))
    assert bool(notes) is is_noted
    assert all(f"not used: args.{next(iter(entries))} '" in note for note in notes)


def test_a_name_that_is_used_is_not_noted() -> None:
    preprocess = timm_preprocess(224)
    assert explain_unknown_normalization({"args": {"normalize": "imagenet"}}, preprocess) == ()


@pytest.mark.parametrize(
    ("resize_format", "crop"),
    [("Stretch to", "squash"), ("Fill (with center crop) in", "center")],
)
@pytest.mark.parametrize("place", ["preprocessing", "dataset"])
def test_the_resize_of_roboflow_is_read(place: str, resize_format: str, crop: str) -> None:
    steps = {"auto-orient": {"enabled": True}, "resize": {**RESIZE, "format": resize_format}}
    source = read_first({place: steps})
    assert source.settings == PreprocessSettings(None, None, None, crop, 1.0)
    assert (source.problems, source.notes) == ({}, ())


@pytest.mark.parametrize(
    ("step", "arguments", "setting", "problem"),
    [
        (
            "resize",
            {**RESIZE, "format": "Fit (black edges) in"},
            "crop",
            "resize 'Fit (black edges",
        ),
        ("resize", {**RESIZE, "height": 200}, "crop_pct", "which is not the size of a square"),
        ("resize", {"enabled": True}, "crop", "resize None of Roboflow, which artifacts do not"),
        ("grayscale", {"enabled": True}, "mean", "grayscale of Roboflow"),
        ("contrast", {"enabled": True, "type": "Histogram Equalization"}, "std", "contrast of"),
        ("static-crop", {"enabled": True, "x_min": 10, "x_max": 90}, "crop", "static-crop of"),
        ("tile", {"enabled": True, "rows": 2, "columns": 2}, "crop", "tile of Roboflow, which"),
    ],
)
def test_other_steps_of_roboflow_are_refused_by_name(
    step: str, arguments: dict[str, Any], setting: str, problem: str
) -> None:
    source = read_first({"preprocessing": {"auto-orient": {"enabled": True}, step: arguments}})
    assert problem in source.problems[setting]


def test_steps_of_roboflow_that_are_off_or_unknown() -> None:
    steps = {"resize": RESIZE, "grayscale": {"enabled": False}, "sharpen": {"enabled": True}}
    source = read_first({"preprocessing": steps})
    assert source.problems == {}
    assert source.notes == ("not applied: sharpen in preprocessing in the checkpoint",)


def test_a_checkpoint_states_its_normalization_or_is_refused(save: Save) -> None:
    state = make_state()
    path = save({"model": state, "args": {"normalize": "divide_by_255"}})
    preprocess = find_preprocess(read_weights(path), "timm", 224, path).preprocess
    assert (preprocess.mean, preprocess.std) == FROM_0_TO_1
    path = save({"model": state, "preprocessing": {"grayscale": {"enabled": True}}})
    with pytest.raises(CheckpointError, match="grayscale of Roboflow"):
        find_preprocess(read_weights(path), "timm", 224, path)
    options = PreprocessSource("the options", PreprocessSettings((0.5,) * 3, (0.5,) * 3))
    used = find_preprocess(read_weights(path), "timm", 224, path, options).preprocess
    assert used.mean == (0.5, 0.5, 0.5)
