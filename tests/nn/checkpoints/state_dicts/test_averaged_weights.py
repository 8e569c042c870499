"""Averaged weights are found, also if the checkpoint names them in a special way."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
import torch

from tests.helpers.state_dicts import Save, State, add_prefix, check_tensors, make_state, refusal
from tinyvit.nn.checkpoints.weight_files import read_weights

BUFFER = "stages.0.blocks.0.conv1.bn.running_mean"


def make_parameters(state: State) -> list[torch.Tensor]:
    """Return the tensors of a state dict without the buffers, as torch_ema saves them."""
    return [value for name, value in state.items() if name != BUFFER]


@pytest.mark.parametrize("key", ["ema.shadow_params", "ema_params", "averaged.0"])
def test_averages_without_names_are_assigned_in_order(save: Save, key: str) -> None:
    averages: Any = make_parameters(make_state())
    for part in reversed(key.split(".")):
        averages = [averages] if part == "0" else {part: averages}
    weights = read_weights(save({"model": make_state(1.0), "epoch": 3, **averages}))
    expected = {**make_state(), BUFFER: torch.ones(8)}
    check_tensors(weights, expected)
    assert weights.notes == (
        f"the parameters are the averages in {key}, which have no names; they are assumed to be in"
        " the order of those in model, which has the buffers",
    )


def test_averages_without_names_that_do_not_fit_are_noted(save: Save) -> None:
    averages = {"shadow_params": make_parameters(make_state())[:-1], "decay": 0.99}
    weights = read_weights(save({"model": make_state(1.0), "ema": averages}))
    check_tensors(weights, make_state(1.0))
    (note,) = weights.notes
    assert note == (
        "not used: 15 tensors without names in ema.shadow_params, which may be averaged"
        " parameters, but cannot be assigned to the parameters in model"
    )


def test_lists_of_an_optimizer_are_no_averages(save: Save) -> None:
    optimizer = {"exp_avg": make_parameters(make_state())}
    weights = read_weights(save({"model": make_state(1.0), "optimizer": optimizer}))
    check_tensors(weights, make_state(1.0))
    assert weights.notes == ()


def test_the_averaged_network_of_ema_pytorch(save: Save) -> None:
    both = {
        **add_prefix(make_state(1.0), "online_model."),
        **add_prefix(make_state(), "ema_model."),
    }
    ema = {**both, "initted": torch.tensor(True), "step": torch.tensor(9)}
    for content in ({"model": make_state(1.0), "ema": ema}, {"ema": ema}, ema):
        weights = read_weights(save(content))
        check_tensors(weights, make_state())
        assert weights.prefix == "ema_model."
        assert "online_model; those in " in weights.ignored[0]


def test_two_averages_are_refused(save: Save) -> None:
    content = {"ema_1": make_state(1.0), "ema_2": make_state()}
    assert "several TinyViTs with different weights (ema_1, ema_2)" in refusal(save(content))
