"""The static check of what accelerators refuse."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto, helper

from tests.helpers.fake_tensorrt import make_manifest
from tests.helpers.qnn_models import make_gelu_model
from tinyvit.errors import RequestError
from tinyvit.manifest import Compilation
from tinyvit.runtimes.artifact import Artifact, known_formats, read_artifact
from tinyvit.runtimes.cli import inspect
from tinyvit.runtimes.formats.stated_operators import StatesOperators
from tinyvit.runtimes.network_analysis.coverage import check_coverage
from tinyvit.runtimes.network_analysis.coverage_result import Coverage, RefusedOperator


def write_model(path: Path, nodes: list[Any], sizes: list[Any], constants: dict[str, Any]) -> Path:
    """Write an ONNX file with an input "x" and an output "y"."""
    tensors = [
        helper.make_tensor(name, TensorProto.INT64, np.shape(value), np.ravel(value).tolist())
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    opset = helper.make_opsetid("", 20)
    path.write_bytes(helper.make_model(graph, opset_imports=[opset]).SerializeToString())
    return path


def coverage_of(path: Path) -> Coverage:
    return check_coverage(read_artifact(path))


def test_a_quantized_network_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "gelu.onnx"
    path.write_bytes(make_gelu_model())
    coverage = coverage_of(path)
    assert (coverage.operator_count, coverage.refused) == (5, ())
    assert coverage.describe() == ["coverage: accelerators accept all 5 operators"]


def test_five_dimensions_are_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["five"]),
        helper.make_node("Relu", ["five"], ["relu"]),
        helper.make_node("Reshape", ["relu", "flat"], ["y"]),
    ]
    constants = {"shape": [1, 2, 2, 2, 2], "flat": [1, 16]}
    coverage = coverage_of(write_model(tmp_path / "m.onnx", nodes, [1, 16], constants))
    reason = "a tensor has 5 dimensions, more than 4"
    assert coverage.refused == (
        RefusedOperator("Reshape", "five", reason),
        RefusedOperator("Relu", "relu", reason),
        RefusedOperator("Reshape", "y", reason),
    )


def test_unusual_operators_and_open_sizes_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Erf", ["x"], ["e"]), helper.make_node("Relu", ["e"], ["y"])]
    fixed = coverage_of(write_model(tmp_path / "m.onnx", nodes, [1, 16], {}))
    assert fixed.refused == (RefusedOperator("Erf", "e", "NPUs do not have this operator"),)
    open_size = coverage_of(write_model(tmp_path / "m.onnx", nodes, [1, "n"], {}))
    assert [item.operator for item in open_size.refused] == ["Erf", "Relu"]
    assert open_size.refused[1].reason == "sizes are only known at run time"


def test_what_depends_only_on_constants_is_not_counted(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Erf", ["cast"], ["e"]),
        helper.make_node("Add", ["x", "e"], ["y"]),
        helper.make_node("Cast", ["c"], ["cast"], to=TensorProto.FLOAT),
    ]
    coverage = coverage_of(write_model(tmp_path / "m.onnx", nodes, [1, 16], {"c": [1] * 16}))
    assert (coverage.operator_count, coverage.refused) == (1, ())


def test_an_operator_of_floats_in_a_quantized_network_is_refused(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_model_from_string(make_gelu_model())
    model.graph.node[-1].output[0] = "middle"
    model.graph.node.append(helper.make_node("Relu", ["middle"], ["y"]))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    reason = "it computes in floats, in a quantized network"
    coverage = coverage_of(path)
    assert coverage.refused == (RefusedOperator("Relu", "y", reason),)
    assert coverage.describe()[-1].endswith("as in the files of --target qnn and --target rknn")


def test_the_command_prints_text_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [helper.make_node("Erf", ["x"], ["y"])]
    path = write_model(tmp_path / "m.onnx", nodes, [1, 16], {})
    assert inspect([str(path), "--coverage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("coverage: accelerators refuse 1 of 1 operators")
    assert lines[1] == "  1 Erf: NPUs do not have this operator"
    assert inspect([str(path), "--coverage", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["refused"] == [
        {"operator": "Erf", "output": "y", "reason": "NPUs do not have this operator"}
    ]


@pytest.mark.parametrize("option", ["--labels", "--card"])
def test_an_option_for_the_manifest_is_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(["m.onnx", "--coverage", option]) == 1
    assert f"--coverage and {option} cannot be given together" in capsys.readouterr().err


COMPILED_FORMATS = {"qnn-context", "rknn", "tensorrt"}
"""Formats of compiled files, whose manifest states what the compiler decided."""


def test_every_format_states_its_operators_or_is_compiled() -> None:
    """A new format must give its operators, or be added to the formats of compiled files."""
    with_graph = {"onnx", "ort"}
    stated = {item.name for item in known_formats() if isinstance(item, StatesOperators)}
    assert stated | with_graph | COMPILED_FORMATS == {item.name for item in known_formats()}
    assert not stated & with_graph
    assert not (stated | with_graph) & COMPILED_FORMATS


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.rknn", b"RKNN" + bytes(60)),
        ("m.engine", b"ftrt" + bytes(4096)),
        ("m.xml", b'<?xml version="1.0"?><net name="m" version="11"><layers/></net>'),
    ],
)
def test_files_without_operators_and_without_a_manifest_are_refused(
    name: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RequestError, match=f"{name} contains no operators") as error:
        coverage_of(path)
    assert "together with its .json file" in error.value.remedy


def make_artifact(path: Path, content: bytes, **changes: Any) -> Artifact:
    path.write_bytes(content)
    return dataclasses.replace(read_artifact(path), manifest=make_manifest(**changes))


def test_the_manifest_of_a_compiled_file_states_what_stays_on_the_cpu(tmp_path: Path) -> None:
    compilation = Compilation("rk3588", "rk3588", "rknn-toolkit2 2.5.0", "2 Gemm, 1 Softmax", 0.25)
    artifact = make_artifact(
        tmp_path / "m.rknn", b"RKNN" + bytes(60), target="rknn", compilation=compilation
    )
    coverage = check_coverage(artifact)
    assert coverage.decided_by == "compiler"
    assert coverage.describe() == [
        "coverage: the compiler left 3 operators to the CPU, with 25.0% of the multiplications",
        "  2 Gemm: the compiler left it to the CPU",
        "  1 Softmax: the compiler left it to the CPU",
        "  decided by rknn-toolkit2 2.5.0 for rk3588, as the manifest states; what converts the"
        " input and the output is not counted",
    ]


def test_tensorrt_places_every_operator_on_the_gpu(tmp_path: Path) -> None:
    coverage = check_coverage(make_artifact(tmp_path / "m.engine", b"ftrt" + bytes(4096)))
    assert (coverage.refused, coverage.refused_share) == ((), 0.0)
    lines = coverage.describe()
    assert lines[0] == "coverage: the compiler left no operator to the CPU"
    assert lines[1].startswith("  TensorRT placed every operator on the GPU: it refuses")


def test_a_file_that_the_device_compiles_states_the_rules_and_the_compiler(tmp_path: Path) -> None:
    compilation = Compilation("", "sm8650", "QAIRT 2.51.0", "", 0.0)
    artifact = make_artifact(
        tmp_path / "m.qnn.onnx", make_gelu_model(), target="qnn", compilation=compilation
    )
    assert check_coverage(artifact).describe() == [
        "coverage: accelerators accept all 5 operators",
        "  QAIRT 2.51.0 for sm8650 left no operator to the CPU, as the manifest states",
    ]


def test_the_json_has_one_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever decided, the object has the fields that docs/how-to/npu.md lists."""
    nodes = [helper.make_node("Erf", ["x"], ["y"])]
    path = write_model(tmp_path / "m.onnx", nodes, [1, 16], {})
    assert inspect([str(path), "--coverage", "--json"]) == 0
    fields = list(json.loads(capsys.readouterr().out))
    page = Path(__file__).parents[3] / "docs" / "how-to" / "npu.md"
    if page.is_file():
        rows = re.findall(r"^\| `(\w+)` \|", page.read_text("utf-8"), re.MULTILINE)
        assert rows == fields
    compiled = check_coverage(make_artifact(tmp_path / "m.engine", b"ftrt" + bytes(4096)))
    assert ["artifact", *dataclasses.asdict(compiled)] == fields
