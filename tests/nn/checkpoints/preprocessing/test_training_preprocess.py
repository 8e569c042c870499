"""The preprocessing is that of the training, from whatever the training left behind."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
import safetensors.torch
import torch

from tinyvit.errors import CheckpointError, RequestError
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.nn.checkpoints.preprocessing.setting_values import make_crop_pct
from tinyvit.nn.model import TinyViT
from tinyvit.preprocess import Preprocess
from tinyvit.preprocess_settings import make_source_from_options
from tinyvit.variants import VARIANTS

State = dict[str, torch.Tensor]
Save = Callable[..., Path]

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

TIMM_ARGS: dict[str, Any] = {
    "model": "tiny_vit_5m_224",
    "img_size": None,
    "input_size": None,
    "crop_pct": None,
    "mean": None,
    "std": None,
    "interpolation": "",
    "train_interpolation": "random",
    "num_classes": 3,
}
"""Arguments of timm's train.py that concern the images, with their defaults."""
TIMM_SOURCE = "the arguments of timm's train.py in the checkpoint"
TIMM_DEFAULT = "the default of timm's tiny_vit_5m_224"


@pytest.fixture(scope="module")
def state() -> State:
    """The state dict of a 5M network with three classes and random weights, in timm's layout."""
    torch.manual_seed(0)
    return TinyViT(VARIANTS["tiny_vit_5m_224"], 3).state_dict()


@pytest.fixture
def save(state: State, tmp_path: Path) -> Save:
    """A function that saves the weights with other entries, and returns the path."""

    def save_file(**entries: Any) -> Path:
        torch.save({"state_dict": state, **entries}, tmp_path / "model_best.pth.tar")
        return tmp_path / "model_best.pth.tar"

    return save_file


@pytest.fixture
def folder(state: State, tmp_path: Path) -> Path:
    """A folder with model.safetensors, as on the hub."""
    path = tmp_path / "hub"
    path.mkdir()
    safetensors.torch.save_file(state, path / "model.safetensors")
    return path


def timm_args(**changes: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**TIMM_ARGS, **changes})


def test_timm_arguments_are_used(save: Save) -> None:
    args = timm_args(mean=[0.5] * 3, std=[0.5] * 3, crop_pct=0.9, interpolation="bilinear")
    checkpoint = load_checkpoint(save(args=args))
    assert checkpoint.preprocess == Preprocess(224, 248, "center", "bilinear", HALF, HALF)
    assert checkpoint.preprocess_source == TIMM_SOURCE
    assert checkpoint.notes == ()
    assert checkpoint.name == "model_best"


def test_timm_arguments_that_are_none_are_the_defaults_of_the_model(save: Save) -> None:
    checkpoint = load_checkpoint(save(args=timm_args()))
    assert checkpoint.preprocess == Preprocess(
        224, 235, "center", "bicubic", IMAGENET_MEAN, IMAGENET_STD
    )
    assert checkpoint.preprocess_source == TIMM_DEFAULT


@pytest.mark.parametrize("size", ["²", "٢٢٤", "9" * 5000, 10**400, float("inf"), "\ud800"])
def test_a_text_that_is_no_number_is_no_size(save: Save, size: Any) -> None:
    checkpoint = load_checkpoint(save(resize=size, img_size=size))
    assert checkpoint.preprocess.size == 224


def test_one_number_holds_for_all_channels(save: Save) -> None:
    preprocess = load_checkpoint(save(args=timm_args(mean=[0.5], std=[0.25]))).preprocess
    assert (preprocess.mean, preprocess.std) == (HALF, (0.25, 0.25, 0.25))


def test_each_setting_names_its_source(save: Save) -> None:
    checkpoint = load_checkpoint(save(args=timm_args(mean=[0.5] * 3)))
    assert checkpoint.preprocess_source == (
        f"{TIMM_SOURCE} (mean), {TIMM_DEFAULT} (std, interpolation, crop)"
    )


def test_the_crop_of_the_training_holds_at_another_size(save: Save) -> None:
    checkpoint = load_checkpoint(save(args=timm_args(crop_pct=0.9))).at_size(288)
    assert (checkpoint.preprocess.resize, checkpoint.preprocess.size) == (320, 288)
    # timm keeps the model's crop_pct of 0.95 at every size.
    checkpoint = load_checkpoint(save(args=timm_args())).at_size(384)
    assert (checkpoint.preprocess.resize, checkpoint.preprocess.size) == (404, 384)


def test_the_image_size_of_the_training_is_that_of_the_preprocessing(save: Save) -> None:
    checkpoint = load_checkpoint(save(args=timm_args(img_size=288)))
    assert (checkpoint.img_size, checkpoint.preprocess.size) == (288, 288)
    assert checkpoint.preprocess.resize == 303


