"""LiteRT as a target: the same function, whole in XNNPACK, integers where the recipe says, and what mobile developers look for in it."""

from __future__ import annotations

import dataclasses
import struct
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("litert_torch")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnx")

import flatbuffers
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tinyvit.errors import RequestError
from tinyvit.export.manifest_builder import build_manifest
from tinyvit.export.targets.litert import metadata as metadata_litert
from tinyvit.export.targets.litert import passes as tune_litert
from tinyvit.export.targets.litert.target import TARGET, LiteRtModel
from tinyvit.export.tracing import Graph, trace
from tinyvit.manifest import Manifest
from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.quantized_network import quantize_network, with_exact_arithmetic
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines.litert import ENGINE

SIZE = 64
SOURCE = load_released("demo").at_size(SIZE)
LAYERS = {"FULLY_CONNECTED": 60 + 1, "CONV_2D": 11 + 1, "DEPTHWISE_CONV_2D": 2 + 13}
"""Integers and floats: the first convolution, later depthwise ones and the classifier stay float32 (placement.FLOAT_LAYERS)."""


def manifest(precision: Any = "float32", stage: Any = "host") -> Manifest:
    return dataclasses.replace(
        build_manifest(SOURCE, SOURCE.labels, 1, stage, precision), target="litert"
    )


@pytest.fixture(scope="module")
def folded() -> Any:
    return fold_model(SOURCE.build())


@pytest.fixture(scope="module")
def recipe(folded: Any) -> Recipe:
    noise = torch.randn(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return Recipe("abc", SIZE, calibrate(folded, noise), 7, (), "", "", 8)


@pytest.fixture(scope="module")
def networks(folded: Any, recipe: Recipe) -> dict[str, Any]:
    return {"float32": folded, "int8": quantize_network(folded, recipe, TARGET.placement)}


@pytest.fixture(scope="module")
def lowered(networks: dict[str, Any]) -> dict[str, LiteRtModel]:
    return {
        name: TARGET.lower(trace(network), SOURCE.preprocess, "host")
        for name, network in networks.items()
    }


@pytest.fixture(scope="module")
def files(
    lowered: dict[str, LiteRtModel], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("litert")
    for name, model in lowered.items():
        assert model.save(folder / f"{name}.tflite", manifest(name)) == [folder / f"{name}.tflite"]
    return {name: folder / f"{name}.tflite" for name in lowered}


def read(path: Path) -> Any:
    return schema.ModelT.InitFromPackedBuf(path.read_bytes())


def kinds(model: Any) -> Counter[str]:
    """Operators by kind and the type of what they make."""
    names = {
        value: name
        for name, value in vars(schema.BuiltinOperator).items()
        if isinstance(value, int)
    }
    types = {
        value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)
    }
    graph = model.subgraphs[0]
    return Counter(
        f"{names[tune_litert._code(model, operator)]} {types[graph.tensors[operator.outputs[0]].type]}"
        for operator in graph.operators
    )


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("int8", 0.03)])
def test_the_function_is_the_same(
    files: Any, networks: Any, precision: str, tolerance: float
) -> None:
    with (
        ENGINE.open(Artifact(files[precision], None), RuntimeOptions(threads=1)) as runtime,
        torch.no_grad(),
    ):
        assert (runtime.inputs[0].name, runtime.inputs[0].shape, runtime.inputs[0].layout) == (
            "image",
            (1, SIZE, SIZE, 3),
            "NHWC",
        )
        assert (runtime.outputs[0].name, runtime.outputs[0].shape) == ("logits", (1, 10))
        for seed in range(3):
            want = with_exact_arithmetic(networks[precision])(
                torch.from_numpy(picture(seed)).double()
            ).numpy()
            got = runtime.run(picture(seed).transpose(0, 2, 3, 1))
            assert np.abs(got - want).max() < tolerance * np.abs(want).max()


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_xnnpack_takes_the_whole_network(files: Any, precision: str) -> None:
    interpreter = Interpreter(str(files[precision]))
    interpreter.allocate_tensors()
    delegates = [node for node in interpreter._get_ops_details() if node["op_name"] == "DELEGATE"]
    assert len(delegates) == 1
    assert set(delegates[0]["outputs"]) == {interpreter.get_output_details()[0]["index"]}
    assert interpreter.get_input_details()[0]["index"] in delegates[0]["inputs"]


def test_every_layer_of_the_recipe_is_in_integers(files: Any) -> None:
    found = kinds(read(files["int8"]))
    assert {name: found[f"{name} INT8"] for name in LAYERS} == {
        "FULLY_CONNECTED": 60,
        "CONV_2D": 11,
        "DEPTHWISE_CONV_2D": 2,
    }
    assert {name: found[f"{name} FLOAT32"] + found[f"{name} INT8"] for name in LAYERS} == LAYERS
    assert found["GELU INT8"] == 0, "which XNNPACK does not take"
    assert found["GELU FLOAT32"] == 23


