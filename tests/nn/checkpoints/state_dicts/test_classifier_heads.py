"""The classifier is found whatever its name is, or refused with the names of its tensors."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
import torch

from tests.helpers.state_dicts import (
    Save,
    add_prefix,
    check_tensors,
    make_state,
    refusal,
    without_classifier,
)
from tinyvit.nn.checkpoints.weight_files import read_weights


@pytest.mark.parametrize(
    "names",
    [
        ("head.fc.1.weight", "head.fc.1.bias"),
        ("head.classifier.weight", "head.classifier.bias"),
        ("classifier.weight", "classifier.bias"),
        ("head.3.weight", "head.3.bias"),
    ],
)
def test_a_renamed_classifier_inside_the_network(save: Save, names: tuple[str, str]) -> None:
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


@pytest.mark.parametrize("key", ["linear", "head", "fc", "classifier.0"])
def test_a_classifier_in_a_dict_beside_the_network(save: Save, key: str) -> None:
    state = make_state()
    name, _, inside = key.partition(".")
    prefix = f"{inside}." if inside else ""
    head = {
        f"{prefix}weight": state["head.fc.weight"],
        f"{prefix}bias": state["head.fc.bias"],
    }
    content = {"backbone": without_classifier(state), name: head, "loss": {"weight": torch.ones(7)}}
    weights = read_weights(save({"best": content}))
    check_tensors(weights, state)
    assert weights.ignored == ("1 tensor of other modules (loss.weight)",)
    assert f"the classifier is {key}, which the file has outside" in weights.notes[0]


def test_classifiers_in_dicts_that_cannot_be_used_are_named(save: Save) -> None:
    body = without_classifier(make_state())
    layers = {"0.weight": torch.ones(5, 6), "2.weight": torch.ones(7, 5)}
    assert "(head.0.weight, head.2.weight)" in refusal(save({"backbone": body, "head": layers}))
    probe = {"weight": torch.ones(3, 6), "bias": torch.ones(3)}
    message = refusal(save({"backbone": make_state(), "linear": probe}))
    assert "has the classifier head.fc.weight and other layers" in message
    assert "(linear.weight)" in message


def test_a_classifier_without_bias_and_one_that_is_a_convolution(save: Save) -> None:
    state = make_state()
    weight, bias = state.pop("head.fc.weight"), state.pop("head.fc.bias")
    weights = read_weights(save({**state, "head.fc.weight": weight}))
    assert weights.tensors["head.fc.bias"].tolist() == [0] * 7
    assert "has no bias" in weights.notes[0]
    convolution = {"head.fc.weight": weight[:, :, None, None], "head.fc.bias": bias}
    check_tensors(read_weights(save({**state, **convolution})), make_state())


def test_a_network_without_a_classifier_has_no_tensors_of_one(save: Save) -> None:
    weights = read_weights(save({"state_dict": without_classifier(make_state())}))
    check_tensors(weights, without_classifier(make_state()))


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"head.fc.0.weight": (5, 6), "head.fc.3.weight": (7, 5)}, "head.fc.0.weight, head.fc.3"),
        ({"head.fc.0.weight": (6,), "head.fc.1.weight": (7, 6)}, "head.fc.0.weight, head.fc.1"),
        ({"color.weight": (7, 6), "shape.weight": (3, 6)}, "color.weight, shape.weight"),
    ],
)
def test_other_classifiers_are_refused_with_their_keys(
    save: Save, shapes: dict[str, tuple[int, ...]], reason: str
) -> None:
    state = {
        **without_classifier(make_state()),
        **{name: torch.ones(shape) for name, shape in shapes.items()},
    }
    assert reason in refusal(save(state))


@pytest.mark.parametrize("classifier", [(7, 6), (7, 5)])
def test_a_hidden_layer_of_timm_is_refused_as_such(save: Save, classifier: tuple[int, int]) -> None:
    """timm's `head_hidden_size` adds `head.pre_logits.fc` before the classifier."""
    state = {
        **make_state(),
        "head.pre_logits.fc.weight": torch.ones(5, 6),
        "head.pre_logits.fc.bias": torch.ones(5),
        "head.fc.weight": torch.ones(classifier),
    }
    message = refusal(save(state))
    assert "is not a single linear layer of 6 features" in message
    assert "(head.fc.weight, head.pre_logits.fc.bias, head.pre_logits.fc.weight)" in message
    assert "train a TinyViT with a single linear layer as its classifier" in message


def test_a_classifier_of_another_width_is_read(save: Save) -> None:
    """Its shape is checked later, with those of all other tensors."""
    state = {**without_classifier(make_state()), "head.fc.weight": torch.ones(7, 12)}
    assert read_weights(save(state)).tensors["head.fc.weight"].shape == (7, 12)


@pytest.mark.parametrize("shape", [(9, 7), (9, 6), (9, 7, 1, 1), (9, 6, 1, 1)])
def test_layers_that_could_follow_the_classifier_are_refused(
    save: Save, shape: tuple[int, ...]
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


@pytest.mark.parametrize("shape", [(3,), (4, 2, 3), (7,)])
def test_a_module_beside_a_complete_network_is_left_out(save: Save, shape: tuple[int, ...]) -> None:
    weights = read_weights(save({**make_state(), "foo.bar": torch.ones(shape)}))
    check_tensors(weights, make_state())
    assert weights.ignored == ("1 tensor of other modules (foo.bar)",)


@pytest.mark.parametrize("shape", [(9, 7), (9, 6), (9, 7, 1, 1), (9, 6, 1, 1)])
def test_a_second_classifier_beside_a_complete_network_is_refused(
    save: Save, shape: tuple[int, ...]
) -> None:
    message = refusal(save({**make_state(), "foo.weight": torch.ones(shape)}))
    assert "has the classifier head.fc.weight and other layers" in message
    assert "(foo.weight)" in message


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("stages.0.foo.bar", (3,)),
        ("head.foo.bar", (3,)),
        ("fc_norm.weight", (6,)),
        ("scale", (3,)),
        ("foo.weight", (9, 7, 3, 3)),
    ],
)
def test_tensors_that_the_network_may_use_are_kept(
    save: Save, name: str, shape: tuple[int, ...]
) -> None:
    weights = read_weights(save({**make_state(), name: torch.ones(shape)}))
    assert name in weights.tensors  # and loading the network refuses it as unexpected
    assert weights.ignored == ()