def test_squash_is_used(save: Save) -> None:
    args = timm_args(crop_mode="squash", crop_pct=1.0)
    preprocess = load_checkpoint(save(args=args)).preprocess
    assert (preprocess.crop, preprocess.resize) == ("squash", 224)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_mode": "border"}, r"crop_mode 'border', which artifacts do not offer: give --crop"),
        ({"crop_mode": "squash", "crop_pct": 0.9}, "a crop that artifacts do not offer"),
        (
            {"interpolation": "nearest"},
            r"'nearest', which artifacts do not offer .*--interpolation",
        ),
        ({"crop_pct": 1.2}, r"crop_pct 1\.2, .*: give --crop-pct"),
        ({"mean": [0.5, 0.5]}, r"mean \[0\.5, 0\.5\], which is not three numbers: give --mean"),
        ({"mean": [123.7, 116.3, 103.5], "std": [0.2, 0.2, 0.2]}, "which mixes pixel values"),
        ({"std": [0.5, 0.5, 0.0]}, "not possible for pixel values"),
    ],
)
def test_what_artifacts_do_not_offer_is_refused_until_an_option_replaces_it(
    save: Save, changes: dict[str, Any], message: str
) -> None:
    path = save(args=timm_args(**changes))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)
    options = make_source_from_options([0.5], [0.5], 0.875, "bilinear")
    preprocess = load_checkpoint(path, options=options).preprocess
    assert preprocess == Preprocess(224, 256, "center", "bilinear", HALF, HALF)


