"""Weights are found in the checkpoints that people have, whatever is around them."""

from __future__ import annotations

import argparse
import collections
import enum
import json
import os
import pathlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
import safetensors.torch
import torch
from torch import nn

from tinyvit.errors import CheckpointError
from tinyvit.nn.weight_files import Weights, read_weights
from tinyvit.nn.weight_folders import hash_weight_files

State = dict[str, torch.Tensor]
Save = Callable[..., Path]

TIMM_SHAPES = {
    "patch_embed.conv1.conv.weight": (32, 3, 3, 3),
    "stages.3.downsample.conv3.conv.weight": (6, 6, 1, 1),
    "stages.0.blocks.0.conv1.bn.running_mean": (8,),
    **{f"stages.1.blocks.{i}.mlp.fc1.weight": (2, 2) for i in range(10)},
    "head.norm.weight": (6,),
    "head.norm.bias": (6,),
    "head.fc.weight": (7, 6),
    "head.fc.bias": (7,),
}
"""A few of the tensors of a network in timm's layout, much smaller than in any TinyViT."""

OFFICIAL_NAMES = {
    "patch_embed.conv1.conv.weight": "patch_embed.seq.0.c.weight",
    "stages.3.downsample.conv3.conv.weight": "layers.2.downsample.conv3.c.weight",
    "head.norm.weight": "norm_head.weight",
    "head.norm.bias": "norm_head.bias",
    "head.fc.weight": "head.weight",
    "head.fc.bias": "head.bias",
}


def make_state(value: float | None = None) -> State:
    """Return tensors of a network: random numbers, or always the same number."""
    if value is not None:
        return {name: torch.full(shape, value) for name, shape in TIMM_SHAPES.items()}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in TIMM_SHAPES.items()}


def make_official_state() -> State:
    """Return tensors of a network in the paper's layout."""
    return {
        OFFICIAL_NAMES.get(name, name.replace("stages.", "layers.")): value
        for name, value in make_state().items()
    }