def test_scales_are_the_recipes(files: Any, recipe: Recipe) -> None:
    model = read(files["int8"])
    known = {np.float32(scale) for scale in recipe.scales.values()}
    used = {
        np.float32(tensor.quantization.scale[0])
        for tensor in model.subgraphs[0].tensors
        if tensor.type == schema.TensorType.INT8
        and tensor.quantization.scale is not None
        and len(tensor.quantization.scale) == 1
    }
    assert len(used) > 80
    assert used <= known


def test_weights_are_the_recipes_integers(files: Any, networks: Any) -> None:
    model, want = read(files["int8"]), []
    graph = model.subgraphs[0]
    held = {
        bytes(model.buffers[tensor.buffer].data)
        for tensor in graph.tensors
        if tensor.type == schema.TensorType.INT8
        and tensor.buffer
        and model.buffers[tensor.buffer].data is not None
    }
    for module in networks["int8"].modules():
        if hasattr(module, "rounds_weights"):
            weight = module.weight.numpy()
            if weight.ndim == 4:
                weight = (
                    weight.transpose(1, 2, 3, 0)
                    if module.convolution[2] > 1
                    else weight.transpose(0, 2, 3, 1)
                )
            want.append(np.ascontiguousarray(weight).tobytes())
    assert len(want) == 73
    assert set(want) <= held