def test_numbers_for_pixels_up_to_255_are_divided(save: Save) -> None:
    args = timm_args(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    checkpoint = load_checkpoint(save(args=args))
    assert checkpoint.preprocess.mean == pytest.approx(IMAGENET_MEAN)
    assert checkpoint.preprocess.std == pytest.approx(IMAGENET_STD)
    assert checkpoint.notes == (
        f"{TIMM_SOURCE} states mean and std for pixel values from 0 to 255; they were divided by"
        " 255",
    )


@pytest.mark.parametrize(
    ("entries", "expected", "source"),
    [
        (
            {"hyper_parameters": {"lr": 0.1, "mean": [0.5] * 3, "std": [0.25] * 3}},
            Preprocess(224, 235, mean=HALF, std=(0.25, 0.25, 0.25)),
            "hyper_parameters in the checkpoint (mean, std), the default of timm's TinyViT"
            " (interpolation, crop)",
        ),
        (
            {
                "args": argparse.Namespace(
                    val_resize_size=232, val_crop_size=224, interpolation="bilinear", lr=0.5
                )
            },
            Preprocess(224, 232, interpolation="bilinear"),
            "the default of timm's TinyViT (mean, std), the arguments of torchvision's train.py in"
            " the checkpoint (interpolation, crop)",
        ),
        (
            {"args": {"input_size": 224, "eval_crop_ratio": 0.875}},
            Preprocess(224, 256),
            "the default of timm's TinyViT (mean, std, interpolation), args in the checkpoint"
            " (crop)",
        ),
        (
            {"cfg": {"data": {"normalize": {"mean": "0.5,0.5,0.5", "std": "0.5,0.5,0.5"}}}},
            Preprocess(224, 235, mean=HALF, std=HALF),
            "cfg.data.normalize in the checkpoint (mean, std), the default of timm's TinyViT"
            " (interpolation, crop)",
        ),
        (
            {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "InterpolationMode.BILINEAR"},
            Preprocess(224, 235, interpolation="bilinear", mean=HALF, std=HALF),
            "the checkpoint (mean, std, interpolation), the default of timm's TinyViT (crop)",
        ),
        (
            {"dataset_stats": {"mean": [0.5] * 3, "std": [0.5] * 3}},
            Preprocess(224, 235, mean=HALF, std=HALF),
            "dataset_stats in the checkpoint (mean, std), the default of timm's TinyViT"
            " (interpolation, crop)",
        ),
        (
            {
                "mean": 0.7,
                "std": 0.1,
                "stats": {"mean": 0.7, "std": 0.1},
                "metrics": {"mean": [0.7] * 3, "std": [0.1] * 3},
            },
            Preprocess(224, 235),
            "the default of timm's TinyViT",
        ),
    ],
)
def test_settings_of_other_scripts_are_found(
    save: Save, entries: dict[str, Any], expected: Preprocess, source: str
) -> None:
    checkpoint = load_checkpoint(save(**entries))
    assert checkpoint.preprocess == expected
    assert checkpoint.preprocess_source == source


@pytest.mark.parametrize(
    ("data", "test", "expected"),
    [
        ({}, {"CROP": True}, Preprocess(224, 256)),
        ({"INTERPOLATION": "random"}, {}, Preprocess(224, 235, interpolation="bilinear")),
        (
            {"MEAN_AND_STD_TYPE": "clip", "INTERPOLATION": "bicubic"},
            {"CROP": False},
            Preprocess(224, 224, "squash", "bicubic", CLIP_MEAN, CLIP_STD),
        ),
        ({"MEAN_AND_STD_TYPE": "inception"}, {}, Preprocess(224, 235, mean=HALF, std=HALF)),
    ],
)
def test_the_config_of_the_papers_code_is_used(
    save: Save, data: dict[str, Any], test: dict[str, Any], expected: Preprocess
) -> None:
    config = {"DATA": {"IMG_SIZE": 224, **data}, "TEST": test, "MODEL": {"NAME": "TinyViT"}}
    checkpoint = load_checkpoint(save(config=config))
    assert checkpoint.preprocess == expected
    assert "the training's configuration (config) in the checkpoint" in checkpoint.preprocess_source


CONFIG: dict[str, Any] = {
    "architecture": "tiny_vit_5m_224",
    "num_classes": 3,
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "interpolation": "bilinear",
        "crop_pct": 0.875,
        "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


@pytest.mark.parametrize(
    "config",
    [CONFIG, {"architecture": "tiny_vit_5m_224", **CONFIG["pretrained_cfg"]}],
    ids=["new form", "old form"],
)
@pytest.mark.parametrize("path_kind", ["folder", "file"])
def test_config_json_is_used(folder: Path, config: dict[str, Any], path_kind: str) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    path = folder if path_kind == "folder" else folder / "model.safetensors"
    checkpoint = load_checkpoint(path)
    assert checkpoint.preprocess == Preprocess(224, 256, "center", "bilinear", HALF, HALF)
    assert checkpoint.preprocess_source == "config.json"


def test_a_layer_of_the_model_that_normalizes_is_used(state: State, tmp_path: Path) -> None:
    """Its tensors are not part of the network, which would get other images without it."""
    wrapped = {f"1.{name}": value for name, value in state.items()}
    wrapped["0.mean"] = torch.tensor([0.5, 0.5, 0.5]).reshape(1, 3, 1, 1)
    wrapped["0.std"] = torch.tensor([0.25, 0.25, 0.25]).reshape(1, 3, 1, 1)
    torch.save(wrapped, tmp_path / "wrapped.pth")
    checkpoint = load_checkpoint(tmp_path / "wrapped.pth")
    assert checkpoint.preprocess.mean == (0.5, 0.5, 0.5)
    assert checkpoint.preprocess.std == (0.25, 0.25, 0.25)
    assert checkpoint.preprocess_source == (
        "the model's own normalization layer (mean, std), the default of timm's TinyViT"
        " (interpolation, crop)"
    )


@pytest.mark.parametrize("architecture", ["resnet50", "tiny_vit_21m_224"])
def test_config_json_of_another_model_is_not_used(folder: Path, architecture: str) -> None:
    config = {**CONFIG, "architecture": architecture, "label_names": ["a", "b", "c"]}
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = load_checkpoint(folder / "model.safetensors")
    assert checkpoint.preprocess == Preprocess(224, 235)
    assert checkpoint.labels is None
    assert checkpoint.notes == (
        f"ignored: config.json, which describes {architecture!r} and not tiny_vit_5m_224",
    )


def test_two_sources_that_disagree_are_reported(save: Save, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    checkpoint = load_checkpoint(save(args=timm_args(mean=[0.4] * 3, interpolation="bilinear")))
    assert checkpoint.preprocess == Preprocess(
        224, 256, "center", "bilinear", (0.4, 0.4, 0.4), HALF
    )
    assert checkpoint.notes == (
        f"different values of mean are stated: 0.4/0.4/0.4 by {TIMM_SOURCE}, and 0.5/0.5/0.5 by"
        f" config.json; that of {TIMM_SOURCE} is used",
    )
    assert checkpoint.preprocess_source == (
        f"{TIMM_SOURCE} (mean, interpolation), config.json (std, crop)"
    )


def test_options_come_first_and_contradictions_are_reported(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG))
    options = make_source_from_options([0.1, 0.2, 0.3], None, None, None)
    checkpoint = load_checkpoint(folder, options=options)
    assert checkpoint.preprocess.mean == (0.1, 0.2, 0.3)
    assert checkpoint.preprocess.std == HALF
    assert checkpoint.preprocess_source == "--mean (mean), config.json (std, interpolation, crop)"
    assert checkpoint.notes == (
        "different values of mean are stated: 0.1/0.2/0.3 by --mean, and 0.5/0.5/0.5 by"
        " config.json; that of --mean is used",
    )


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (
            {
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
                "resample": 2,
                "size": {"height": 224, "width": 224},
                "do_resize": True,
            },
            Preprocess(224, 224, "squash", "bilinear", HALF, HALF),
        ),
        (
            {
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
                "resample": 3,
                "size": {"shortest_edge": 256},
                "do_center_crop": True,
                "crop_size": {"height": 224, "width": 224},
            },
            Preprocess(224, 256, "center", "bicubic", HALF, HALF),
        ),
        (
            {"do_normalize": False, "image_mean": [0.5] * 3},
            Preprocess(224, 235, mean=(0, 0, 0), std=(1, 1, 1)),
        ),
    ],
)
def test_the_image_processor_of_hugging_face_is_used(
    folder: Path, processor: dict[str, Any], expected: Preprocess
) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    checkpoint = load_checkpoint(folder)
    assert checkpoint.preprocess == expected
    assert "preprocessor_config.json" in checkpoint.preprocess_source


