"""Weights are found in the checkpoints that people have, whatever is around them."""

from __future__ import annotations

import argparse
import collections
import enum
import pathlib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
import torch
from torch import nn

from tests.helpers.state_dicts import (
    Layer,
    Save,
    add_prefix,
    check_tensors,
    make_official_state,
    make_state,
    refusal,
)
from tinyvit.nn.checkpoints.weight_files import read_weights


def test_the_papers_training_checkpoint(save: Save, foreign_class: Callable[..., type]) -> None:
    """Files of Cream's `save_checkpoint` contain the config as a CfgNode of yacs."""
    node = foreign_class("yacs.config", "CfgNode", dict)

    def make_node(**items: Any) -> Any:
        created = node(items)
        created.__dict__["__immutable__"] = True
        return created

    config = make_node(
        DATA=make_node(IMG_SIZE=224, INTERPOLATION="bicubic", MEAN_AND_STD_TYPE="default"),
        TEST=make_node(CROP=True),
        AMP=0.5,
        TAGS=[],
    )
    path = save(
        {
            "model": make_official_state(),
            "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
            "lr_scheduler": {"_step_count": 3},
            "max_accuracy": np.float64(71.5),
            "epoch": np.int64(299),
            "config": config,
        }
    )
    weights = read_weights(path)
    check_tensors(weights, make_official_state())
    assert (weights.container, weights.prefix, weights.ignored) == ("model", "", ())
    assert weights.metadata["config"] == {
        "DATA": {"IMG_SIZE": 224, "INTERPOLATION": "bicubic", "MEAN_AND_STD_TYPE": "default"},
        "TEST": {"CROP": True},
        "AMP": 0.5,
        "TAGS": [],
    }
    assert (weights.metadata["max_accuracy"], weights.metadata["epoch"]) == (71.5, 299)
    assert weights.metadata["optimizer"]["param_groups"] == [{"lr": 0.1}]


class Interpolation(enum.Enum):
    BICUBIC = "bicubic"


Point = collections.namedtuple("Point", ["x", "y"])


def test_objects_in_the_metadata_become_plain_values(
    save: Save, foreign_class: Callable[..., type]
) -> None:
    node = foreign_class("omegaconf.nodes", "AnyNode", object)
    tree = foreign_class("omegaconf.dictconfig", "DictConfig", object)
    value, root = node(), tree()
    value.__dict__.update(_val=0.9, _parent=root, _metadata=None)
    root.__dict__.update(_content={"crop_pct": value}, _parent=None)
    scores: Any = collections.defaultdict(list, {"top1": [1.0]})
    plain = {
        "args": argparse.Namespace(mean=(0.5, 0.5, 0.5), std=None, nested=argparse.Namespace(a=1)),
        "output": pathlib.PurePosixPath("/runs/1"),
        "folder": Path("runs"),
        "scores": scores,
        "counts": collections.Counter("aab"),
        "interpolation": Interpolation.BICUBIC,
        "point": Point(1, 2),
        "seen": {3},
        "array": np.array([[0.25, 0.5]]),
        "classes": np.array(["cat", "dog"]),
        "names": np.array(["cat", "dog"], dtype=object),
        "idx_to_class": {np.int64(0): "cat", 1: "dog"},
        "mean": torch.tensor([0.5, 0.25]),
        "dtype": torch.float16,
        "config": root,
        "space": types.SimpleNamespace(img_size=288),
        "unknown": object.__new__(foreign_class("mylab.tools", "Logger", object)),
    }
    metadata = read_weights(save({"state_dict": make_state(), **plain})).metadata
    assert metadata == {
        "args": {"mean": [0.5, 0.5, 0.5], "std": None, "nested": {"a": 1}},
        "output": "/runs/1",
        "folder": "runs",
        "scores": {"top1": [1.0]},
        "counts": {"a": 2, "b": 1},
        "interpolation": "bicubic",
        "point": [1, 2],
        "seen": [3],
        "array": [[0.25, 0.5]],
        "classes": ["cat", "dog"],
        "names": ["cat", "dog"],
        "idx_to_class": {"0": "cat", "1": "dog"},
        "mean": [0.5, 0.25],
        "dtype": "torch.float16",
        "config": {"crop_pct": 0.9},
        "space": {"img_size": 288},
    }


