"""Core ML artifacts compute what torch computes, and are classifiers for Xcode and Vision."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.helpers.install_commands import install_command

pytest.importorskip("coremltools")
pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import coremltools
import torch
from coremltools.proto import Model_pb2

from tests.helpers.demo_network import (
    SIZE,
    compute_exact_logits,
    load_small_demo,
    make_demo_manifest,
)
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.export.targets.coreml import target as target_module
from tinyvit.export.targets.coreml.passes import mark_for_ios16
from tinyvit.export.targets.coreml.preprocess import trace_for_coreml
from tinyvit.export.targets.coreml.target import TARGET
from tinyvit.export.targets.coreml.writer import make_class_names
from tinyvit.export.tracing import Graph, trace
from tinyvit.golden import CHIRP_PATTERNS, make_golden_input
from tinyvit.labels import Label, imagenet_labels
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.quant.quantized_network import quantize_network, quantized_units
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes.engines._mil_program import read_mil_program
from tinyvit.runtimes.engines.coreml_reference import Evaluator

DEMO = load_small_demo()
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8", "int8-weights")
PackageBuilder = Callable[..., Path]
"""(precision, embedded_preprocessing) -> the package, which is made once."""


@pytest.fixture(scope="module")
def networks(demo_network: Any, demo_recipe: Recipe) -> dict[str, Any]:
    """The network of each precision."""
    weights_recipe = dataclasses.replace(demo_recipe, scales={})
    return {
        "float32": demo_network,
        "float16": demo_network,
        "int8": quantize_network(demo_network, demo_recipe, TARGET.scheme),
        "int8-weights": quantize_network(demo_network, weights_recipe, TARGET.scheme),
    }


@pytest.fixture(scope="module")
def graphs(demo_graph: Graph, networks: dict[str, Any]) -> dict[str, Graph]:
    """The graph of each precision."""
    return {
        "float32": demo_graph,
        "float16": demo_graph,
        "int8": trace(networks["int8"]),
        "int8-weights": trace(networks["int8-weights"]),
    }


@pytest.fixture(scope="module")
def build_package(
    graphs: dict[str, Graph], tmp_path_factory: pytest.TempPathFactory
) -> PackageBuilder:
    """A function (precision, embedded_preprocessing) -> a package of the demo model, built once."""
    folder = tmp_path_factory.mktemp("coreml")

    def build(
        precision: Precision, embedded_preprocessing: EmbeddedPreprocessing = "normalize"
    ) -> Path:
        path = folder / f"{precision}.{embedded_preprocessing}.mlpackage"
        if not path.exists():
            model = TARGET.lower(
                graphs[precision], DEMO.preprocess, embedded_preprocessing, precision
            )
            manifest = make_demo_manifest("coreml", precision, embedded_preprocessing)
            assert model.save(path, manifest) == [path]
        return path

    return build


def read_message(path: Path) -> Any:
    """Read the model of a package."""
    file = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    return Model_pb2.Model.FromString(file.read_bytes())


def get_main_block(model: Any) -> Any:
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def read_files(path: Path) -> dict[str, bytes]:
    """Return path inside the package -> content."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize(
    ("precision", "embedded_preprocessing"),
    [
        ("float32", "host"),
        ("int8", "host"),
        ("float16", "normalize"),
        ("int8-weights", "normalize"),
        pytest.param("float32", "normalize", marks=pytest.mark.slow),
        pytest.param("int8", "normalize", marks=pytest.mark.slow),
    ],
)
def test_program_computes_the_network(
    networks: dict[str, Any],
    build_package: PackageBuilder,
    precision: str,
    embedded_preprocessing: str,
) -> None:
    """In float64, where nothing is rounded, the program equals exact arithmetic."""
    program = read_mil_program(build_package(precision, embedded_preprocessing))
    for pattern in CHIRP_PATTERNS:
        pixels = make_golden_input(pattern, SIZE, SIZE)
        normalized = DEMO.preprocess.normalize(pixels)[None]
        expected = compute_exact_logits(networks[precision], normalized)
        batch = normalized if embedded_preprocessing == "host" else pixels[None]
        float64_error, float32_error = (
            np.abs(Evaluator(program, dtype).compute_outputs(batch)[0] - expected).max()
            for dtype in (np.float64, np.float32)
        )
        largest = np.abs(expected).max()
        if precision == "float16":
            # Rounded to float16, and not more.
            assert 1e-5 * largest < float32_error < 0.01 * largest
        elif precision == "int8":
            # The floats are float16, whose rounding moves a sum to another integer now and then.
            assert float64_error < 0.05 * largest
            assert float32_error < 0.05 * largest
        else:
            assert float64_error < (1e-9 if embedded_preprocessing == "host" else 1e-6) * largest
            assert float32_error < 1e-5 * largest