def test_settings_in_a_snapshot_of_hugging_faces_cache_are_used(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({"resample": 2}))
    (folder / "args.yaml").write_text("mean: [0.5, 0.5, 0.5]\nstd: [0.5, 0.5, 0.5]\n")
    cache = tmp_path / "models--user--model"
    (cache / "snapshots").mkdir(parents=True)
    folder.rename(cache / "snapshots" / "0123")
    preprocess = load_checkpoint(cache).preprocess
    assert (preprocess.mean, preprocess.std, preprocess.interpolation) == (HALF, HALF, "bilinear")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (([0.5, 0.5], None, None, None), "--mean 0.5,0.5 is not possible: give one number"),
        (([0.5, 0.5, float("nan")], None, None, None), "--mean"),
        (([123.675, 116.28, 103.53], None, None, None), r"divide by 255: 0\.485,0\.456,0\.406"),
        ((None, [0.5, 0.5, 0.0], None, None), "--std 0.5,0.5,0.0 is not possible"),
        ((None, None, 95, None), "--crop-pct 95 is not possible"),
        ((None, None, None, "nearest"), "--interpolation nearest .* bicubic, bilinear, lanczos"),
    ],
)
def test_impossible_options_are_refused(options: tuple[Any, ...], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make_source_from_options(*options)


def test_every_resize_has_a_crop_pct() -> None:
    for size in range(32, 1025, 32):
        for resize in range(size, 2 * size):
            assert int(size / make_crop_pct(size, resize)) == resize


def test_a_hostile_file_is_read_in_little_time(save: Save) -> None:
    deep: Any = []
    for _ in range(100):
        deep = [deep, {"mean": [deep], "std": "1" * 5000}]
    wide = {str(i): {"mean": list(range(50)), "classes": "x"} for i in range(20_000)}
    checkpoint = load_checkpoint(save(deep=deep, wide=wide))
    assert checkpoint.preprocess == Preprocess(224, 235)


@pytest.mark.parametrize(
    "entries",
    [
        {"config": {"INPUT": {"PIXEL_MEAN": [0.5] * 3, "PIXEL_STD": [0.5] * 3}}},
        {"config": {"DATA": {"MEAN": [0.5] * 3, "STD": [0.5] * 3}}},
        {"cfg": {"IMAGE_MEAN": [0.5] * 3, "IMAGE_STD": [0.5] * 3}},
        {"args": argparse.Namespace(dataset_mean=[0.5] * 3, dataset_std=[0.5] * 3)},
        {"stats": ([0.5] * 3, [0.5] * 3)},
        {"Mean": [127.5] * 3, "Std": [127.5] * 3},
    ],
)
def test_other_keys_of_mean_and_std_are_used(save: Save, entries: dict[str, Any]) -> None:
    checkpoint = load_checkpoint(save(**entries))
    assert (checkpoint.preprocess.mean, checkpoint.preprocess.std) == (HALF, HALF)


@pytest.mark.parametrize(
    "entries",
    [
        {"args": argparse.Namespace(normalize=([0.5] * 3, [0.5] * 3))},
        {"config": {"normalization": "inception"}},
        {"mean": "0.5,0.5,0.5", "std": "[0.5, 0.5, 0.5]"},
        {"config": '{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}'},
        {"config": "data:\n  mean: [0.5, 0.5, 0.5]\n  std:\n  - 0.5\n  - 0.5\n  - 0.5\n"},
        {"config": {"mean": {"desc": None, "value": [0.5] * 3}, "std": {"value": [0.5] * 3}}},
    ],
)
def test_other_forms_of_mean_and_std_are_used(save: Save, entries: dict[str, Any]) -> None:
    checkpoint = load_checkpoint(save(**entries))
    assert (checkpoint.preprocess.mean, checkpoint.preprocess.std) == (HALF, HALF)


def test_numbers_of_an_initialization_are_not_those_of_images(save: Save) -> None:
    preprocess = load_checkpoint(save(config={"mean": 0.0, "std": 0.02})).preprocess
    assert (preprocess.mean, preprocess.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_a_normalization_that_is_turned_off_is_noted(save: Save) -> None:
    notes = load_checkpoint(save(config={"normalize": False})).notes
    assert notes[0].startswith("not used: config.normalize False in the checkpoint, which may")


def test_the_arguments_of_timm_beside_the_checkpoint_are_used(save: Save, tmp_path: Path) -> None:
    """timm's train.py writes args.yaml into the folder of its checkpoints."""
    text = "img_size: 288\nmean:\n- 0.5\n- 0.5\n- 0.5\nmodel: tiny_vit_5m_224\nstd:\n- 0.5\n"
    (tmp_path / "args.yaml").write_text(text)
    checkpoint = load_checkpoint(save())
    assert checkpoint.preprocess == Preprocess(288, 303, mean=HALF, std=HALF)
    assert checkpoint.preprocess_source == (
        f"args.yaml (mean, std), {TIMM_DEFAULT} (interpolation, crop)"
    )
    (tmp_path / "args.yaml").write_text(text.replace("tiny_vit_5m_224", "resnet50"))
    checkpoint = load_checkpoint(save())
    assert checkpoint.preprocess == Preprocess(224, 235)
    assert checkpoint.notes == (
        "ignored: args.yaml, which names 'resnet50' and not tiny_vit_5m_224",
    )


def test_arguments_beside_the_checkpoint_that_are_not_understood_are_noted(
    save: Save, tmp_path: Path
) -> None:
    (tmp_path / "args.yaml").write_text("mean: &half [0.5, 0.5, 0.5]\nstd: *half\n")
    assert load_checkpoint(save()).notes == (
        "ignored: args.yaml, which is too large or whose form is not understood",
    )


def test_the_image_size_of_the_transforms_is_that_of_the_network(save: Save) -> None:
    resize = {"type": "Resize", "size": [256, 256], "interpolation": "bilinear"}
    checkpoint = load_checkpoint(save(config={"val_transforms": [resize]}))
    assert checkpoint.preprocess == Preprocess(256, 256, "squash", "bilinear")


def test_an_unknown_key_of_a_mean_is_noted(save: Save) -> None:
    args = argparse.Namespace(color_means=[0.4, 0.5, 0.6], stdout=3, means=[0.485, 0.456, 0.406])
    checkpoint = load_checkpoint(save(args=args))
    assert checkpoint.preprocess.mean == IMAGENET_MEAN
    assert checkpoint.notes == (
        "not used: args.color_means [0.4, 0.5, 0.6] in the checkpoint, which may state how"
        " images are normalized (--mean and --std to use it)",
    )


@pytest.mark.parametrize(
    "entries",
    [
        {"args": argparse.Namespace(resize=256, crop=224)},
        {"args": argparse.Namespace(resize=256, center_crop=[224, 224])},
        {
            "config": {
                "val_transforms": [
                    {"name": "Resize", "size": 256},
                    {"name": "CenterCrop", "size": 224},
                ]
            }
        },
        {
            "config": {
                "val": {
                    "ops": [
                        {"_target_": "torchvision.transforms.Resize", "size": 256},
                        {"_target_": "torchvision.transforms.CenterCrop", "size": [224, 224]},
                    ]
                }
            }
        },
        {"config": {"val_transforms": [{"Resize": {"size": 256}}, {"CenterCrop": 224}]}},
    ],
)
def test_resize_and_center_crop_are_used(save: Save, entries: dict[str, Any]) -> None:
    checkpoint = load_checkpoint(save(**entries))
    preprocess = checkpoint.preprocess
    assert (preprocess.resize, preprocess.size, preprocess.crop) == (256, 224, "center")


def test_the_resize_of_the_training_images_is_not_used(save: Save) -> None:
    transforms = [{"name": "Resize", "size": 256}, {"name": "CenterCrop", "size": 224}]
    checkpoint = load_checkpoint(save(config={"train_transforms": transforms}))
    assert checkpoint.preprocess.resize == 235