@pytest.mark.parametrize(
    "prefix",
    [
        "model.",
        "module.",
        "_orig_mod.module.",
        "model._orig_mod.",
        "net.",
        "backbone.",
        "timm_model.",
        "encoder.",
        "image_encoder.",
        "_fsdp_wrapped_module.",
        "my.own.wrapper.",
    ],
)
@pytest.mark.parametrize("layout", ["timm", "official"])
def test_the_prefix_is_found_among_foreign_keys(save: Save, prefix: str, layout: str) -> None:
    state = make_state() if layout == "timm" else make_official_state()
    foreign = {"criterion.weight": torch.ones(7), "train_acc.tp": torch.zeros(7)}
    weights = read_weights(save({"state_dict": {**add_prefix(state, prefix), **foreign}}))
    check_tensors(weights, state)
    assert (weights.container, weights.prefix) == ("state_dict", prefix)
    assert weights.ignored == ("2 tensors of other modules (criterion.weight, train_acc.tp)",)


def test_wrappers_of_parts_and_counters_of_a_profiler(save: Save) -> None:
    state = make_state()
    wrapped = {
        name.replace("blocks.", "blocks._orig_mod._checkpoint_wrapped_module.").replace(
            "patch_embed.", "patch_embed._fsdp_wrapped_module."
        ): value
        for name, value in state.items()
    }
    counters = {"total_ops": torch.zeros(1), "stages.1.total_params": torch.zeros(1)}
    check_tensors(read_weights(save({**add_prefix(wrapped, "model."), **counters})), state)
    check_tensors(read_weights(save({**wrapped, **counters})), state)


def test_other_state_dicts_are_not_metadata(save: Save) -> None:
    path = save({"state_dict": make_state(1), "state_dict_ema": make_state(2), "epoch": 3})
    assert read_weights(path).metadata == {"epoch": 3}
    assert read_weights(save({**make_state(), "epoch": 3})).metadata == {"epoch": 3}


def test_a_foreign_key_beside_names_without_prefix_is_left_out(save: Save) -> None:
    weights = read_weights(save({**make_state(), "criterion.weight": torch.ones(7)}))
    check_tensors(weights, make_state())
    assert weights.ignored == ("1 tensor of other modules (criterion.weight)",)


@pytest.mark.parametrize(
    "container",
    [
        "state_dict",
        "state_dict_ema",
        "model",
        "model_ema",
        "model_state_dict",
        "ema_state_dict",
        "net",
        "weights",
        "module",
        "student_weights",
        "checkpoint.model",
        "callbacks.EMA.state",
    ],
)
def test_the_state_dict_is_found_under_any_key(save: Save, container: str) -> None:
    content: Any = make_state()
    for key in reversed(container.split(".")):
        content = {key: content}
    weights = read_weights(save({"epoch": 3, **content}))
    check_tensors(weights, make_state())
    assert weights.container == container
    assert weights.metadata["epoch"] == 3


@pytest.mark.parametrize(
    ("content", "container"),
    [
        ({"state_dict": make_state(1), "state_dict_ema": make_state(2)}, "state_dict_ema"),
        ({"model": make_state(1), "model_ema": make_state(2)}, "model_ema"),
        ({"net": make_state(1), "ema": {"module": make_state(2)}}, "ema.module"),
        ({"model": make_state(1), "swa_model": make_state(2)}, "swa_model"),
        ({"state_dict": make_state(2), "current_model_state": make_state(1)}, "state_dict"),
    ],
)
def test_averaged_weights_are_preferred(save: Save, content: Any, container: str) -> None:
    weights = read_weights(save(content))
    assert weights.container == container
    assert weights.tensors["head.fc.bias"].tolist() == [2] * 7
    (other,) = {key.partition(".")[0] for key in content} - {container.partition(".")[0]}
    assert weights.ignored == (f"the weights in {other}; those in {container} are averaged",)


