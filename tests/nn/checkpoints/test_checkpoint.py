"""Checkpoint files are recognized by their content, or refused with one line that says why."""

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
from tinyvit.image_sizes import ImageSize
from tinyvit.nn.checkpoints import hub
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.variants import VARIANTS

State = dict[str, torch.Tensor]
Save = Callable[..., Path]


@pytest.fixture(scope="module")
def state() -> State:
    """The state dict of a 5M network with seven classes and random weights, in timm's layout."""
    torch.manual_seed(0)
    return TinyViT(VARIANTS["tiny_vit_5m_224"], 7).state_dict()


def refusal(path: Path) -> str:
    """Return the message with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_any_number_of_classes_is_read(state: State, save: Save) -> None:
    loaded = load_checkpoint(save(state))
    assert (loaded.variant.name, loaded.num_classes) == ("tiny_vit_5m_224", 7)
    assert (loaded.layout, loaded.labels) == ("timm", None)
    assert len(loaded.sha256) == 64


def test_a_classifier_with_one_output_is_refused(state: State, save: Save) -> None:
    """Its only probability would always be 1."""
    head = {key: value[:1] for key, value in state.items() if key.startswith("head.fc")}
    message = refusal(save({**state, **head}))
    assert "has one output (for a sigmoid)" in message
    assert "replace it by an equivalent classifier with two outputs" in message


@pytest.mark.parametrize(
    ("entries", "statement"),
    [
        ({"config": {"problem_type": "multi_label_classification"}}, "problem_type multi_label_cl"),
        ({"config": {"problem_type": "regression"}}, "problem_type regression"),
        ({"hyper_parameters": {"task": "multi-label"}}, "task multi-label"),
        ({"args": {"multilabel": True}}, "multilabel True"),
    ],
)
def test_a_network_with_several_labels_per_image_is_refused(
    state: State, save: Save, entries: dict[str, Any], statement: str
) -> None:
    message = refusal(save({"state_dict": state, **entries}))
    assert f"states {statement}" in message
    assert "the probabilities of artifacts are the softmax over classes of which one" in message


def test_the_problem_in_config_json_is_read(state: State, save: Save, tmp_path: Path) -> None:
    config = {"problem_type": "single_label_classification", "architectures": ["TinyViT"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    path = save({"state_dict": state})
    assert load_checkpoint(path).num_classes == state["head.fc.weight"].shape[0]
    config["problem_type"] = "multi_label_classification"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "config.json states problem_type multi_label_classification" in refusal(path)


@pytest.mark.parametrize(
    "key",
    ["stages.3.downsample.conv3.conv.weight", "stages.2.blocks.0.attn.attention_biases"],
)
def test_a_weight_without_dimensions_is_refused(state: State, save: Save, key: str) -> None:
    message = refusal(save({**state, key: torch.tensor(1.0)}))
    assert "have another number of dimensions than in a TinyViT" in message


def test_integer_weights_are_refused(state: State, save: Save) -> None:
    weight = torch.ones(7, 320, dtype=torch.int8)
    message = refusal(save({**state, "head.fc.weight": weight}))
    assert "contains weights that are integers (head.fc.weight)" in message


def test_training_checkpoint_gives_its_averaged_weights(state: State, save: Save) -> None:
    averaged = {
        f"module.{key}": value + 1 if value.is_floating_point() else value
        for key, value in state.items()
    }
    training = {
        "epoch": 3,
        "args": argparse.Namespace(lr=1.0),
        "state_dict": state,
        "optimizer": {"state": {0: {"step": torch.tensor(1)}}},
        "state_dict_ema": averaged,
    }
    loaded = load_checkpoint(save(training))
    assert loaded.container == "state_dict_ema"
    assert torch.equal(loaded.state_dict["head.fc.bias"], state["head.fc.bias"] + 1)


PREPROCESS = {
    "size": 224,
    "resize": 224,
    "crop": "squash",
    "interpolation": "bilinear",
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}


def save_safetensors(path: Path, state: State, **metadata: str) -> Path:
    safetensors.torch.save_file(state, path, metadata)
    return path


def test_safetensors_hold_float16_weights_labels_and_license(state: State, tmp_path: Path) -> None:
    path = save_safetensors(
        tmp_path / "weights.safetensors",
        {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
        labels=json.dumps(["n02123045", *"abcdef"]),
        license="MIT",
        preprocess=json.dumps(PREPROCESS),
    )
    loaded = load_checkpoint(path)
    assert loaded.labels is not None
    assert [label.name for label in loaded.labels] == ["tabby", *"abcdef"]
    assert (loaded.license, loaded.preprocess.crop) == ("MIT", "squash")
    assert loaded.preprocess.mean == (0.5, 0.5, 0.5)
    assert all(
        value.dtype == torch.float32
        for key, value in loaded.state_dict.items()
        if "num_batches" not in key
    )


@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_preprocessing_without_mean_or_std_is_refused(
    state: State, tmp_path: Path, name: str
) -> None:
    text = json.dumps({key: value for key, value in PREPROCESS.items() if key != name})
    path = save_safetensors(tmp_path / "weights.safetensors", state, preprocess=text)
    with pytest.raises(CheckpointError, match=f"preprocess has no field {name}"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": "224"}, "size is of none of the allowed types"),
        ({"mean": ["a", "b", "c"]}, "an entry of mean is not a finite number"),
        ({"resize": 10}, "not possible"),
        ({"more": 1}, "more that is not known"),
    ],
)
def test_wrong_preprocessing_is_refused(
    state: State, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    text = json.dumps({**PREPROCESS, **change})
    path = save_safetensors(tmp_path / "weights.safetensors", state, preprocess=text)
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(path)


def test_labels_are_read_from_a_class_to_idx_map(state: State, save: Save) -> None:
    class_to_idx = {name: index for index, name in enumerate("gfedcba")}
    loaded = load_checkpoint(save({"model": state, "class_to_idx": class_to_idx}))
    assert loaded.labels is not None
    assert [label.name for label in loaded.labels] == list("gfedcba")


def test_demo_is_in_the_package() -> None:
    loaded = hub.load_released("demo")
    assert loaded.labels is not None
    assert loaded.labels[2].name == "tabby"
    assert (loaded.license, loaded.preprocess.resize) == ("MIT", 235)


@pytest.mark.parametrize(("size", "table"), [(256, 64), (384, 144), (96, 9)])
def test_another_size_interpolates_the_biases(
    state: State, save: Save, size: int, table: int
) -> None:
    loaded = load_checkpoint(save(state)).at_size(size, "scaled")
    assert loaded.state_dict["stages.1.blocks.0.attn.attention_biases"].shape == (4, table)
    with torch.inference_mode():
        assert loaded.build()(torch.zeros(1, 3, size, size)).shape == (1, 7)


def test_interpolation_is_that_of_the_paper(state: State, save: Save) -> None:
    loaded = load_checkpoint(save(state))
    biases = loaded.state_dict["stages.2.blocks.0.attn.attention_biases"].normal_()
    resized = loaded.at_size(384, "scaled").state_dict["stages.2.blocks.0.attn.attention_biases"]
    expected = torch.nn.functional.interpolate(
        biases.view(1, 5, 14, 14), size=(24, 24), mode="bicubic"
    ).view(5, 576)
    assert torch.equal(resized, expected)


@pytest.mark.parametrize("size", [31, 0, 5000, (224, 16)])
def test_impossible_sizes_are_refused_with_the_limits(
    state: State, save: Save, size: ImageSize
) -> None:
    with pytest.raises(RequestError, match="use a height and a width from 32 to 1024"):
        load_checkpoint(save(state)).at_size(size)


def test_truncated_files_are_refused(state: State, save: Save, tmp_path: Path) -> None:
    whole = save(state).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refusal(tmp_path / "cut.pth")
    whole = save_safetensors(tmp_path / "whole.safetensors", state).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refusal(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE html><html>sign in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git-lfs"),
        (b"", "empty"),
        (b"hello", "a text file"),
        (("tench\n" + "ü" * 400).encode(), "--labels takes names of classes"),
        (b"hello\0", "neither"),
        (b"\xff" * 100, "neither"),
        (b"\x40\x00\x00\x00\x00\x00\x00\x00{" + b"x" * 200, "damaged"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "damaged"),
        (b"PK\x03\x04" + b"\0" * 50, "truncated"),
        (b"\x80\x02}q\x00", "truncated"),
    ],
)
def test_files_that_are_not_checkpoints_are_refused(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    (tmp_path / "weights.pth").write_bytes(data)
    assert reason in refusal(tmp_path / "weights.pth")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "missing.pth")
    assert "cannot be read" in refusal(tmp_path)


class Exploit:
    """Pickles as a call that creates the file "executed"."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("executed", "w"))


