"""A network lowered for ExecuTorch: the same function, in one delegate, with what is left outside of it known.

A cut-down network: ExecuTorch takes a minute for the demo, whatever its size in pixels.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("executorch")
pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import torch

from tinyvit.errors import RequestError
from tinyvit.export.targets.executorch.passes import tune
from tinyvit.export.targets.executorch.target import TARGET
from tinyvit.export.tracing import trace
from tinyvit.labels import Label
from tinyvit.manifest import Manifest, SourceCheckpoint, TensorSpec
from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.nn.model import Attention, TinyViT
from tinyvit.preprocess import Preprocess
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.quantized_layers import QuantizedLayer
from tinyvit.quant.quantized_network import quantize_network, with_exact_arithmetic
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines import _pte
from tinyvit.runtimes.engines.executorch import ENGINE

SIZE = 64
ATTENTIONS, GATHER = 3, "aten::index_select.out"
PREPROCESS = Preprocess(SIZE, SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


@pytest.fixture(scope="module")
def networks():
    """One block a stage, in float32 and in int8; biases that differ, so that a wrong gather shows."""
    torch.manual_seed(0)
    model = TinyViT(
        dataclasses.replace(load_released("demo").variant, depths=(1, 1, 1, 1)), 10, SIZE
    )
    for module in model.modules():
        if isinstance(module, Attention):
            torch.nn.init.normal_(module.attention_biases)
    folded = fold_model(model)
    recipe = Recipe("abc", SIZE, calibrate(folded, torch.randn(8, 3, SIZE, SIZE)), 7, (), "", "", 8)
    return {
        "float32": folded,
        "int8": quantize_network(folded, recipe, TARGET.placement).eval().requires_grad_(False),
    }


@pytest.fixture(scope="module")
def lowered(networks):
    return {
        name: TARGET.lower(trace(network), PREPROCESS, "host") for name, network in networks.items()
    }


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)


def kinds(program) -> Counter[str]:
    return Counter(str(node.target) for node in program.graph.nodes if node.op == "call_function")


def answer(data: bytes, folder, x):
    path = folder / "a.pte"
    path.write_bytes(data)
    with ENGINE.open(Artifact(path, None), RuntimeOptions()) as runtime:
        return runtime.run(x)


def far(got, wanted) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_tuning_keeps_the_function(networks, image, precision):
    x, network = torch.from_numpy(image), networks[precision]
    program = trace(network).program
    tuned = tune(program)
    assert far(tuned.module()(x).numpy(), network(x).numpy()) < (
        1e-5 if precision == "float32" else 0.03
    )
    before, after = kinds(program), kinds(tuned)
    assert before["aten.layer_norm.default"] == 2 * ATTENTIONS + 1
    assert before["aten.matmul.default"] == 2 * ATTENTIONS
    assert (
        not {"aten.layer_norm.default", "aten.matmul.default", "aten.expand.default"} & after.keys()
    )
    assert after["aten.index_select.default"] == ATTENTIONS
    rounding = "quantized_decomposed.quantize_per_tensor.default"
    assert before[rounding] - after[rounding] == (2 * ATTENTIONS if precision == "int8" else 0), (
        "queries, keys and values share one"
    )


def test_several_images_at_once(networks):
    x = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    tuned = tune(trace(networks["float32"], batch=3).program)
    assert far(tuned.module()(x).numpy(), networks["float32"](x).numpy()) < 1e-5


def test_normalizing_in_the_file(networks, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    wanted = networks["float32"](torch.from_numpy(PREPROCESS.normalize(pixels))).numpy()
    made = TARGET.lower(trace(networks["float32"]), PREPROCESS, "normalize")
    assert far(answer(made.data, tmp_path, pixels), wanted) < 1e-5
    assert made.outside == {
        GATHER: ATTENTIONS,
        "executorch_call_delegate": 1,
        "dim_order_ops::_to_dim_order_copy.out": 1,
    }


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_one_delegate_has_all_but_the_gathers(lowered, precision):
    assert lowered[precision].outside == {GATHER: ATTENTIONS, "executorch_call_delegate": 1}
    program = _pte.read_pte_program(lowered[precision].data)
    assert (program.delegates, program.operators) == (("XnnpackBackend",), (GATHER,))
    assert program.end == len(lowered[precision].data)


def test_float32_answers_as_torch(lowered, networks, image, tmp_path):
    assert (
        far(
            answer(lowered["float32"].data, tmp_path, image),
            networks["float32"](torch.from_numpy(image)).numpy(),
        )
        < 1e-5
    )


def test_int8_answers_as_its_exact_reading(lowered, networks, tmp_path):
    images = np.random.default_rng(0).normal(size=(8, 1, 3, SIZE, SIZE)).astype(np.float32)
    wanted = with_exact_arithmetic(networks["int8"])(
        torch.from_numpy(images[:, 0]).double()
    ).numpy()
    apart = [
        far(answer(lowered["int8"].data, tmp_path, image), one)
        for image, one in zip(images, wanted)
    ]
    # On an edge a sum may fall to either integer, by the processor's own rounding, and what follows parts: a wrong scale parts all.
    assert sum(one < 1e-5 for one in apart) >= 2
    assert max(apart) < 0.2


def test_int8_weights_are_stored_so(lowered, networks):
    integers = sum(
        layer.weight.numel()
        for layer in networks["int8"].modules()
        if isinstance(layer, QuantizedLayer)
    )
    saved = len(lowered["float32"].data) - len(lowered["int8"].data)
    assert 0.9 < saved / (3 * integers) < 1


def test_the_same_bytes_again(lowered, networks):
    assert TARGET.lower(trace(networks["int8"]), PREPROCESS, "host").data == lowered["int8"].data


def test_it_is_said_without_a_word(networks, capfd):
    with pytest.raises(RequestError, match="fixed batch"):
        TARGET.lower(trace(networks["float32"], batch=None), PREPROCESS, "host")
    with pytest.raises(RequestError, match="normalize"):
        TARGET.lower(trace(networks["float32"]), PREPROCESS, "full")
    assert capfd.readouterr() == ("", "")


def test_the_manifest_stands_behind_the_program(lowered, image, tmp_path):
    spec = TensorSpec("image", (1, 3, SIZE, SIZE), "float32", "NCHW")
    labels = tuple(Label(f"thing {i}", f"n{i:08}") for i in range(10))
    manifest = Manifest(
        "test", "test", SIZE, "executorch", "float32", "host", spec, TensorSpec("logits", (1, 10), "float32", "NC"),
        PREPROCESS, labels, SourceCheckpoint("made up", "0" * 64), "mit", {},
    )  # fmt: skip
    path = tmp_path / "with.pte"
    assert lowered["float32"].save(path, manifest) == [path]
    data = path.read_bytes()
    assert data[: _pte.read_pte_program(data).end] == lowered["float32"].data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert Manifest.from_json(archive.read("tinyvit.json").decode()) == manifest
        assert archive.read("labels.txt").decode().splitlines()[3] == "thing 3"
    assert np.array_equal(
        answer(data, tmp_path, image), answer(lowered["float32"].data, tmp_path, image)
    )
