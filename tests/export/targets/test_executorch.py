"""ExecuTorch artifacts compute what torch computes, nearly all of it in one delegate.

Most tests use a network with one block per stage, because ExecuTorch takes a minute for the demo,
whatever its image size.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("executorch")
pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import torch

from tests.helpers.demo_network import (
    SIZE,
    calibrate_on_noise,
    compute_exact_logits,
    compute_relative_error,
    load_small_demo,
    make_noise_input,
    make_noise_pixels,
)
from tinyvit.errors import RequestError
from tinyvit.export.targets.executorch.passes import rewrite_for_xnnpack
from tinyvit.export.targets.executorch.target import TARGET
from tinyvit.export.targets.executorch.writer import DELEGATE_CALL, ExecuTorchProgram
from tinyvit.export.tracing import trace
from tinyvit.labels import Label
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import OutputSpec, Precision, SourceCheckpoint, TensorSpec
from tinyvit.nn.attention import Attention
from tinyvit.nn.fold import fold_model
from tinyvit.nn.model import TinyViT
from tinyvit.preprocess import Preprocess
from tinyvit.quant.quantized_network import QuantizedLayer, quantize_network
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines.executorch import ENGINE
from tinyvit.runtimes.formats.pte_program import read_pte_program

ATTENTIONS = 3
GATHER = "aten::index_select.out"
QUANTIZE = "quantized_decomposed.quantize_per_tensor.default"
PREPROCESS = Preprocess(SIZE, SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    """A network of one block per stage in each precision.

    Its attention biases are random, so that a wrong gather changes the logits.
    """
    torch.manual_seed(0)
    variant = dataclasses.replace(load_small_demo().variant, depths=(1, 1, 1, 1))
    model = TinyViT(variant, 10, SIZE)
    for module in model.modules():
        if isinstance(module, Attention):
            torch.nn.init.normal_(module.attention_biases)
    folded = fold_model(model)
    int8 = quantize_network(folded, calibrate_on_noise(folded), TARGET.scheme)
    return {"float32": folded, "int8": int8.eval().requires_grad_(False)}


@pytest.fixture(scope="module")
def programs(networks: dict[str, Any]) -> dict[str, ExecuTorchProgram]:
    """The lowered network of each precision."""
    return {
        precision: TARGET.lower(trace(networks[precision]), PREPROCESS, "host", precision)
        for precision in PRECISIONS
    }


def count_operators(program: Any) -> Counter[str]:
    return Counter(str(node.target) for node in program.graph.nodes if node.op == "call_function")


def run_program(data: bytes, folder: Path, image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    path = folder / "a.pte"
    path.write_bytes(data)
    with ENGINE.open(Artifact(path, None), RuntimeOptions()) as runtime:
        return runtime.run(image)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_passes_keep_the_function(networks: dict[str, Any], precision: str) -> None:
    image, network = torch.from_numpy(make_noise_input()), networks[precision]
    program = trace(network).program
    rewritten = rewrite_for_xnnpack(program)
    tolerance = 1e-5 if precision == "float32" else 0.03
    expected = network(image).numpy()
    assert compute_relative_error(rewritten.module()(image).numpy(), expected) < tolerance
    before, after = count_operators(program), count_operators(rewritten)
    assert before["aten.layer_norm.default"] == 2 * ATTENTIONS + 1
    assert before["aten.matmul.default"] == 2 * ATTENTIONS
    replaced = {"aten.layer_norm.default", "aten.matmul.default", "aten.expand.default"}
    assert not replaced & after.keys()
    assert after["aten.index_select.default"] == ATTENTIONS
    # Queries, keys and values share one quantization.
    removed = 2 * ATTENTIONS if precision == "int8" else 0
    assert before[QUANTIZE] - after[QUANTIZE] == removed


def test_passes_keep_the_function_for_several_images(networks: dict[str, Any]) -> None:
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    rewritten = rewrite_for_xnnpack(trace(networks["float32"], batch=3).program)
    expected = networks["float32"](images).numpy()
    assert compute_relative_error(rewritten.module()(images).numpy(), expected) < 1e-5


@pytest.mark.slow
def test_a_file_can_normalize_pixels(networks: dict[str, Any], tmp_path: Path) -> None:
    normalized = torch.from_numpy(PREPROCESS.normalize(make_noise_pixels()))
    expected = networks["float32"](normalized).numpy()
    program = TARGET.lower(trace(networks["float32"]), PREPROCESS, "normalize", "float32")
    assert (
        compute_relative_error(run_program(program.data, tmp_path, make_noise_pixels()), expected)
        < 1e-5
    )
    assert program.operator_counts == {
        GATHER: ATTENTIONS,
        DELEGATE_CALL: 1,
        "dim_order_ops::_to_dim_order_copy.out": 1,
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_delegate_has_everything_but_the_gathers(
    programs: dict[str, ExecuTorchProgram], precision: str
) -> None:
    program = programs[precision]
    assert program.operator_counts == {GATHER: ATTENTIONS, DELEGATE_CALL: 1}
    contents = read_pte_program(program.data)
    assert (contents.delegates, contents.operators) == (("XnnpackBackend",), (GATHER,))
    assert contents.end == len(program.data)


def test_float32_logits_equal_torch(
    programs: dict[str, ExecuTorchProgram], networks: dict[str, Any], tmp_path: Path
) -> None:
    expected = networks["float32"](torch.from_numpy(make_noise_input())).numpy()
    actual = run_program(programs["float32"].data, tmp_path, make_noise_input())
    assert compute_relative_error(actual, expected) < 1e-5


def test_int8_logits_equal_exact_arithmetic(
    programs: dict[str, ExecuTorchProgram], networks: dict[str, Any], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).normal(size=(8, 1, 3, SIZE, SIZE)).astype(np.float32)
    expected = compute_exact_logits(networks["int8"], images[:, 0])
    errors = [
        compute_relative_error(run_program(programs["int8"].data, tmp_path, image), logits)
        for image, logits in zip(images, expected)
    ]
    # The processor may round a sum on the edge between two integers to either, and later values
    # then differ. A wrong scale would make all images differ.
    assert sum(error < 1e-5 for error in errors) >= 2
    assert max(errors) < 0.2


def test_int8_weights_take_one_byte_each(
    programs: dict[str, ExecuTorchProgram], networks: dict[str, Any]
) -> None:
    int8_weights = sum(
        layer.weight.numel()
        for layer in networks["int8"].modules()
        if isinstance(layer, QuantizedLayer)
    )
    saved_bytes = len(programs["float32"].data) - len(programs["int8"].data)
    assert 0.9 < saved_bytes / (3 * int8_weights) < 1


@pytest.mark.slow
def test_same_network_gives_the_same_bytes(
    programs: dict[str, ExecuTorchProgram], networks: dict[str, Any]
) -> None:
    repeated = TARGET.lower(trace(networks["int8"]), PREPROCESS, "host", "int8")
    assert repeated.data == programs["int8"].data


def test_unsupported_requests_are_refused_and_nothing_is_printed(
    networks: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RequestError, match="fixed batch"):
        TARGET.lower(trace(networks["float32"], batch=None), PREPROCESS, "host", "float32")
    with pytest.raises(RequestError, match="normalize"):
        TARGET.lower(trace(networks["float32"]), PREPROCESS, "full", "float32")
    assert capfd.readouterr() == ("", "")


def test_manifest_is_in_an_archive_behind_the_program(
    programs: dict[str, ExecuTorchProgram], tmp_path: Path
) -> None:
    program, path = programs["float32"], tmp_path / "with.pte"
    manifest = Manifest(
        model="test",
        variant="test",
        img_size=SIZE,
        target="executorch",
        precision="float32",
        embedded_preprocessing="host",
        input=TensorSpec("image", (1, 3, SIZE, SIZE), "float32", "NCHW"),
        outputs=(OutputSpec("logits", (1, 10), "float32", "NC"),),
        preprocess=PREPROCESS,
        labels=tuple(Label(f"thing {i}", f"n{i:08}") for i in range(10)),
        source=SourceCheckpoint("invented", "0" * 64),
        license="mit",
        tools={},
    )
    assert program.save(path, manifest) == [path]
    data = path.read_bytes()
    assert data[: read_pte_program(data).end] == program.data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert Manifest.from_json(archive.read("tinyvit.json").decode()) == manifest
        assert archive.read("labels.txt").decode().splitlines()[3] == "thing 3"
    with_archive = run_program(data, tmp_path, make_noise_input())
    assert np.array_equal(with_archive, run_program(program.data, tmp_path, make_noise_input()))