def test_averaged_weights_inside_one_state_dict_are_preferred(save: Save) -> None:
    state = {**add_prefix(make_state(1), "model."), **add_prefix(make_state(2), "ema.module.")}
    weights = read_weights(save({"state_dict": state}))
    assert weights.prefix == "ema.module."
    assert weights.tensors["head.fc.bias"].tolist() == [2] * 7


def test_averaged_model_of_torch(save: Save) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(nn.Linear(1, 1)).state_dict()
    assert set(averaged) == {"n_averaged", "module.weight", "module.bias"}
    state = {"n_averaged": torch.tensor(3), **add_prefix(make_state(2), "module.")}
    weights = read_weights(save({"model": make_state(1), "averages": state}))
    assert (weights.container, weights.prefix) == ("averages", "module.")
    assert weights.tensors["head.fc.bias"].tolist() == [2] * 7


def test_two_equally_good_networks_are_refused_by_their_names(save: Save) -> None:
    state = {**add_prefix(make_state(1), "student."), **add_prefix(make_state(2), "teacher.")}
    message = refusal(save({"state_dict": state}))
    assert "several TinyViTs with different weights (state_dict.student, state_dict.teacher)" in (
        message
    )
    assert "(model, best)" in refusal(save({"model": make_state(1), "best": make_state(2)}))


def test_the_same_network_twice_is_not_ambiguous(save: Save) -> None:
    state = make_state()
    copy = {name: value.clone() for name, value in state.items()}
    assert read_weights(save({"model": state, "state_dict": state})).container == "model"
    assert read_weights(save({"model": state, "state_dict": copy})).container == "model"


def test_lightning_keeps_the_hyper_parameters(
    save: Save, foreign_class: Callable[..., type]
) -> None:
    attributes = foreign_class("lightning.fabric.utilities.data", "AttributeDict", dict)
    path = save(
        {
            "epoch": 1,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": add_prefix(make_state(), "model."),
            "hyper_parameters": attributes(class_names=["a", "b"], lr=0.1),
            "hparams_name": "kwargs",
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {
                "ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(1)}
            },
        }
    )
    weights = read_weights(path)
    check_tensors(weights, make_state())
    assert weights.metadata["hyper_parameters"] == {"class_names": ["a", "b"], "lr": 0.1}


def test_fastai_and_mmpretrain(save: Save) -> None:
    weights = read_weights(save({"model": make_state(), "opt": {"state": [], "hypers": []}}))
    check_tensors(weights, make_state())
    names = {
        "patch_embed.seq.0.c.weight": "backbone.patch_embed.seq.0.conv2d.weight",
        "layers.2.downsample.conv3.c.weight": "backbone.stages.2.downsample.conv3.conv2d.weight",
        "layers.0.blocks.0.conv1.bn.running_mean": "backbone.stages.0.blocks.0.conv1.bn2d."
        "running_mean",
        "norm_head.weight": "backbone.norm3.weight",
        "norm_head.bias": "backbone.norm3.bias",
        "head.weight": "head.fc.weight",
        "head.bias": "head.fc.bias",
    }
    official = make_official_state()
    state = {
        names.get(name, f"backbone.{name.replace('layers.', 'stages.')}"): value
        for name, value in official.items()
    }
    path = save({"meta": {"dataset_meta": {"classes": ["a"] * 7}}, "state_dict": state})
    weights = read_weights(path)
    check_tensors(weights, official)
    assert weights.metadata["meta"] == {"dataset_meta": {"classes": ["a"] * 7}}
    assert weights.notes == (
        "the classifier is head.fc, which the file has outside of the network; it is assumed to"
        " receive the pooled features after the network's last LayerNorm",
    )


def test_a_whole_model_is_read_without_its_code(save: Save) -> None:
    network = Layer(make_state())
    network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5)}  # type: ignore[assignment]
    for content, container in (
        (nn.DataParallel(network), ""),
        ({"model": nn.DataParallel(network), "epoch": 1}, "model"),
    ):
        weights = read_weights(save(content))
        check_tensors(weights, make_state())
        assert (weights.container, weights.prefix) == (container, "module.")
        assert weights.metadata["pretrained_cfg"] == {"mean": [0.5, 0.5, 0.5]}
        assert not any(name.startswith("_") for name in weights.metadata)