def test_int8_is_exact_without_float16(
    networks: dict[str, Any],
    graphs: dict[str, Graph],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "exact.mlpackage"
    monkeypatch.setattr(target_module, "FLOAT16_PRECISIONS", ())
    model = TARGET.lower(graphs["int8"], DEMO.preprocess, "host", "int8")
    model.save(path, make_demo_manifest("coreml", "int8"))
    image = DEMO.preprocess.normalize(make_golden_input(CHIRP_PATTERNS[0], SIZE, SIZE))[None]
    expected = compute_exact_logits(networks["int8"], image)
    logits = Evaluator(read_mil_program(path), np.float64).compute_outputs(image)[0]
    assert np.abs(logits - expected).max() < 1e-9 * np.abs(expected).max()


def test_int8_has_the_recipes_scales_and_layers(
    demo_network: Any, demo_recipe: Recipe, build_package: PackageBuilder
) -> None:
    operations = read_mil_program(build_package("int8", "host")).operations
    recipe_scales = {np.float16(scale) for scale in demo_recipe.scales.values()}
    quantizations = [op for op in operations if op.kind in ("quantize", "dequantize")]
    assert len(quantizations) > 50
    assert {np.float16(op.constants["scale"]) for op in quantizations} <= recipe_scales
    assert {op.dtype for op in quantizations if op.kind == "quantize"} == {"int8"}
    weights = [
        op.constants["quantized_data"]
        for op in operations
        if op.kind == "constexpr_affine_dequantize"
    ]
    assert len(weights) == len(quantized_units(demo_network, demo_recipe, TARGET.scheme))
    assert all(weight.dtype == np.int8 for weight in weights)
    assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) == 63
    kind_by_output = {op.output: op.kind for op in operations}
    int8_layers = [
        op
        for op in operations
        if op.kind in ("conv", "linear") and op.inputs.get("weight", "") in kind_by_output
    ]
    assert len(int8_layers) == len(weights)
    assert {kind_by_output[op.inputs["x"]] for op in int8_layers} == {"dequantize"}


@pytest.mark.parametrize(
    ("precision", "version"), [("float32", 7), ("float16", 7), ("int8-weights", 7), ("int8", 8)]
)
def test_specification_is_the_oldest_that_suffices(
    build_package: PackageBuilder, precision: str, version: int
) -> None:
    """Version 7 of the specification is iOS 16's, version 8 is iOS 17's."""
    model = read_message(build_package(precision))
    assert model.specificationVersion == version
    assert list(model.mlProgram.functions["main"].block_specializations) == [f"CoreML{version - 1}"]


@pytest.mark.slow
def test_marking_for_ios16_changes_nothing_else(graphs: dict[str, Graph]) -> None:
    """coremltools writes the same program for iOS 16 and iOS 17, except for the mark."""
    program = trace_for_coreml(graphs["float32"], DEMO.preprocess, "host")
    ios16, ios17 = (
        coremltools.convert(
            program,
            minimum_deployment_target=system,
            compute_precision=coremltools.precision.FLOAT32,
            skip_model_load=True,
        ).get_spec()
        for system in (coremltools.target.iOS16, coremltools.target.iOS17)
    )
    assert [model.specificationVersion for model in (ios16, ios17)] == [7, 8]
    mark_for_ios16(ios17)
    assert ios16.SerializeToString(deterministic=True) == ios17.SerializeToString(
        deterministic=True
    )


def test_int8_cannot_be_marked_for_ios16(build_package: PackageBuilder) -> None:
    model = read_message(build_package("int8"))
    with pytest.raises(ArtifactError, match="dequantize, quantize"):
        mark_for_ios16(model)


def test_classifier_has_what_xcode_and_vision_need(build_package: PackageBuilder) -> None:
    model = read_message(build_package("float32"))
    description = model.description
    image = description.input[0].type.imageType
    assert description.input[0].name == "image"
    assert (image.width, image.height, image.colorSpace) == (SIZE, SIZE, image.RGB)
    assert {output.name: output.type.WhichOneof("Type") for output in description.output} == {
        "classLabel": "stringType",
        "classLabel_probs": "dictionaryType",
        "logits": "multiArrayType",
    }
    assert description.predictedFeatureName == "classLabel"
    assert description.predictedProbabilitiesName == "classLabel_probs"
    block = get_main_block(model)
    classify = block.operations[-1]
    assert classify.type == "classify"
    classes = classify.inputs["classes"].arguments[0].value.immediateValue.list.values
    names = [value.immediateValue.tensor.strings.values[0] for value in classes]
    assert names == make_class_names(DEMO.labels)
    assert description.metadata.license == DEMO.license
    features = (*description.input, *description.output)
    assert all(feature.shortDescription for feature in features)
    assert list(block.outputs) == ["classLabel", "classLabel_probs", "logits"]