def test_no_pickle_runs_code(
    state: State, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "could run code" in refusal(save({"model": state, "extra": Exploit()}))
    assert not (tmp_path / "executed").exists()


def test_missing_and_unexpected_keys_are_named(state: State, save: Save) -> None:
    changed = {
        key: value
        for key, value in state.items()
        if not key.startswith("stages.3.blocks.1.mlp.fc2")
    }
    message = refusal(save({**changed, "surprise": torch.zeros(1)}))
    assert (
        "has the channels of tiny_vit_5m_224, but not its keys"
        " (missing 2: stages.3.blocks.1.mlp.fc2." in message
    )
    assert "; unexpected 1: surprise): save the model's whole state dict" in message


def test_other_networks_are_refused(state: State, save: Save) -> None:
    assert "not a TinyViT" in refusal(
        save({f"layer{i}.weight": torch.zeros(2, 2) for i in range(20)})
    )
    assert "no classifier" in refusal(
        save({key: value for key, value in state.items() if not key.startswith("head.fc")})
    )
    other_widths = {**state, "patch_embed.conv2.conv.weight": torch.zeros(72, 32, 3, 3)}
    assert "nearest is tiny_vit_5m_224" in refusal(save(other_widths))
    other_shape = {**state, "stages.1.blocks.0.mlp.fc1.weight": torch.zeros(500, 128)}
    assert "(500, 128) instead of (512, 128)" in refusal(save(other_shape))
    assert "no state dict" in refusal(save({"epoch": 1}))
    assert "no state dict" in refusal(save([1, 2]))


def test_small_networks_are_no_tinyvits_either(save: Save) -> None:
    layer = {"layer1.0.conv1.weight": torch.zeros(2, 2), "layer1.0.conv1.bias": torch.zeros(2)}
    for content in (layer, {"model": layer}, {"epoch": 3, "state_dict": layer}):
        message = refusal(save(content))
        assert "is not a TinyViT (first keys: layer1.0.conv1.weight" in message
        assert "comparison.md names other tools" in message


@pytest.mark.parametrize(("channels", "text"), [(1, "1 channel"), (4, "4 channels")])
def test_other_numbers_of_channels_are_the_only_reason(
    state: State, save: Save, channels: int, text: str
) -> None:
    name = "patch_embed.conv1.conv.weight"
    message = refusal(save({**state, name: torch.zeros(32, channels, 3, 3)}))
    assert f"takes images of {text}, and only RGB images (3 channels) are supported" in message
    assert "instead of" not in message


def test_a_classifier_of_no_classes_is_refused(state: State, save: Save) -> None:
    empty = {"head.fc.weight": torch.zeros(0, 320), "head.fc.bias": torch.zeros(0)}
    assert "has 0 classes (head.fc.weight has the shape (0, 320))" in refusal(
        save({**state, **empty})
    )


def test_a_network_in_a_wrapper_with_its_own_classifier(state: State, save: Save) -> None:
    expected = load_checkpoint(save(state))
    wrapped = {f"backbone.{name}": value for name, value in state.items() if "head.fc" not in name}
    wrapped["classifier.1.weight"] = state["head.fc.weight"]
    wrapped["classifier.1.bias"] = state["head.fc.bias"]
    loaded = load_checkpoint(save({"state_dict": wrapped, "classes": list("abcdefg")}))
    assert (loaded.num_classes, loaded.container) == (7, "state_dict")
    assert loaded.labels is not None
    assert [label.name for label in loaded.labels] == list("abcdefg")
    image = torch.ones(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(loaded.build()(image), expected.build()(image))


def test_nan_weights_are_refused(state: State, save: Save) -> None:
    assert "NaN" in refusal(save({**state, "head.fc.bias": torch.full((7,), float("nan"))}))