def test_norms_are_seven_operations() -> None:
    class Norm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain, self.scaled = (
                torch.nn.LayerNorm(8, 1e-3, elementwise_affine=False),
                torch.nn.LayerNorm(8),
            )
            torch.nn.init.normal_(self.scaled.weight)
            torch.nn.init.normal_(self.scaled.bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.scaled(self.plain(x) * 3)

    norm, x = Norm().eval(), torch.randn(5, 8)
    network = torch.export.export(norm, (x,)).module()
    tune_litert.write_norms_out(network)
    assert torch.allclose(network(x), norm(x), atol=1e-6)
    assert not any(node.target is torch.ops.aten.layer_norm.default for node in network.graph.nodes)
    assert (
        sum(
            node.op == "call_function" and "aten" in str(node.target)
            for node in network.graph.nodes
        )
        == 2 * 7 + 2 + 1
    )


def test_the_same_bytes_twice(files: Any, lowered: Any, folded: Any, tmp_path: Path) -> None:
    lowered["int8"].save(tmp_path / "again.tflite", manifest("int8"))
    assert (tmp_path / "again.tflite").read_bytes() == files["int8"].read_bytes()
    TARGET.lower(trace(folded), SOURCE.preprocess, "host").save(
        tmp_path / "made again.tflite", manifest()
    )
    assert (tmp_path / "made again.tflite").read_bytes() == files["float32"].read_bytes()


def test_no_trace_of_the_converters_run(files: Any) -> None:
    model = read(files["float32"])
    assert {
        tensor.name for tensor in model.subgraphs[0].tensors if not tensor.name.startswith(b"t")
    } == {b"image", b"logits"}
    assert {entry.name for entry in model.metadata} == {
        b"min_runtime_version",
        metadata_litert.BUFFER.encode(),
    }
    assert b"site-packages" not in files["float32"].read_bytes()


def test_buffers_are_aligned(files: Any) -> None:
    model = schema.Model.GetRootAs(files["int8"].read_bytes(), 0)
    starts = [
        model.Buffers(i)._tab.Vector(model.Buffers(i)._tab.Offset(4))
        for i in range(model.BuffersLength())
        if model.Buffers(i).DataLength()
    ]
    assert len(starts) > 100
    assert not any(start % tune_litert.ALIGNMENT for start in starts)


def test_pixels_and_nothing_is_said(
    folded: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of the stage "normalize": uint8, and the interpreter knows them as multiples of 1."""
    path, graph = tmp_path / "pixels.tflite", trace(folded)
    capfd.readouterr()
    TARGET.lower(graph, SOURCE.preprocess, "normalize").save(path, manifest(stage="normalize"))
    assert capfd.readouterr() == ("", "")
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    with ENGINE.open(Artifact(path, None), RuntimeOptions(threads=1)) as runtime, torch.no_grad():
        assert (runtime.inputs[0].shape, runtime.inputs[0].dtype, runtime.inputs[0].layout) == (
            (1, SIZE, SIZE, 3),
            "uint8",
            "NHWC",
        )
        want = folded(torch.from_numpy(SOURCE.preprocess.normalize(pixels))).numpy()
        assert np.abs(runtime.run(pixels) - want).max() < 1e-5 * np.abs(want).max()
    assert kinds(read(path))["CAST FLOAT32"] == 0, "which XNNPACK does not take"
    assert metadata(path)["mean"] == (0, 0, 0)


def test_half(files: Any, lowered: Any, networks: Any, tmp_path: Path) -> None:
    path, again = tmp_path / "half.tflite", tmp_path / "again.tflite"
    model = LiteRtModel(read(files["float32"]))
    model.save(path, manifest("float16"))
    model.save(again, manifest("float16"))
    assert path.read_bytes() == again.read_bytes()
    assert path.stat().st_size < 0.52 * files["float32"].stat().st_size
    test_xnnpack_takes_the_whole_network({"float16": path}, "float16")
    with ENGINE.open(Artifact(path, None), RuntimeOptions(threads=1)) as runtime, torch.no_grad():
        want = networks["float32"](torch.from_numpy(picture())).numpy()
        difference = (
            np.abs(runtime.run(picture().transpose(0, 2, 3, 1)) - want).max() / np.abs(want).max()
        )
        assert 0 < difference < 5e-3


def test_only_large_floats_of_an_int8_file_are_halved(files: Any) -> None:
    model = read(files["int8"])
    graph = model.subgraphs[0]
    floats = {
        i: len(model.buffers[x.buffer].data)
        for i, x in enumerate(graph.tensors)
        if x.type == 0 and model.buffers[x.buffer].data is not None
    }
    least = sorted(floats.values())[len(floats) // 2]
    tune_litert.halve(model, least)
    assert {i for i, x in enumerate(graph.tensors) if x.type == schema.TensorType.FLOAT16} == {
        i for i in floats if floats[i] >= least
    }
    assert kinds(model)["DEQUANTIZE FLOAT32"] - kinds(read(files["int8"]))[
        "DEQUANTIZE FLOAT32"
    ] == sum(x >= least for x in floats.values())


def table(data: bytes, at: int) -> flatbuffers.table.Table:
    return flatbuffers.table.Table(data, at)


def field(found: Any, slot: int) -> Any:
    """The table at a slot."""
    return table(found.Bytes, found.Indirect(found.Pos + found.Offset(4 + 2 * slot)))


def text(found: Any, slot: int) -> str:
    return str(found.String(found.Pos + found.Offset(4 + 2 * slot)).decode())


def first(found: Any, slot: int) -> Any:
    """The first table of a vector, which has one."""
    offset = found.Offset(4 + 2 * slot)
    assert found.VectorLen(offset) == 1
    return table(found.Bytes, found.Indirect(found.Vector(offset)))


def floats(found: Any, slot: int) -> tuple[float, ...]:
    offset = found.Offset(4 + 2 * slot)
    return struct.unpack_from(f"<{found.VectorLen(offset)}f", found.Bytes, found.Vector(offset))


def byte(found: Any, slot: int) -> int:
    return int(found.Bytes[found.Pos + found.Offset(4 + 2 * slot)])


def metadata(path: Path) -> dict[str, Any]:
    """By the slots of metadata_schema.fbs, written down here a second time."""
    model = read(path)
    (entry,) = (entry for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    data = bytes(model.buffers[entry.buffer].data)
    assert data[4:8] == b"M001"
    root = table(data, struct.unpack_from("<I", data)[0])
    graph = first(root, 3)
    given, made = first(graph, 2), first(graph, 3)
    content, unit, file = field(given, 3), first(given, 4), first(made, 6)
    assert (byte(content, 0), byte(field(content, 1), 0), byte(unit, 0)) == (2, 1, 1), (
        "ImageProperties, RGB, NormalizationOptions"
    )
    options = field(unit, 1)
    return {
        "names": (text(root, 0), text(given, 0), text(made, 0)),
        "mean": floats(options, 0),
        "std": floats(options, 1),
        "file": (text(file, 0), byte(file, 2)),
    }


def test_metadata_of_its_own(files: Any) -> None:
    found, preprocess = metadata(files["int8"]), SOURCE.preprocess
    assert found["names"] == (SOURCE.name, "image", "logits")
    assert found["file"] == ("labels.txt", 2), "TENSOR_AXIS_LABELS"
    assert found["mean"] == pytest.approx([255 * value for value in preprocess.mean])
    assert found["std"] == pytest.approx([255 * value for value in preprocess.std])


def test_the_archive_behind_it(files: Any) -> None:
    with zipfile.ZipFile(files["int8"]) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["labels.txt", "tinyvit.json"]
        assert archive.read("labels.txt").decode().splitlines() == [
            label.name for label in SOURCE.labels
        ]
        assert Manifest.from_json(archive.read("tinyvit.json").decode()).precision == "int8"


def test_what_it_cannot_do_is_refused() -> None:
    graph = Graph(None, SIZE, 10, 1, 20)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="resize"):
        TARGET.lower(graph, SOURCE.preprocess, "full")
    with pytest.raises(RequestError, match="fixed number"):
        TARGET.lower(dataclasses.replace(graph, batch=None), SOURCE.preprocess, "host")
    assert set(TARGET.refused) == {"int8-weights", "full"}
