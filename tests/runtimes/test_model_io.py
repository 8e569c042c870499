"""Networks without a manifest are checked, and contradictions with a manifest are refused."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.predictions import predictions_agree
from tests.helpers.small_classifiers import ArtifactBuilder
from tinyvit import Classifier
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.labels import Label
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes import read_artifact


def test_a_file_without_manifest_runs_with_one_warning(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str], image_files: list[Path]
) -> None:
    engine, suffix = engine_and_suffix
    with pytest.warns(
        UserWarning, match="ImageNet's preprocessing.*preprocess=.*labels="
    ) as caught:
        classifier = Classifier(build_artifact(suffix, manifest=False), engine)
    # Other libraries warn of forks if earlier tests of this process have imported them.
    (warning,) = (warning for warning in caught if warning.category is UserWarning)
    assert warning.filename == __file__
    assert classifier.manifest is None
    assert classifier.preprocess.size == 32
    assert classifier.predict(image_files[0])[0].label.startswith("class ")


def test_a_file_without_manifest_runs_with_the_given_preprocessing_and_labels(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str], image_files: list[Path]
) -> None:
    engine, suffix = engine_and_suffix
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier = Classifier(
            build_artifact(suffix, manifest=False),
            engine,
            preprocess=Preprocess(32, 36),
            labels=[Label("a", "n1"), *"bcdefghij"],
        )
    assert classifier.labels[:2] == (Label("a", "n1"), Label("b"))
    expected = Classifier(build_artifact(suffix), engine).predict(image_files[2])
    assert predictions_agree([classifier.predict(image_files[2])], [expected])


@pytest.mark.parametrize("manifest", [True, False])
def test_arguments_that_do_not_fit_are_refused(
    build_artifact: ArtifactBuilder, manifest: bool
) -> None:
    path = build_artifact(manifest=manifest)
    with pytest.raises(RequestError, match="3 labels"):
        Classifier(path, preprocess=Preprocess(32, 32), labels=["a", "b", "c"])
    with pytest.raises(RequestError, match="size 32"):
        Classifier(path, preprocess=Preprocess(64, 64))
    with pytest.raises(RequestError, match=r"a string.*read_labels"):
        Classifier(path, preprocess=Preprocess(32, 32), labels="labels.txt")


def save_identity_network(
    path: Path, input_shapes: list[Any], output_shapes: list[Any], element_type: str
) -> Path:
    """Save a network that copies its inputs to its outputs."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    last_input = len(input_shapes) - 1
    nodes = [
        helper.make_node("Identity", [f"input{min(i, last_input)}"], [f"output{i}"])
        for i in range(len(output_shapes))
    ]
    inputs, outputs = (
        [
            helper.make_tensor_value_info(
                f"{name}{i}", getattr(onnx.TensorProto, element_type), shape
            )
            for i, shape in enumerate(shapes)
        ]
        for name, shapes in (("input", input_shapes), ("output", output_shapes))
    )
    graph = helper.make_graph(nodes, "identity", inputs, outputs)
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("input_shapes", "output_shapes", "element_type"),
    [
        ([["n", 3, 8, 8], ["n", 4]], [["n", 3, 8, 8], ["n", 4]], "FLOAT"),
        ([["n", 3, 8, 9]], [["n", 3, 8, 9]], "FLOAT"),
        ([["n", 10]], [["n", 10]], "FLOAT"),
        ([["n", 1, 8, 8]], [["n", 1, 8, 8]], "FLOAT"),
        ([["n", 3, "h", "w"]], [["n", 3, "h", "w"]], "FLOAT"),
        ([["n", 3, 8, 8]], [["n", 3, 8, 8]], "FLOAT16"),
        ([["n", 3, 8, 8]], [["n", 3, 8, 8]], "BFLOAT16"),
        ([["n", 3, 8, 8]], [["n", 3, 8, 8]], "STRING"),
    ],
)
def test_other_networks_are_refused(
    tmp_path: Path, input_shapes: Any, output_shapes: Any, element_type: str
) -> None:
    pytest.importorskip("onnxruntime")
    path = save_identity_network(tmp_path / "a.onnx", input_shapes, output_shapes, element_type)
    with pytest.raises(ArtifactError, match=r"expected|cannot open|images of any size"):
        Classifier(path, "onnxruntime")


@pytest.mark.parametrize(
    "shape", [("n", 3, "h", "w"), ("n", "h", "w", 3)], ids=["host", "normalize"]
)
def test_a_file_without_manifest_for_any_size_needs_its_size(
    build_artifact: ArtifactBuilder, image_files: list[Path], shape: Any, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    embedded_preprocessing, element_type = (
        ("host", "FLOAT") if shape[1] == 3 else ("normalize", "UINT8")
    )
    model = onnx.load(build_artifact(embedded_preprocessing=embedded_preprocessing, manifest=False))
    any_size = onnx.helper.make_tensor_value_info(
        "image", getattr(onnx.TensorProto, element_type), shape
    )
    model.graph.input[0].CopyFrom(any_size)
    path = tmp_path / "free.onnx"
    onnx.save(model, path)
    with pytest.raises(
        ArtifactError,
        match=r"free\.onnx takes images of any size.*: in Python, pass that size .*: "
        r"Classifier\(path, preprocess=.*224",
    ):
        Classifier(path)
    labels = [Label(f"thing {i}", f"n{i:08}") for i in range(10)]
    classifier = Classifier(path, preprocess=Preprocess(32, 36), labels=labels)
    predictions = classifier.predict(image_files[0])
    expected = Classifier(build_artifact()).predict(image_files[0])
    assert predictions_agree([predictions], [expected])
    assert [(x.label, x.wnid) for x in predictions] == [(x.label, x.wnid) for x in expected]


def test_a_manifest_that_contradicts_the_network_is_refused(
    build_artifact: ArtifactBuilder, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    model, manifest = onnx.load(build_artifact()), read_artifact(build_artifact()).manifest
    assert manifest
    huge_input = dataclasses.replace(manifest.input, shape=(10**12, 3, 32, 32))
    changes: list[dict[str, Any]] = [
        {"embedded_preprocessing": "normalize"},
        {"embedded_preprocessing": "full"},
        {"labels": manifest.labels[:5]},
        {"input": huge_input},
        {"preprocess": Preprocess(64, 64)},
    ]
    for change in changes:
        text = dataclasses.replace(manifest, **change).to_json()
        onnx.helper.set_model_props(model, {"tinyvit": text})
        onnx.save(model, tmp_path / "a.onnx")
        with pytest.raises(ArtifactError):
            Classifier(tmp_path / "a.onnx")