class ProbabilitiesNetwork(torch.nn.Module):
    """A network with a softmax and no other output."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        probabilities: torch.Tensor = self.network(image).softmax(-1)
        return probabilities


def test_classifier_equals_that_of_coremltools(
    demo_network: Any, build_package: PackageBuilder
) -> None:
    """Only the logits differ, because coremltools cannot add them to a classifier."""
    network, example = ProbabilitiesNetwork(demo_network), torch.zeros(1, 3, SIZE, SIZE)
    expected = coremltools.convert(
        torch.export.export(network, (example,)).run_decompositions({}),
        classifier_config=coremltools.ClassifierConfig(make_class_names(DEMO.labels), "classLabel"),
        minimum_deployment_target=coremltools.target.iOS16,
        skip_model_load=True,
    ).get_spec()
    actual = read_message(build_package("float32", "host"))
    for model in (actual, expected):
        classify = get_main_block(model).operations[-1]
        classify.ClearField("attributes")
        classify.inputs["probabilities"].ClearField("arguments")
        for output in model.description.output:
            output.ClearField("shortDescription")
    actual_bytes, expected_bytes = (
        get_main_block(model).operations[-1].SerializeToString(deterministic=True)
        for model in (actual, expected)
    )
    assert actual_bytes == expected_bytes
    assert list(actual.description.output)[:2] == list(expected.description.output)


def test_class_names_are_unique() -> None:
    labels = imagenet_labels(1000)
    assert labels is not None
    names = make_class_names(labels)
    assert len(set(names)) == 1000
    changed = {label.name for label, name in zip(labels, names) if label.name != name}
    assert changed == {"crane", "maillot"}
    assert {
        "crane (n02012849)",
        "crane (n03126707)",
        "maillot (n03710637)",
        "maillot (n03710721)",
    } <= set(names)
    repeated = (Label("a"), Label("a"), Label("a (1)"), Label("b"))
    assert make_class_names(repeated) == ["a (0)", "a (1) (1)", "a (1)", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_same_network_gives_the_same_bytes(
    graphs: dict[str, Graph], build_package: PackageBuilder, tmp_path: Path, precision: Precision
) -> None:
    path = tmp_path / "again.mlpackage"
    model = TARGET.lower(graphs[precision], DEMO.preprocess, "normalize", precision)
    for _ in range(2):  # An export saves over an existing folder, too.
        model.save(path, make_demo_manifest("coreml", precision, "normalize"))
    first = read_files(build_package(precision))
    assert sorted(first) == [
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
        "Manifest.json",
    ]
    assert read_files(path) == first


def test_packages_are_small(build_package: PackageBuilder) -> None:
    sizes = {
        precision: sum(map(len, read_files(build_package(precision)).values()))
        for precision in PRECISIONS
    }
    assert sizes["float16"] < 0.52 * sizes["float32"]
    assert sizes["int8"] < 0.30 * sizes["float32"]
    assert sizes["int8-weights"] < 0.30 * sizes["float32"]


@pytest.mark.parametrize(
    ("embedded_preprocessing", "batch", "message"),
    [("full", 1, "Vision"), ("host", 2, "one image"), ("host", None, "one image")],
)
def test_unsupported_requests_are_refused(
    embedded_preprocessing: EmbeddedPreprocessing, batch: int | None, message: str
) -> None:
    graph: Any = SimpleNamespace(batch=batch)
    with pytest.raises(RequestError, match=message):
        TARGET.lower(graph, DEMO.preprocess, embedded_preprocessing, "float32")


def test_missing_coremltools_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    graph: Any = SimpleNamespace(batch=1)
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("coreml"))):
        TARGET.lower(graph, DEMO.preprocess, "host", "float32")


def test_nothing_is_printed(
    graphs: dict[str, Graph], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = TARGET.lower(graphs["float32"], DEMO.preprocess, "host", "float32")
    model.save(tmp_path / "a.mlpackage", make_demo_manifest("coreml"))
    assert capfd.readouterr() == ("", "")
