"""Transforms and settings in texts state the preprocessing, or are refused or noted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
import torch

from tests.helpers.state_dicts import Save, make_state
from tinyvit.nn.checkpoints.metadata.metadata_search import walk_dicts
from tinyvit.nn.checkpoints.metadata.settings_files import (
    expand_settings_texts,
    read_settings_files,
)
from tinyvit.nn.checkpoints.metadata.settings_text import TextBudget, parse_settings_text
from tinyvit.nn.checkpoints.preprocessing.normalization_notes import (
    explain_unknown_normalization,
    find_missing_normalization,
)
from tinyvit.nn.checkpoints.preprocessing.preprocess_sources import list_checkpoint_sources
from tinyvit.nn.checkpoints.preprocessing.transform_lists import read_transforms
from tinyvit.nn.checkpoints.weight_files import read_weights
from tinyvit.preprocess import timm_preprocess
from tinyvit.preprocess_settings import PreprocessSettings, PreprocessSource

HALF = (0.5, 0.5, 0.5)
NORMALIZE = {"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3}
CENTER = PreprocessSettings(HALF, HALF, "bilinear", "center", 0.875)
SQUASH = PreprocessSettings(HALF, HALF, "bilinear", "squash", 1.0)

PRINTED = """Compose(
    Resize(size=256, interpolation=bilinear, max_size=None, antialias=True)
    CenterCrop(size=(224, 224))
    ToTensor()
    Normalize(mean=tensor([0.5000, 0.5000, 0.5000]), std=[0.5, 0.5, 0.5])
)"""

MMENGINE = """
data_preprocessor = dict(
    mean=[127.5, 0.5 * 255, 127.5], num_classes=3, std=[127.5] * 3, to_rgb=True)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(edge='short', interpolation='bilinear', scale=256, type='ResizeEdge'),
    dict(crop_size=224, type='CenterCrop'),
    dict(type='PackInputs'),
]
train_pipeline = [dict(scale=224, type='Resize')]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, type='ImageNet'))
run = __import__('os').system('exit 1')
"""

ALBUMENTATIONS = {
    "__version__": "1.4.0",
    "transform": {
        "__class_fullname__": "Compose",
        "p": 1.0,
        "transforms": [
            {"__class_fullname__": "Resize", "height": 224, "width": 224, "interpolation": 1},
            {**NORMALIZE, "__class_fullname__": "Normalize", "max_pixel_value": 255.0},
            {"__class_fullname__": "ToTensorV2"},
        ],
    },
}


def read_first(metadata: dict[str, Any]) -> PreprocessSource:
    """Return the source that comes first."""
    return list_checkpoint_sources(expand_settings_texts(metadata))[0]


@pytest.mark.parametrize(
    ("metadata", "expected", "name"),
    [
        ({"val_transform": PRINTED}, CENTER, "val_transform in the checkpoint"),
        ({"args": {"transform": PRINTED}}, CENTER, "args.transform in the checkpoint"),
        (
            {"val": [{"type": "Normalize", "mean": [[0.5]] * 3, "std": "0.5 0.5 0.5"}]},
            PreprocessSettings(HALF, HALF),
            "the checkpoint",
        ),
        ({"aug": ALBUMENTATIONS}, SQUASH, "aug.transform in the checkpoint"),
        (
            {"config": {"test": ["Resize((224, 224))", "Normalize([0.5] * 3, [0.5] * 3)"]}},
            SQUASH,
            "config in the checkpoint",
        ),
        (
            {
                "cfg": {
                    "val": [{"type": "Resize", "size": (256, -1)}, {"CenterCrop": 224}, NORMALIZE]
                }
            },
            CENTER,
            "cfg in the checkpoint",
        ),
        (
            {"cfg": {"val": [{"type": "Resize", "scale": 224}, NORMALIZE]}},
            SQUASH,
            "cfg in the checkpoint",
        ),
        (
            {
                "hyper_parameters": {
                    "class_path": "torchvision.transforms.Compose",
                    "transforms": [
                        {"class_path": "x.Resize", "init_args": {"size": 256, "interpolation": 2}},
                        {"class_path": "x.CenterCrop", "init_args": {"size": [224, 224]}},
                        {"class_path": "x.Normalize", "init_args": NORMALIZE},
                    ],
                }
            },
            CENTER,
            "hyper_parameters in the checkpoint",
        ),
    ],
)
def test_transforms_are_used(
    metadata: dict[str, Any], expected: PreprocessSettings, name: str
) -> None:
    source = read_first(metadata)
    assert (source.settings, source.name, source.problems) == (expected, name, {})


def test_the_configuration_of_mmengine_is_read_without_running_it() -> None:
    sources = list_checkpoint_sources(expand_settings_texts({"meta": {"cfg": MMENGINE}}))
    normalization = next(s for s in sources if s.name.startswith("meta.cfg.data_preprocessor"))
    assert (normalization.settings.mean, normalization.settings.std) == (HALF, HALF)
    crop = next(s for s in sources if s.name == "meta.cfg in the checkpoint").settings
    assert (crop.crop, crop.crop_pct, crop.interpolation) == ("center", 0.875, "bilinear")


@pytest.mark.parametrize("change", [("to_rgb=True", "to_rgb=False"), (", to_rgb=True", "")])
def test_a_network_of_bgr_images_is_refused(change: tuple[str, str]) -> None:
    metadata = expand_settings_texts({"meta": {"cfg": MMENGINE.replace(*change)}})
    problems = [source.problems for source in list_checkpoint_sources(metadata)]
    assert any("images in BGR order" in text for entry in problems for text in entry.values())


NUMBERS = {"mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.mark.parametrize(
    "metadata",
    [
        {"args": {**NUMBERS, "bgr": True}},
        {"args": {"use_bgr": True}},
        {"args": {**NUMBERS, "color_mode": "BGR"}},
        {"args": {**NUMBERS, "swap_rb": "True"}},
        {"args": {**NUMBERS, "channel_swap": [2, 1, 0]}},
        {"config": {"INPUT": {"FORMAT": "BGR", "PIXEL_MEAN": [0.5] * 3, "PIXEL_STD": [0.5] * 3}}},
        {"hyper_parameters": {**NUMBERS, "channel_order": "bgr"}},
        {"settings": {**NUMBERS, "input_space": "BGR", "input_range": [0, 1]}},
        {"color_space": "BGR"},
        {"config": {"INPUT": {"FORMAT": "BGR"}}},
        {"val_transform": ["Resize((224, 224))", "RGB2BGR()", "Normalize([0.5] * 3, [0.5] * 3)"]},
        {"val_transform": ["FlipChannelOrder()", "Resize((224, 224))"]},
    ],
)
def test_bgr_is_refused_under_all_usual_keys(metadata: dict[str, Any]) -> None:
    problem = read_first(metadata).problems["mean"]
    assert "images in BGR order, and artifacts give the network RGB images" in problem


def test_other_color_spaces_are_refused() -> None:
    for metadata in ({"args": {"color_space": "HSV"}}, {"transforms": ["ToYCbCr()", NORMALIZE]}):
        assert "images that are not in RGB" in read_first(metadata).problems["std"]


@pytest.mark.parametrize(
    "entries",
    [
        {"color_mode": "RGB"},
        {"bgr": False},
        {"bgr": 0.0},  # the share of images that ultralytics turns to BGR in training
        {"to_rgb": True},
        {"channel_order": [0, 1, 2]},
        {"lab": "lab"},
        {"normalize": True, "norm": "batch"},
        {"normalization": "standardize"},
    ],
)
def test_settings_of_rgb_images_are_used(entries: dict[str, Any]) -> None:
    source = read_first({"args": {**NUMBERS, **entries}})
    assert (source.settings.mean, source.settings.std, source.problems) == (HALF, HALF, {})


def test_bgr_in_a_dict_of_something_else_is_noted() -> None:
    (note,) = read_first({"reader": {"backend": "cv2", "channel_order": "BGR"}}).notes
    assert note == (
        "not used: reader.channel_order 'BGR' in the checkpoint, which may state the colors of"
        " images"
    )


@pytest.mark.parametrize(
    "metadata",
    [
        {"config": {"val": [{**NORMALIZE, "normalization": "image"}]}},
        {"config": {"val": [{**NORMALIZE, "normalization": "image_per_channel"}]}},
        {"config": {"val": [{"type": "Normalize", "normalization": "min_max"}]}},
        {"val_transforms": ["Resize((224, 224))", "PerImageStandardization()"]},
        {"val_transforms": [{"_target_": "monai.transforms.ScaleIntensityd"}]},
        {"hyper_parameters": {"normalization": "per-image"}},
        {"args": {**NUMBERS, "samplewise_center": True}},
        {"args": {"normalize": "z-score"}},
    ],
)
def test_normalization_of_each_image_is_refused(metadata: dict[str, Any]) -> None:
    problem = read_first(metadata).problems["mean"]
    assert "which normalizes each image with its own statistics, and artifacts" in problem


@pytest.mark.parametrize(
    ("entries", "is_noted"),
    [
        ({"input_range": [-1, 1]}, True),
        ({"rescale": 1 / 127.5}, True),
        ({"preprocess_mode": "caffe"}, True),
        ({"input_range": [0, 1], "rescale": 1 / 255}, False),
    ],
)
def test_another_range_of_pixel_values_is_noted(entries: dict[str, Any], is_noted: bool) -> None:
    notes = explain_unknown_normalization({"args": entries}, timm_preprocess(224))
    assert bool(notes) is is_noted
    assert all(f"not used: args.{next(iter(entries))}" in note for note in notes)


def test_several_normalizations_are_refused() -> None:
    second = {"type": "Normalize", "mean": [0.4] * 3, "std": [0.2] * 3}
    problem = read_first({"config": {"val": [NORMALIZE, second]}}).problems["mean"]
    assert problem == "several normalizations one after another, which artifacts do not offer"
    assert read_first({"config": {"val": [NORMALIZE, NORMALIZE]}}).problems == {
        "mean": problem,
        "std": problem,
    }


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("squish", PreprocessSettings(None, None, "bilinear", "squash", 1.0)),
        ("crop", PreprocessSettings(None, None, "bilinear", "center", 1.0)),
    ],
)
def test_a_learner_of_fastai(
    save: Save, foreign_class: Callable[..., type], method: str, expected: PreprocessSettings
) -> None:
    classes: dict[str, type] = {}

    def make(name: str, **attributes: Any) -> Any:
        module, _, class_name = name.rpartition(".")
        if name not in classes:
            classes[name] = foreign_class(f"fastai.{module}", class_name)
        created: Any = classes[name]()
        created.__dict__.update(attributes)
        return created

    resize = make("vision.augment.Resize", size=(224, 224), method=method, resamples=(2, 0))
    warp = make("vision.augment.AffineCoordTfm", split_idx=0)
    normalize = make("data.transforms.Normalize", mean=torch.full((1, 3, 1, 1), 0.5))
    normalize.std = normalize.mean
    loader = make("data.core.TfmdDL")
    loader.after_item = make("pipeline.Pipeline", fs=[resize])
    loader.after_batch = make("pipeline.Pipeline", fs=[warp, normalize])
    names = make("data.transforms.CategoryMap", items=["cat", "dog"], add_na=False)
    targets = {"tfms": make("pipeline.Pipeline", fs=[{"vocab": names}])}
    loader.dataset = {"tls": [{}, targets]}
    learner = make("learner.Learner", dls={"loaders": [loader]}, model={"state": make_state()})
    weights = read_weights(save(learner))
    geometry, normalization, *_ = list_checkpoint_sources(weights.metadata)
    assert (geometry.settings, geometry.notes) == (expected, ())
    assert (normalization.settings.mean, normalization.settings.std) == (HALF, HALF)
    assert normalization.notes == ()
    vocab = [values["vocab"] for _, values in walk_dicts(weights.metadata) if "vocab" in values]
    assert vocab == [["cat", "dog"]]


@pytest.mark.parametrize(
    ("transforms", "settings", "note"),
    [
        (
            ["Resize(256)", "CenterCrop(224)", "ToTensor()"],
            PreprocessSettings((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
            "so the network is assumed to receive pixel values from 0 to 1",
        ),
        (
            ["Resize(256)", "CenterCrop(224)"],
            PreprocessSettings(),
            "state no normalization; the default mean and std are assumed",
        ),
    ],
)
def test_transforms_without_normalization(
    transforms: list[str], settings: PreprocessSettings, note: str
) -> None:
    source = find_missing_normalization({"val_transforms": transforms})
    assert source is not None
    assert (source.settings, len(source.notes)) == (settings, 1)
    assert note in source.notes[0]
    assert find_missing_normalization({"val_transforms": [*transforms, NORMALIZE]}) is None


@pytest.mark.parametrize(
    ("transforms", "problem"),
    [
        (
            [{"name": "Resize", "size": [256, 256]}, {"name": "CenterCrop", "size": 224}],
            "Resize [256, 256], then CenterCrop 224, which artifacts do not offer",
        ),
        (
            [{"name": "Resize", "size": 224}, {"name": "CenterCrop", "size": 256}],
            "Resize 224, then CenterCrop 256, which artifacts do not offer",
        ),
        (
            [{"name": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3, "max_pixel_value": 1.0}],
            "mean and std with max_pixel_value 1.0, which is not 255",
        ),
    ],
)
def test_what_artifacts_do_not_offer_is_a_problem(transforms: list[Any], problem: str) -> None:
    assert problem in read_first({"config": {"val": transforms}}).problems.values()


@pytest.mark.parametrize(
    ("transforms", "note"),
    [
        ([{"type": "Grayscale"}, {"type": "Resize", "size": [8, 8]}], "not applied: Grayscale"),
        ([{"type": "Resize", "size": 8}, NORMALIZE], "not used: Resize 8 in config.val"),
        ([{"type": "Resize", "size": 8}, {"type": "ToTensor"}], "not used: Resize 8 in config.val"),
        ([{"type": "LongestMaxSize"}, {"type": "PadIfNeeded"}, NORMALIZE], "LongestMaxSize, PadIf"),
        ([{"type": "Resize", "size": [8, 8]}], "states no interpolation; it is assumed to be bil"),
    ],
)
def test_what_is_assumed_or_left_out_is_noted(transforms: list[Any], note: str) -> None:
    assert note in "; ".join(read_first({"config": {"val": transforms}}).notes)


def test_transforms_of_the_training_are_not_used() -> None:
    resize = [{"type": "Resize", "size": [8, 8]}]
    budget = TextBudget()
    assert read_transforms("", {"train_transforms": resize}, budget).values == {}
    assert read_transforms("data.train", {"transforms": resize}, budget).values == {}
    assert (
        read_transforms("", {"transforms": [{"type": "RandomCrop"}, *resize]}, budget).values == {}
    )
    assert read_transforms("trainer", {"transforms": resize}, budget).img_size == 8


def test_pickled_transforms_keep_their_names(
    save: Save, foreign_class: Callable[..., type]
) -> None:
    def make(name: str, **attributes: Any) -> Any:
        transform = foreign_class("torchvision.transforms.transforms", name)()
        # torchvision's transforms are modules of torch.
        modules: dict[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}}
        transform.__dict__.update(modules, training=True, **attributes)
        return transform

    resize = make("Resize", size=256, interpolation="bilinear")
    normalize = make("Normalize", mean=[0.5] * 3, std=[0.5] * 3)
    compose = make("Compose", transforms=[resize, make("CenterCrop", size=(224, 224)), normalize])
    metadata = read_weights(save({"state_dict": make_state(), "val_transform": compose})).metadata
    assert metadata["val_transform"]["_target_"] == "torchvision.transforms.transforms.Compose"
    assert read_first(metadata).settings == CENTER


def test_the_arguments_in_files_beside_a_checkpoint(tmp_path: Path) -> None:
    text = "aa: rand-m9\ncrop_pct: 0.9\nimg_size: null\nmean:\n- 0.5\n- 0.25\n- 1.0e-01\n"
    text += "model_kwargs: {}\n"
    (tmp_path / "args.yaml").write_text(text)
    (tmp_path / "hparams.yaml").write_text(
        "data:\n  # of the images\n  std: [0.5, 0.25, 1]\n  name: 'x: y'\n"
    )
    assert read_settings_files(tmp_path / "best.pth") == {
        "args.yaml": {
            "aa": "rand-m9",
            "crop_pct": 0.9,
            "img_size": None,
            "mean": [0.5, 0.25, 0.1],
            "model_kwargs": {},
        },
        "hparams.yaml": {"data": {"std": [0.5, 0.25, 1], "name": "x: y"}},
    }


def test_yaml_with_types_is_read_and_yaml_with_aliases_is_not(tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text(
        "mean: !!python/tuple [0.5, 1, .25]\nstd: 0.5, 0.25, 1\nflip: True\nname: >-\n  a\n  b\n"
        "run: !!python/object/apply:os.system ['exit 1']\nsize: '[224, 224]'\nlr: 1e-3\n"
    )
    (tmp_path / "hparams.yaml").write_text("mean: &mean [0.5, 0.5, 0.5]\nstd: *mean\n")
    assert read_settings_files(tmp_path / "best.pth") == {
        "args.yaml": {
            "mean": [0.5, 1, 0.25],
            "std": (0.5, 0.25, 1),
            "flip": True,
            "name": "a b",
            "run": ["exit 1"],
            "size": [224, 224],
            "lr": 0.001,
        },
        "hparams.yaml": None,
    }


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "-" * 50_000 + "1",
        "a" + ".a" * 50_000,
        "x = 1" + " + 1" * 20_000,
        "x = " + "9" * 10_000,
        "mean: " + "[" * 2000,
        "a:\n" + "".join(" " * i + "b:\n" for i in range(1, 400)),
        "\0",
        "x" * 300_000,
    ],
    ids=range(9),
)
def test_hostile_texts_are_read_in_little_time(text: str) -> None:
    parse_settings_text(text)


@pytest.mark.parametrize("path", ["DATASET", "DATALOADER"])
def test_a_section_whose_name_begins_like_that_of_the_paper_is_read(path: str) -> None:
    section = {"MEAN": [0.1, 0.2, 0.3], "STD": [0.4, 0.5, 0.6]}
    for metadata, name in (
        ({path: section}, path),
        ({"config": {path: section}}, f"config.{path}"),
    ):
        (source,) = list_checkpoint_sources(metadata)
        assert source.name == f"{name} in the checkpoint"
        assert (source.settings.mean, source.settings.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