def add_prefix(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def without_classifier(state: State) -> State:
    return {name: value for name, value in state.items() if not name.startswith("head.fc")}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """A function that saves a value with `torch.save` and returns the path."""

    def save_file(content: object, name: str = "weights.pth", **options: Any) -> Path:
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save_file


@pytest.fixture
def foreign_class() -> Iterator[Callable[..., type]]:
    """A function that creates a class in a module that exists only until the end of the test."""
    names: list[str] = []

    def create(module: str, name: str, *bases: type, **attributes: Any) -> type:
        created = type(name, bases, {"__module__": module, "__qualname__": name, **attributes})
        for parent in (module, *(str(part) for part in Path(module.replace(".", "/")).parents)):
            parent = parent.replace("/", ".")
            if parent != "." and parent not in sys.modules:
                sys.modules[parent] = types.ModuleType(parent)
                names.append(parent)
        setattr(sys.modules[module], name, created)
        return created

    yield create
    for name in names:
        del sys.modules[name]


def refusal(path: Path) -> str:
    """Return the message with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_tensors(weights: Weights, expected: State) -> None:
    assert weights.tensors.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(weights.tensors[name], value), name


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


class Layer(nn.Module):
    """A module whose parameters have the names of a state dict."""

    def __init__(self, state: State) -> None:
        super().__init__()
        for name, value in state.items():
            child, _, rest = name.partition(".")
            if not rest:
                self.register_parameter(child, nn.Parameter(value))
            elif child not in self._modules:
                inside = {
                    key.removeprefix(f"{child}."): tensor
                    for key, tensor in state.items()
                    if key.startswith(f"{child}.")
                }
                self.add_module(child, Layer(inside))


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


def test_tensors_that_share_storage_and_other_types(save: Save) -> None:
    whole = torch.arange(100.0)
    state = make_state()
    state["head.fc.weight"] = whole[3:45].view(6, 7).t()
    state["head.fc.bias"] = whole[50:64:2]
    state["head.norm.weight"] = nn.Parameter(torch.ones(6))
    state["head.norm.bias"] = torch.ones(1).expand(6)
    check_tensors(read_weights(save(state)), state)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        converted = {name: value.to(dtype) for name, value in state.items()}
        check_tensors(read_weights(save(converted)), converted)
    check_tensors(read_weights(save(state, _use_new_zipfile_serialization=False)), state)
    check_tensors(read_weights(save(state, pickle_protocol=5)), state)
    arrays = {name: value.detach().numpy() for name, value in state.items()}
    check_tensors(read_weights(save(arrays)), {n: torch.tensor(v) for n, v in arrays.items()})


def test_pruned_weights_are_multiplied_by_their_masks(save: Save) -> None:
    state = make_state()
    weight = state.pop("head.fc.weight")
    mask = (weight > 0).float()
    path = save({**state, "head.fc.weight_orig": weight, "head.fc.weight_mask": mask})
    assert torch.equal(read_weights(path).tensors["head.fc.weight"], weight * mask)


def test_a_dtensor_that_is_not_split(tmp_path: Path, save: Save) -> None:
    distributed = pytest.importorskip("torch.distributed")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    from torch.testing._internal.distributed.fake_pg import FakeStore

    try:
        distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    except (RuntimeError, ValueError, AssertionError) as error:
        pytest.skip(f"no fake process group ({error})")
    try:
        mesh = init_device_mesh("cpu", (2,))
        state = make_state()
        for placement in (Replicate(), Shard(0)):
            weight = distribute_tensor(state["head.fc.bias"], mesh, [placement])
            path = save({**state, "head.fc.bias": weight}, f"{type(placement).__name__}.pth")
    finally:
        distributed.destroy_process_group()
    check_tensors(read_weights(tmp_path / "Replicate.pth"), state)
    assert "head.fc.bias" in refusal(path)
    assert "is only a part (a shard of a DTensor) of a weight" in refusal(path)


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (("head.fc.1.weight", "head.fc.1.bias"), ""),
        (("head.classifier.weight", "head.classifier.bias"), ""),
        (("classifier.weight", "classifier.bias"), ""),
        (("head.3.weight", "head.3.bias"), ""),
    ],
)
def test_a_renamed_classifier_inside_the_network(
    save: Save, names: tuple[str, str], note: str
) -> None:
    state = make_state()
    renamed = {
        **without_classifier(state),
        names[0]: state["head.fc.weight"],
        names[1]: state["head.fc.bias"],
    }
    weights = read_weights(save(renamed))
    check_tensors(weights, state)
    assert (weights.ignored, weights.notes) == ((), ())


def test_a_classifier_outside_of_the_network(save: Save) -> None:
    state = make_state()
    outside = {
        **add_prefix(without_classifier(state), "backbone."),
        "fc.1.weight": state["head.fc.weight"],
        "fc.1.bias": state["head.fc.bias"],
        "criterion.weight": torch.ones(7),
    }
    weights = read_weights(save(outside))
    check_tensors(weights, state)
    assert weights.ignored == ("1 tensor of other modules (criterion.weight)",)
    assert "the classifier is fc.1" in weights.notes[0]


def test_a_classifier_without_bias_and_one_that_is_a_convolution(save: Save) -> None:
    state = make_state()
    weight, bias = state.pop("head.fc.weight"), state.pop("head.fc.bias")
    weights = read_weights(save({**state, "head.fc.weight": weight}))
    assert weights.tensors["head.fc.bias"].tolist() == [0] * 7
    assert "has no bias" in weights.notes[0]
    convolution = {"head.fc.weight": weight[:, :, None, None], "head.fc.bias": bias}
    check_tensors(read_weights(save({**state, **convolution})), make_state())


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"head.fc.0.weight": (5, 6), "head.fc.3.weight": (7, 5)}, "head.fc.0.weight, head.fc.3"),
        ({"head.fc.0.weight": (6,), "head.fc.1.weight": (7, 6)}, "head.fc.0.weight, head.fc.1"),
        ({"color.weight": (7, 6), "shape.weight": (3, 6)}, "color.weight, shape.weight"),
        ({"head.fc.weight": (7, 12)}, "has no single"),
        ({}, "has no classifier: the network was saved without one (num_classes=0)"),
    ],
)
def test_other_classifiers_are_refused_with_their_keys(
    save: Save, shapes: dict[str, tuple[int, ...]], reason: str
) -> None:
    state = {
        **without_classifier(make_state()),
        **{name: torch.ones(shape) for name, shape in shapes.items()},
    }
    if "head.fc.weight" in shapes:  # the shape is checked with all others
        assert read_weights(save(state)).tensors["head.fc.weight"].shape == (7, 12)
        return
    assert reason in refusal(save(state))


@pytest.mark.parametrize("shape", [(9, 7), (9, 6)])
def test_layers_that_could_follow_the_classifier_are_refused(
    save: Save, shape: tuple[int, int]
) -> None:
    state = {**add_prefix(make_state(), "backbone."), "classifier.weight": torch.ones(shape)}
    message = refusal(save(state))
    assert "has the classifier head.fc.weight and other layers" in message
    assert "(classifier.weight)" in message


def test_a_model_that_normalizes_images_itself(save: Save) -> None:
    state = {
        **add_prefix(make_state(), "1."),
        "0.mean": torch.tensor([0.5, 0.25, 0.125]).view(1, 3, 1, 1),
        "0.std": torch.tensor([0.5, 0.5, 1.0]).view(1, 3, 1, 1),
    }
    weights = read_weights(save(state))
    assert weights.metadata["normalization"] == {
        "mean": [0.5, 0.25, 0.125],
        "std": [0.5, 0.5, 1.0],
    }
    assert weights.ignored == ("2 tensors of other modules (0.mean, 0.std)",)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["image_encoder.neck.0.weight"], "is a MobileSAM"),
        (["mask_decoder.x.weight"], "is a MobileSAM"),
        (["stages.1.blocks.0.attn.qkv.lora_A.default.weight"], "an adapter (LoRA)"),
        (["head.fc.zero_point"], "a quantized network"),
        (["backbone.stages_1.x.weight"], "features_only=True"),
        (["stages.1.x.parametrizations.weight.original0"], "weight_norm"),
    ],
)
def test_other_kinds_of_networks_are_named(save: Save, names: list[str], reason: str) -> None:
    prefix = "image_encoder." if "SAM" in reason else ""
    state = {**add_prefix(make_state(), prefix), **{name: torch.ones(3) for name in names}}
    assert reason in refusal(save(state))
    assert names[0].removeprefix("image_encoder.") in refusal(save(state))


def test_networks_without_the_first_convolution_are_named(save: Save) -> None:
    state = make_state()
    del state["patch_embed.conv1.conv.weight"]
    fused = {**state, "patch_embed.conv1.weight": torch.ones(1)}
    assert "BatchNorms are merged into the convolutions" in refusal(save(fused))
    adapter = {f"base_model.model.x.lora_A.{i}": torch.ones(1) for i in range(20)}
    assert "an adapter (LoRA)" in refusal(save(adapter))


def test_quantized_complex_and_sparse_tensors_are_refused(save: Save) -> None:
    state = make_state()
    quantized = torch.quantize_per_tensor(state["head.fc.weight"], 0.1, 0, torch.qint8)
    values: tuple[tuple[torch.Tensor, str], ...] = (
        (quantized, "is quantized"),
        (state["head.fc.weight"].to(torch.complex64), "has complex numbers"),
        (state["head.fc.weight"].to_sparse(), "is sparse"),
        (state["head.fc.weight"].to("meta"), "has no values"),
    )
    for value, reason in values:
        message = refusal(save({**state, "head.fc.weight": value}))
        assert "head.fc.weight" in message
        assert reason in message


def test_a_whole_quantized_model_is_named(save: Save) -> None:
    network = Layer(make_state())
    network.head.fc = nn.Linear(6, 7)
    quantize = torch.ao.quantization.quantize_dynamic
    with pytest.warns(DeprecationWarning, match="quantization"):
        quantized = quantize(network, {nn.Linear})
    message = refusal(save(quantized))
    assert "a quantized network" in message
    assert "head.fc._packed_params" in message


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refusal(tmp_path / "pipe")


def test_a_torchscript_archive_is_called_one(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "model.pt"))
    recwarn.clear()
    assert "is a TorchScript archive" in refusal(tmp_path / "model.pt")
    assert "torch.jit.load(path).state_dict()" in refusal(tmp_path / "model.pt")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.onnx", b"\x08\x08\x12\x07pytorch" + b"\0" * 50, "is an ONNX model"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 50, "is an HDF5 file (of Keras or TensorFlow)"),
        ("a.tar", b"\0" * 257 + b"ustar" + b"\0" * 250, "is a tar archive"),
        ("a.pth.gz", b"\x1f\x8b\x08" + b"\0" * 50, "is a gzip archive"),
        ("a.tflite", b"\x1c\0\0\0TFL3" + b"\0" * 50, "is a LiteRT (TensorFlow Lite) model"),
        ("a.gguf", b"GGUF" + b"\0" * 50, "is a GGUF file"),
        ("a.xml", b'<?xml version="1.0"?>\n<net name="m" version="11">', "an OpenVINO model"),
        ("a.engine", b"ftrt" + b"\0" * 50, "is a TensorRT engine"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert reason in refusal(tmp_path / name)


def test_other_archives_and_pickles_are_named(tmp_path: Path) -> None:
    import pickle

    np.savez(tmp_path / "weights.npz", a=np.ones(2))
    assert "numpy.savez" in refusal(tmp_path / "weights.npz")
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"a": np.ones(2)}))
    assert "is a plain pickle" in refusal(tmp_path / "weights.pkl")


def write_folder(folder: Path, state: State, **config: Any) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(state, folder / "model.safetensors")


def test_a_folder_of_hugging_face(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_folder(folder, add_prefix(make_state(), "timm_model."), architecture="tiny_vit_5m_224")
    weights = read_weights(folder)
    check_tensors(weights, make_state())
    assert weights.prefix == "timm_model."
    assert weights.config == {"architecture": "tiny_vit_5m_224"}
    assert read_weights(folder / "model.safetensors").config == weights.config
    assert hash_weight_files(folder) == hash_weight_files(folder / "model.safetensors")


def test_a_config_of_something_else_is_not_used(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", make_state(), learning_rate=0.1)
    assert read_weights(tmp_path / "model").config == {}


def test_a_folder_with_a_file_of_torch(tmp_path: Path) -> None:
    torch.save(make_state(), tmp_path / "pytorch_model.bin")
    torch.save({}, tmp_path / "optimizer.pt")
    check_tensors(read_weights(tmp_path), make_state())
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "model_best.pth.tar")
    check_tensors(read_weights(tmp_path), make_state())
    torch.save(make_state(), tmp_path / "last.pth.tar")
    assert "contains 2 checkpoints (last.pth.tar, model_best.pth.tar)" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_with_split_weights(tmp_path: Path, kind: str) -> None:
    state = make_state()
    names = list(state)
    stem, suffix = kind.split(".")
    weight_map = {}
    for number, part in enumerate((names[:4], names[4:]), 1):
        file = f"{stem}-0000{number}-of-00002.{suffix}"
        content = {name: state[name] for name in part}
        weight_map.update(dict.fromkeys(part, file))
        if suffix == "bin":
            torch.save(content, tmp_path / file)
        else:
            safetensors.torch.save_file(content, tmp_path / file)
    index = tmp_path / f"{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    check_tensors(read_weights(tmp_path), state)
    assert len(hash_weight_files(tmp_path)) == 64
    (tmp_path / file).unlink()
    assert f"{file}, which {kind}.index.json names, is missing" in refusal(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../secret.bin"}}))
    assert "names the file ../secret.bin, which is not in its folder" in refusal(tmp_path)


def test_folders_without_weights_are_explained(tmp_path: Path) -> None:
    assert "it has no model.safetensors" in refusal(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "an adapter (LoRA)" in refusal(tmp_path)
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    assert "dcp_to_torch" in refusal(tmp_path)
