"""Quantization-aware training computes what the exported int8 network computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.distill_data import write_class_folders
from tinyvit.distill.logits.save import save_logits
from tinyvit.distill.logits.teacher_predictions import LogitsRequest
from tinyvit.distill.training import trainer
from tinyvit.distill.training.network.qat import (
    TRAINING_SCHEME,
    FakeQuantize,
    add_fake_quantization,
    make_checkpoint_state,
)
from tinyvit.distill.training.network.student import save_checkpoint
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.train import train_student
from tinyvit.errors import RequestError
from tinyvit.files.file_io import sha256
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.nn.fold import fold_model, unfold_model
from tinyvit.nn.model import TinyViT
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.channel_ranges.equalization import Equalization
from tinyvit.quant.observers import METHOD
from tinyvit.quant.quantized_layers import ActivationQuantizer
from tinyvit.quant.quantized_network import (
    attention_modules,
    quantizable_layers,
    quantize_network,
)
from tinyvit.quant.recipe import Recipe, read_recipe
from tinyvit.quant_scheme import QuantScheme

IMAGES = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folded() -> TinyViT:
    """The demo model at 64 pixels, folded."""
    return fold_model(load_released("demo").at_size(64, "scaled").build())


@pytest.fixture(scope="module")
def recipe(folded: TinyViT) -> Recipe:
    """A recipe for `folded` with 7-bit weights, calibrated on noise."""
    return Recipe("abc", 64, calibrate(folded, IMAGES), 7, (), METHOD, "def", 8)


def test_unfolding_reverses_folding(folded: TinyViT) -> None:
    original = load_released("demo").at_size(64, "scaled").build()
    back = unfold_model(folded)
    assert back.state_dict().keys() == original.state_dict().keys()
    again = fold_model(back)
    for name, value in folded.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-6, atol=1e-7)
    with torch.inference_mode():
        torch.testing.assert_close(back(IMAGES), original(IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "scheme",
    [
        TRAINING_SCHEME,
        QuantScheme("uint8", quantized_outputs="convolutions", attention=False),
        QuantScheme(attention=False),
        QuantScheme(),
    ],
)
@pytest.mark.parametrize("bits", [4, 7, 8])
def test_fake_quantization_rounds_as_the_exported_network_does(
    folded: TinyViT, recipe: Recipe, scheme: QuantScheme, bits: int
) -> None:
    """Compares module by module, each with its input in the quantized network.

    Through the whole network, a value that one module rounds to the other side would grow to as
    much as rounding itself."""
    recipe = replace(recipe, weight_bits=bits)
    expected, actual = (
        quantize_network(folded, recipe, scheme),
        add_fake_quantization(folded, recipe, scheme).eval(),
    )
    names = [name for name, _ in quantizable_layers(folded)]
    names += [
        f"{name}.{part}" for name, _ in attention_modules(folded) for part in ("softmax", "proj")
    ]
    outputs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name in names:
        expected.get_submodule(name).register_forward_hook(
            lambda _, inputs, result, name=name: outputs.update({name: (inputs[0], result)})
        )
    with torch.inference_mode():
        expected(IMAGES)
        for name in names:
            inputs, result = outputs[name]
            apart = (actual.get_submodule(name)(inputs) - result).abs() > 1e-3 * result.abs().max()
            # Without one of its roundings, most are apart. With 4 bits, some inputs lie between two
            # integers, and float32 rounds up to 7% of the outputs of a layer to the other one.
            assert apart.float().mean().item() < 0.1, name
    assert sum(isinstance(module, FakeQuantize) for module in actual.modules()) == sum(
        isinstance(m, ActivationQuantizer) for m in expected.modules()
    )


def test_float_units_stay_float(folded: TinyViT, recipe: Recipe) -> None:
    names = ("stages.1.blocks.0.mlp.fc1", "stages.2.blocks.0.attn")
    recipe = recipe.with_more_float_units(names)
    assert type(add_fake_quantization(folded, recipe).get_submodule(names[0])) is torch.nn.Linear
    with torch.inference_mode():
        expected = quantize_network(folded, recipe, TRAINING_SCHEME)(IMAGES)
        assert (
            add_fake_quantization(folded, recipe)(IMAGES) - expected
        ).abs().max() < 0.1 * expected.abs().max()


def test_gradients_reach_every_weight(folded: TinyViT, recipe: Recipe) -> None:
    network = add_fake_quantization(folded, recipe).train()
    network(IMAGES).square().mean().backward()
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


def test_the_checkpoint_has_the_weights_that_were_trained(folded: TinyViT, recipe: Recipe) -> None:
    network = add_fake_quantization(folded, recipe)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(
                0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
            )
    back = load_released("demo").at_size(64, "scaled").build()
    back.load_state_dict(make_checkpoint_state(network))
    with torch.inference_mode():
        expected, actual = (
            network.eval()(IMAGES),
            add_fake_quantization(fold_model(back.eval()), recipe).eval()(IMAGES),
        )
    assert (actual - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.slow
def test_a_run_leaves_a_checkpoint_and_its_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load_released("demo").at_size(32, "scaled")
    init = tmp_path / "init.safetensors"
    assert source.labels is not None
    save_checkpoint(init, source.state_dict, source.labels, source.preprocess, "mit")
    image_folder = write_class_folders(tmp_path / "p", images_per_class=12)
    store = save_logits(
        LogitsRequest(image_folder, (str(init),), 1, tmp_path / "s", top_k=10, precision="float32")
    )
    config = replace(PRESETS["qat"], epochs=1, batch=4, precision="float32")
    request = TrainingRequest(
        image_folder,
        tmp_path / "run",
        config,
        init=init,
        logits=store.folder,
        classes="teacher",
        workers=0,
        qat="",
        weight_bits=4,
    )
    train_student(request)
    result, recipe = (
        load_checkpoint(tmp_path / "run" / "best.safetensors"),
        read_recipe(tmp_path / "run" / "recipe.json"),
    )
    assert (recipe.checkpoint_sha256, recipe.img_size, recipe.weight_bits) == (result.sha256, 32, 4)
    assert result.labels == source.labels
    _interrupt_and_resume(replace(request, output=tmp_path / "again"), monkeypatch)
    for name in ("best.safetensors", "recipe.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    with pytest.raises(RequestError, match="recipe of another checkpoint"):
        train_student(
            replace(request, output=tmp_path / "other", qat=str(tmp_path / "run" / "recipe.json"))
        )
    other_size = tmp_path / "other_size.json"
    replace(recipe, checkpoint_sha256=sha256(init), img_size=64).save(other_size)
    with pytest.raises(RequestError, match="of this one at another image size"):
        train_student(replace(request, output=tmp_path / "size", qat=str(other_size)))
    init_recipe = replace(recipe, checkpoint_sha256=sha256(init))
    for number, other_recipe in enumerate(
        (replace(init_recipe, mean=(0.5, 0.5, 0.5)), replace(init_recipe, std=(0.5, 0.5, 0.5)))
    ):
        path = tmp_path / f"other_normalization_{number}.json"
        other_recipe.save(path)
        with pytest.raises(RequestError, match="or with another mean or std: use --qat without"):
            train_student(replace(request, output=tmp_path / "normalization", qat=str(path)))
    path = tmp_path / "equalized.json"
    values = {"stages.1.blocks.0.attn.qkv.v": (3,) * 128}
    replace(init_recipe, equalization=Equalization(exponents=values)).save(path)
    with pytest.raises(RequestError, match="equalizes outlier channels of the network"):
        train_student(replace(request, output=tmp_path / "equalized", qat=str(path)))
    with pytest.raises(RequestError, match="cannot change the image size"):
        train_student(replace(request, output=tmp_path / "third", img_size=64))
    with pytest.raises(
        RequestError,
        match="--qat needs a trained checkpoint, and a store of the checkpoint's own predictions",
    ):
        train_student(replace(request, output=tmp_path / "fourth", logits=None, classes="folders"))


def _interrupt_and_resume(request: TrainingRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    real = trainer.TrainingRun.step

    def interrupt(run: trainer.TrainingRun, batch: object, rate: float) -> float:
        if run.state.step == 4:
            raise KeyboardInterrupt
        return real(run, batch, rate)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "SAVE_INTERVAL_S", 0.0)
    monkeypatch.setattr(trainer.TrainingRun, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_student(request)
    monkeypatch.setattr(trainer.TrainingRun, "step", real)
    train_student(request)
