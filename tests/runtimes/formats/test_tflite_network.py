"""What is read of .tflite files without their engine."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema

from tests.helpers.tflite_model import ModelBuilder, build_model, serialize_model
from tests.hostile.loaders.tflite_networks import build_network
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.cli import inspect
from tinyvit.runtimes.formats import tflite_network
from tinyvit.runtimes.formats.stated_operators import StatedNetwork, StatedOperator
from tinyvit.runtimes.formats.tflite import TFLITE
from tinyvit.runtimes.network_analysis.coverage import check_coverage
from tinyvit.runtimes.network_analysis.coverage_result import Coverage, RefusedOperator


def write(folder: Path, model: Any) -> Path:
    path = folder / "m.tflite"
    path.write_bytes(serialize_model(model))
    return path


def read(folder: Path, model: Any) -> StatedNetwork:
    return TFLITE.read_stated_network(write(folder, model))


def coverage_of(folder: Path, model: Any) -> Coverage:
    return check_coverage(read_artifact(write(folder, model)))


def test_the_names_are_those_of_the_schema() -> None:
    names = tflite_network._OPERATOR_NAMES
    assert [getattr(schema.BuiltinOperator, name) for name in names] == list(range(len(names)))


def test_operators_are_read_with_their_products(tmp_path: Path) -> None:
    network = read(tmp_path, build_network())
    assert not network.is_quantized
    assert not network.has_open_sizes
    found = {operator.name: operator for operator in reversed(network.operators)}
    assert found["CONV_2D"].multiplications == 8 * 8 * 4 * 3 * 3 * 3
    assert found["DEPTHWISE_CONV_2D"].multiplications == 8 * 8 * 4 * 3 * 3
    assert found["BATCH_MATMUL"].multiplications == 64 * 64 * 4
    assert found["GELU"] == StatedOperator("GELU", found["GELU"].output, 4, True, 0)
    assert found["GELU"].output.startswith("GELU ")


def test_a_transposed_first_matrix_is_taken_into_account(tmp_path: Path) -> None:
    builder, options = ModelBuilder(), schema.BatchMatMulOptionsT()
    options.adjX = True
    first = builder.add_tensor("first", [1, 5, 7], np.float32)
    second = builder.add_tensor("second", [1, 5, 3], np.float32)
    product = builder.add_tensor("product", [1, 7, 3], np.float32)
    builder.add_operator(schema.BuiltinOperator.BATCH_MATMUL, [first, second], product, options)
    builder.graph.inputs, builder.graph.outputs = np.int32([first, second]), np.int32([product])
    (operator,) = read(tmp_path, builder.model).operators
    assert operator.multiplications == 7 * 3 * 5


def test_a_float_network_is_accepted(tmp_path: Path) -> None:
    assert coverage_of(tmp_path, build_model()) == Coverage(2, (), 0.0)


def test_floats_in_a_quantized_network_are_refused(tmp_path: Path) -> None:
    coverage = coverage_of(tmp_path, build_model(int8=True))
    reason = "it computes in floats, in a quantized network"
    assert coverage == Coverage(4, (RefusedOperator("MEAN", "mean", reason),), 0.0)


def test_weights_in_float16_do_not_make_a_network_quantized(tmp_path: Path) -> None:
    model = build_model()
    graph = model.subgraphs[0]
    graph.tensors[-1].quantization = schema.QuantizationParametersT()
    graph.tensors[-1].quantization.scale = np.float32([1.0])
    assert not read(tmp_path, model).is_quantized


def test_dimensions_operators_and_open_sizes_are_refused(tmp_path: Path) -> None:
    def build(kind: int, shape: list[int], signature: list[int] | None = None) -> Any:
        builder = ModelBuilder()
        ends = [builder.add_tensor(name, shape, np.float32) for name in ("x", "y")]
        builder.add_operator(kind, ends[:1], ends[1])
        builder.graph.inputs, builder.graph.outputs = np.int32(ends[:1]), np.int32(ends[1:])
        if signature:
            builder.graph.tensors[0].shapeSignature = np.int32(signature)
        return builder.model

    builtins = schema.BuiltinOperator
    five = coverage_of(tmp_path, build(builtins.GELU, [1, 2, 2, 2, 2]))
    assert five.refused[0].reason == "a tensor has 5 dimensions, more than 4"
    unknown = coverage_of(tmp_path, build(builtins.CUMSUM, [1, 2]))
    reason = "NPUs do not have this operator"
    assert unknown.refused == (RefusedOperator("CUMSUM", "y", reason),)
    newest = coverage_of(tmp_path, build(builtins.STABLEHLO_ABS, [1, 2]))
    assert newest.refused[0].operator == f"BuiltinOperator {builtins.STABLEHLO_ABS}"
    open_side = coverage_of(tmp_path, build(builtins.GELU, [1, 1, 1, 3], [1, -1, -1, 3]))
    assert open_side.refused[0].reason == "sizes are only known at run time"
    assert coverage_of(tmp_path, build(builtins.GELU, [1, 4], [-1, 4])).refused == ()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(4096))
    with pytest.raises(ArtifactError, match="0 subgraphs"):
        TFLITE.read_stated_network(path)
    path.write_bytes(struct.pack("<I", 2**31) + b"TFL3" + bytes(100))
    with pytest.raises(ArtifactError, match="damaged or incomplete"):
        TFLITE.read_stated_network(path)
    for index in (-2, 99):
        model = build_model()
        model.subgraphs[0].operators[0].inputs = np.int32([index])
        with pytest.raises(ArtifactError, match="a tensor that does not exist"):
            read(tmp_path, model)
    model = build_model()
    model.subgraphs[0].operators[0].inputs = np.zeros(101, np.int32)
    with pytest.raises(ArtifactError, match="more than 100 tensors"):
        read(tmp_path, model)
    model.subgraphs[0].operators[0].inputs = np.zeros(1, np.int32)
    model.subgraphs[0].tensors[1].shape = np.int32([1, -3])
    with pytest.raises(ArtifactError, match="a negative size"):
        read(tmp_path, model)
    model.subgraphs[0].tensors[1].shape = np.int32([1, 3])
    model.subgraphs[0].operators[0].opcodeIndex = 9
    with pytest.raises(ArtifactError, match="a code that does not exist"):
        read(tmp_path, model)


def test_the_command_prints_the_coverage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, build_model(int8=True))
    assert inspect([str(path), "--coverage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "coverage: accelerators refuse 1 of 4 operators, with 0.0% of the multiplications",
        "  1 MEAN: it computes in floats, in a quantized network",
    ]
    assert lines[2].endswith("as in the files of --target qnn and --target rknn")
    assert inspect([str(path), "--coverage", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refused"][0]["operator"] == "MEAN"
