"""The memory and time of a network are known before an engine sees it, and are limited."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.hostile.hostile_graphs import GraphBuilder, list_hostile_graphs, make_external
from tests.hostile.hostile_ir import list_hostile_ir
from tests.hostile.loaders.ort_files import convert
from tests.runtimes.conftest import ArtifactBuilder
from tinyvit.errors import ArtifactError
from tinyvit.runtimes import limited_trial, registry, trial
from tinyvit.runtimes.artifact import Artifact, detect_format
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.formats.network_graph import NetworkGraph, Node
from tinyvit.runtimes.formats.onnx import ONNX
from tinyvit.runtimes.network_analysis import inference_cost, shape_rules
from tinyvit.runtimes.network_analysis.inference_cost import check_inference_cost
from tinyvit.runtimes.network_analysis.shape_rules import apply_rule
from tinyvit.runtimes.network_analysis.tensor_facts import Tensor, UnknownCostError
from tinyvit.runtimes.registry import open_runtime


def find_graph(description: str) -> Any:
    """Make the hostile ONNX model with a description."""
    makers: dict[str, Callable[[], Any]] = dict(list_hostile_graphs())
    return makers[description]()


def save(path: Path, model: Any) -> Path:
    """Save a model as .onnx, or as .ort without computing anything in it."""
    data = convert(model, optimize=False) if path.suffix == ".ort" else model.SerializeToString()
    path.write_bytes(data)
    return path


HOSTILE_GRAPHS = {
    "MatMul of two vectors of 40000, image: True": "it needs 6.0 GiB of memory",
    "Mul of two vectors of 40000, image: False": "it needs 6.0 GiB of memory",
    "Einsum of two vectors of 40000, image: True": "it needs 6.0 GiB of memory",
    "45 times Concat": "it needs 4.5 GiB of memory",
    "40 times Resize": "it needs 4.5 GiB of memory",
    "Resize to [1, 3, 100000, 100000]": "it needs 111.8 GiB of memory",
    "Resize by [1, 1, 3000, 3000]": "it needs 103.0 GiB of memory",
    "Pad [0, 0, 50000, 50000, 0, 0, 0, 0]": "it needs 28.0 GiB of memory",
    "Conv: pads": "it needs 47.8 GiB of memory",
    "products": "more than 200 billion multiplications",
    "Pad: size from a pixel": "the size to which Pad enlarges an image depends on the pixels",
    "Resize: size from a pixel": "the size to which Resize enlarges an image depends on the pixels",
}


@pytest.mark.parametrize("suffix", [".onnx", ".ort"])
@pytest.mark.parametrize("description", HOSTILE_GRAPHS)
def test_a_network_that_needs_too_much_is_refused_first(
    tmp_path: Path, description: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / f"a{suffix}", find_graph(description))
    monkeypatch.setattr(registry.get_engine("onnxruntime"), "open", None)
    with pytest.raises(ArtifactError, match=HOSTILE_GRAPHS[description]):
        open_runtime(path, "onnxruntime")


def test_an_ort_file_with_a_foreign_operator_is_refused(tmp_path: Path) -> None:
    builder = GraphBuilder()
    size = builder.constant(np.array([1, 3, 32, 32], np.int64))
    path = save(tmp_path / "a.ort", builder.finish(builder.add("Expand", "image", size)))
    assert detect_format(path).read_graph(path).foreign_operators == {"Expand"}
    with pytest.raises(ArtifactError, match=r"do not need \(Expand\)"):
        open_runtime(path)
    options = RuntimeOptions(allow_foreign_operators=True)
    with open_runtime(path, options=options) as runtime:
        assert runtime.run(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 10)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("MatMul of two vectors", "it needs 6.0 GiB of memory"),
        ("Broadcast [100000, 100000]", "it needs 37.3 GiB of memory"),
        ("Tile [2147483648, 2]", "it needs 16.0 GiB of memory"),
        ("45 times Concat", "it needs 4.5 GiB of memory"),
        ("5000 times ReLU", "it has more than 128 operators in a row"),
        ("30000 times Sigmoid", "it has 30,0.. operators, more than 10,000"),
    ],
)
def test_an_openvino_model_that_needs_too_much_is_refused(
    tmp_path: Path, description: str, message: str
) -> None:
    pytest.importorskip("openvino", reason="an optional engine")
    xml, weights = dict(list_hostile_ir())[description]()
    path = tmp_path / "a.xml"
    path.write_text(xml)
    path.with_suffix(".bin").write_bytes(weights)
    with pytest.raises(ArtifactError, match=message):
        open_runtime(path, "openvino")


@pytest.mark.parametrize("embedded_preprocessing", ["host", "normalize", "full"])
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_good_files_are_not_run_in_another_process(
    build_artifact: ArtifactBuilder,
    embedded_preprocessing: str,
    suffix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if suffix == ".xml":
        pytest.importorskip("openvino", reason="an optional engine")
    monkeypatch.setattr(trial, "call_in_process", None)
    batch = 1 if embedded_preprocessing == "full" else "batch"
    with Classifier(build_artifact(suffix, embedded_preprocessing, batch)) as classifier:
        assert len(classifier.predict(Image.new("RGB", (40, 40)))) == 5


def test_the_cost_of_a_small_network() -> None:
    cost = inference_cost.InferenceCost("a")
    graph = NetworkGraph(
        inputs={"image": (1, 3, 8, 8)},
        nodes=[
            Node("Relu", "", ("image",), ("a",), {}),
            Node("Flatten", "", ("a",), ("b",), {}),
            Node("Relu", "", ("b",), ("c",), {}),
        ],
    )
    walk = inference_cost.CostWalk(graph, cost)
    walk.run()
    # Two results of 192 float32 numbers exist at the same time.
    assert cost.memory_bytes == 2 * 192 * 4
    assert cost.operations == 3 * 192 * 16


SHAPES = [
    ("Conv", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, [(1, 3, 8, 8), (5, 3, 3, 3)], (1, 5, 4, 4)),
    ("Conv", {"auto_pad": b"SAME_UPPER"}, [(1, 3, 7, 7), (5, 3, 3, 3)], (1, 5, 7, 7)),
    ("NhwcConv", {}, [(1, 8, 8, 3), (5, 3, 3, 3)], (1, 6, 6, 5)),
    (
        "MaxPool",
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        [(1, 3, 7, 7)],
        (1, 3, 4, 4),
    ),
    ("MatMul", {}, [(4, 1, 2, 3), (5, 3, 7)], (4, 5, 2, 7)),
    ("MatMul", {}, [(3,), (5, 3, 7)], (5, 7)),
    ("Gemm", {"transA": 1, "transB": 1}, [(3, 2), (7, 3), (7,)], (2, 7)),
    (
        "FusedMatMul",
        {"transBatchA": 1, "transBatchB": 1, "transB": 1},
        [(9, 5, 3), (8, 5, 3)],
        (5, 9, 8),
    ),
    ("Einsum", {"equation": b"bij,bjk->bik"}, [(2, 3, 4), (2, 4, 5)], (2, 3, 5)),
    ("Add", {}, [(4, 1), (1, 5)], (4, 5)),
    ("Where", {}, [(1,), (4, 1), (1, 5)], (4, 5)),
    ("Transpose", {"perm": [1, 0, 2]}, [(2, 3, 4)], (3, 2, 4)),
    ("Flatten", {"axis": 2}, [(2, 3, 4, 5)], (6, 20)),
    ("Concat", {"axis": -1}, [(2, 3), (2, 4)], (2, 7)),
    ("Gather", {"axis": 1}, [(2, 3, 4), (5, 6)], (2, 5, 6, 4)),
    ("GatherND", {"batch_dims": 1}, [(2, 3, 4), (2, 5, 1)], (2, 5, 4)),
    ("ReduceMean", {"axes": [-1], "keepdims": 0}, [(2, 3, 4)], (2, 3)),
    ("ArgMax", {"axis": 1}, [(2, 3, 4)], (2, 1, 4)),
    ("DepthToSpace", {"blocksize": 2}, [(1, 8, 3, 3)], (1, 2, 6, 6)),
    ("GlobalAveragePool", {}, [(1, 8, 3, 3)], (1, 8, 1, 1)),
    ("Split", {"axis": 1, "split": [2, 4]}, [(1, 6)], (1, 2)),
    ("Pad", {"pads": [0, 1, 0, 2]}, [(2, 3)], (2, 6)),
    ("Squeeze", {"axes": [0]}, [(1, 1, 3)], (1, 3)),
    ("Unsqueeze", {"axes": [0, 3]}, [(2, 3)], (1, 2, 3, 1)),
]


@pytest.mark.parametrize(("operator", "attributes", "shapes", "expected"), SHAPES)
def test_sizes_of_results(
    operator: str,
    attributes: dict[str, Any],
    shapes: list[tuple[int, ...]],
    expected: tuple[int, ...],
) -> None:
    names = tuple(f"input{index}" for index in range(len(shapes)))
    node = Node(operator, "", names, ("output",), attributes)
    results, _operations = apply_rule(node, [Tensor(shape, 4) for shape in shapes])
    assert results[0] == expected


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("Reshape", [0, -1], (6, 20)),
        ("Resize", [6, 9, 9, 9], (6, 9, 9, 9)),
    ],
)
def test_sizes_that_constants_state(
    operator: str, values: list[int], expected: tuple[int, ...]
) -> None:
    image, sizes = Tensor((6, 1, 4, 5), 4), Tensor((len(values),), 8, np.array(values))
    inputs = [image, sizes] if operator == "Reshape" else [image, None, None, sizes]
    node = Node(operator, "", ("image", "sizes"), ("output",), {})
    assert apply_rule(node, inputs)[0] == [expected]
    with pytest.raises(UnknownCostError):
        apply_rule(node, [*inputs[:-1], Tensor((len(values),), 8)])


def test_a_network_of_unknown_cost_is_first_run_in_another_process(
    build_artifact: ArtifactBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build_artifact()
    monkeypatch.delitem(shape_rules.RULES, "Relu")
    assert not check_inference_cost(ONNX.read_graph(path), "a.onnx")
    before_s = trial.get_trial_seconds()
    open_runtime(path).close()
    assert trial.get_trial_seconds() > before_s
    monkeypatch.setattr(limited_trial, "TIMEOUT_S", 0)
    with pytest.raises(ArtifactError, match=r"unknown sizes.*took more than 0 s"):
        open_runtime(path)


def test_the_other_process_has_a_memory_limit(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", find_graph("MatMul of two vectors of 40000, image: True"))
    artifact = Artifact(path, manifest=None)
    with pytest.raises(ArtifactError, match=r"unknown sizes.*onnxruntime failed.*MatMul.*arena"):
        limited_trial.run_limited_trial(artifact, "onnxruntime", RuntimeOptions(threads=1))


def test_too_many_operators_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", find_graph("60,000 nodes"))
    with pytest.raises(ArtifactError, match=r"it has 60,0.. operators, more than 10,000"):
        Classifier(path)


def test_operators_that_need_each_other_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", find_graph("make_cycle"))
    with pytest.raises(ArtifactError, match="use the results of each other"):
        Classifier(path)


@pytest.mark.parametrize("in_graph", [True, False])
def test_sparse_tensors_are_refused(tmp_path: Path, in_graph: bool) -> None:
    path = save(tmp_path / "a.onnx", find_graph(f"sparse [1099511627776] {in_graph}"))
    with pytest.raises(ArtifactError, match="sparse tensor, whose size in memory has no limit"):
        Classifier(path)


@pytest.mark.parametrize("location", ["/dev/zero", "../weights", "", "a\\b", ".."])
def test_weights_outside_of_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    path = save(tmp_path / "a.onnx", make_external_model(location))
    with pytest.raises(ArtifactError, match="which is not a file next to it"):
        Classifier(path)


def test_weights_that_are_a_device_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").symlink_to("/dev/zero")
    path = save(tmp_path / "a.onnx", make_external_model("weights"))
    with pytest.raises(ArtifactError, match="device"):
        Classifier(path)


def make_external_model(location: str) -> Any:
    """Make a model whose weights are in another file."""
    return make_external(location, "0", "4000000")


def test_an_empty_batch_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", find_graph("input shape [0, 3, 32, 32]"))
    with pytest.raises(ArtifactError, match="is empty"):
        open_runtime(path)


def test_a_damaged_node_is_an_error_with_a_remedy(copy_artifact: ArtifactBuilder) -> None:
    path = copy_artifact()
    data = path.read_bytes()
    # A node that states more bytes than it has, in a graph of 5 bytes.
    path.write_bytes(data + b"\x3a\x05\x0a\x03\x22\x7f\x00")
    with pytest.raises(
        ArtifactError, match=r"is damaged or incomplete \(it ends in the middle of a field\)"
    ):
        Classifier(path)


def test_inspect_reports_a_manifest_that_is_written_in_another_way(
    copy_artifact: ArtifactBuilder, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    from tinyvit.runtimes.cli import inspect

    path = copy_artifact()
    assert inspect([str(path)]) == 0
    assert "as exported" in capsys.readouterr().out
    model = onnx.load(path)
    text = {entry.key: entry.value for entry in model.metadata_props}["tinyvit"]
    spaced = json.dumps(json.loads(text), indent=1)
    onnx.helper.set_model_props(model, {"tinyvit": spaced})
    onnx.save(model, path)
    assert inspect([str(path)]) == 0
    assert "CHANGED after export" in capsys.readouterr().out
    assert inspect([str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["intact"] is False
