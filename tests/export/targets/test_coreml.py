"""The Core ML target: a classifier that Xcode and Vision understand, the same bytes each time, the same function as torch's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")
pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.export.manifest_builder import build_manifest
from tinyvit.export.targets.coreml import target as coreml
from tinyvit.export.targets.coreml import writer as package_coreml
from tinyvit.export.targets.coreml.target import TARGET
from tinyvit.export.targets.coreml.writer import class_names
from tinyvit.export.tracing import trace
from tinyvit.golden import PATTERNS, make_pattern
from tinyvit.labels import Label, imagenet_labels
from tinyvit.manifest import Manifest
from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.quantized_network import quantize_network, quantized_units, with_exact_arithmetic
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes.engines._mil_program import read_mil_program
from tinyvit.runtimes.engines.coreml_reference import Evaluator

SIZE = 64
PRECISIONS = ("float32", "float16", "int8", "int8-weights")
Make = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def source() -> Any:
    return load_released("demo").at_size(SIZE)


@pytest.fixture(scope="module")
def networks(source: Any) -> dict[str, Any]:
    """The demo, folded, in each precision; "recipe" is int8's."""
    import torch

    folded = fold_model(source.build())
    noise = torch.randn(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    recipe = Recipe("abc", SIZE, calibrate(folded, noise), 7, (), "", "", 8)
    int8 = quantize_network(folded, recipe, TARGET.placement)
    weights = quantize_network(folded, dataclasses.replace(recipe, scales={}), TARGET.placement)
    return {
        "float32": folded,
        "float16": folded,
        "int8": int8,
        "int8-weights": weights,
        "recipe": recipe,
    }


@pytest.fixture(scope="module")
def graphs(networks: dict[str, Any]) -> Callable[[str], Any]:
    made: dict[int, Any] = {}

    def graph(precision: str) -> Any:
        return made.setdefault(id(networks[precision]), trace(networks[precision]))

    return graph


def manifest_of(source: Any, stage: Any, precision: Any) -> Manifest:
    return dataclasses.replace(
        build_manifest(source, source.labels, 1, stage, precision), target="coreml"
    )


@pytest.fixture(scope="module")
def package(source: Any, graphs: Any, tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder, known = tmp_path_factory.mktemp("coreml"), {}

    def make(precision: str, stage: str = "normalize") -> Path:
        path = folder / f"{precision}.{stage}.mlpackage"
        if path not in known:
            lowered = TARGET.lower(graphs(precision), source.preprocess, stage)
            known[path] = lowered.save(path, manifest_of(source, stage, precision))
            assert known[path] == [path]
        return path

    return make


def message(path: Path) -> Any:
    from coremltools.proto import Model_pb2

    return Model_pb2.Model.FromString(
        (path / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes()
    )


def operations(model: Any) -> list[Any]:
    function = model.mlProgram.functions["main"]
    return list(function.block_specializations[function.opset].operations)


def files(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize(
    ("precision", "stage"),
    [*((p, "normalize") for p in PRECISIONS), ("float32", "host"), ("int8", "host")],
)
def test_it_is_the_network(
    source: Any, networks: Any, package: Make, precision: str, stage: str
) -> None:
    """In float64, where nothing is rounded, the program equals the exact reading to the last digits."""
    import torch

    program = read_mil_program(package(precision, stage))
    for s in PATTERNS:
        pixels = make_pattern(s, SIZE, SIZE)
        normalized = source.preprocess.normalize(pixels)[None]
        with torch.no_grad():
            wanted = with_exact_arithmetic(networks[precision])(
                torch.from_numpy(normalized).double()
            ).numpy()
        batch = normalized if stage == "host" else pixels[None]
        in_float64, in_float32 = (
            np.abs(Evaluator(program, one).compute_logits(batch) - wanted).max()
            for one in (np.float64, np.float32)
        )
        largest = np.abs(wanted).max()
        if precision == "float16":
            assert 1e-5 * largest < in_float32 < 0.01 * largest, "rounded to float16, and not more"
        else:
            # int8 is float16 around, whose rounding falls to other integers now and then.
            assert (
                in_float64
                < (0.03 if precision == "int8" else 1e-9 if stage == "host" else 1e-6) * largest
            )
            assert in_float32 < (0.03 if precision == "int8" else 1e-5) * largest


def test_int8_is_exact_but_for_float16(
    source: Any, networks: Any, graphs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(coreml, "_IN_FLOAT16", ())
    lowered = TARGET.lower(graphs("int8"), source.preprocess, "host")
    lowered.save(tmp_path / "exact.mlpackage", manifest_of(source, "host", "int8"))
    given = source.preprocess.normalize(make_pattern(PATTERNS[0], SIZE, SIZE))[None]
    with torch.no_grad():
        wanted = with_exact_arithmetic(networks["int8"])(torch.from_numpy(given).double()).numpy()
    logits = Evaluator(read_mil_program(tmp_path / "exact.mlpackage"), np.float64).compute_logits(
        given
    )
    assert np.abs(logits - wanted).max() < 1e-9 * np.abs(wanted).max()


def test_int8_is_the_recipes(networks: Any, package: Make) -> None:
    recipe, program = networks["recipe"], read_mil_program(package("int8", "host"))
    scales = {np.float16(scale) for scale in recipe.scales.values()}
    rounding = [one for one in program.operations if one.kind in ("quantize", "dequantize")]
    assert len(rounding) > 100
    assert {np.float16(one.constants["scale"]) for one in rounding} <= scales
    assert {one.dtype for one in rounding if one.kind == "quantize"} == {"int8"}
    weights = [one for one in program.operations if one.kind == "constexpr_affine_dequantize"]
    assert len(weights) == len(quantized_units(networks["float32"], recipe, TARGET.placement))
    assert all(one.constants["quantized_data"].dtype == np.int8 for one in weights)
    assert (
        max(int(np.abs(one.constants["quantized_data"].astype(int)).max()) for one in weights) == 63
    )
    made = {one.output: one.kind for one in program.operations}
    integer = [
        one
        for one in program.operations
        if one.kind in ("conv", "linear") and made.get(one.inputs.get("weight", "")) is not None
    ]
    assert len(integer) == len(weights)
    assert {made[one.inputs["x"]] for one in integer} == {"dequantize"}


@pytest.mark.parametrize(
    ("precision", "version"), [("float32", 7), ("float16", 7), ("int8-weights", 7), ("int8", 8)]
)
def test_the_oldest_system(package: Make, precision: str, version: int) -> None:
    """7 is iOS 16's specification, 8 iOS 17's."""
    model = message(package(precision, "normalize"))
    assert model.specificationVersion == version
    assert list(model.mlProgram.functions["main"].block_specializations) == [f"CoreML{version - 1}"]


def test_marking_for_an_older_system_changes_nothing_else(source: Any, graphs: Any) -> None:
    """What coremltools writes for iOS 16 and 17 is the same but for the mark, so that a mark is all that weights alone need."""
    ct = pytest.importorskip("coremltools")
    from tinyvit.export.targets.coreml.preprocess import around

    program = around(graphs("float32").program, SIZE, source.preprocess, "host")
    models = [
        ct.convert(
            program,
            minimum_deployment_target=one,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        ).get_spec()
        for one in (ct.target.iOS16, ct.target.iOS17)
    ]
    assert [model.specificationVersion for model in models] == [7, 8]
    package_coreml.mark_for_ios16(models[1])
    assert models[0].SerializeToString(deterministic=True) == models[1].SerializeToString(
        deterministic=True
    )


def test_int8_is_not_marked_for_an_older_system(package: Make) -> None:
    with pytest.raises(ArtifactError, match="dequantize, quantize"):
        package_coreml.mark_for_ios16(message(package("int8", "normalize")))


def test_a_classifier_as_xcode_and_vision_want_it(source: Any, package: Make) -> None:
    model = message(package("float32", "normalize"))
    described = model.description
    image = described.input[0].type.imageType
    assert (described.input[0].name, image.width, image.height, image.colorSpace) == (
        "image",
        SIZE,
        SIZE,
        image.RGB,
    )
    assert {one.name: one.type.WhichOneof("Type") for one in described.output} == {
        "classLabel": "stringType",
        "classLabel_probs": "dictionaryType",
        "logits": "multiArrayType",
    }
    assert (described.predictedFeatureName, described.predictedProbabilitiesName) == (
        "classLabel",
        "classLabel_probs",
    )
    last = operations(model)[-1]
    assert last.type == "classify"
    names = [
        one.immediateValue.tensor.strings.values[0]
        for one in last.inputs["classes"].arguments[0].value.immediateValue.list.values
    ]
    assert names == class_names(source.labels)
    assert described.metadata.license == source.license
    assert all(one.shortDescription for one in (*described.input, *described.output))
    function = model.mlProgram.functions["main"]
    assert list(function.block_specializations[function.opset].outputs) == [
        "classLabel",
        "classLabel_probs",
        "logits",
    ]


def test_the_classifier_is_written_as_coremltools_would(
    source: Any, networks: Any, package: Make
) -> None:
    """But for our third output, which its own code cannot have beside a classifier."""
    ct = pytest.importorskip("coremltools")
    import torch

    class Probabilities(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = networks["float32"]

        def forward(self, image: Any) -> Any:
            return self.network(image).softmax(-1)

    program = torch.export.export(
        Probabilities(), (torch.zeros(1, 3, SIZE, SIZE),)
    ).run_decompositions({})
    theirs = ct.convert(
        program,
        classifier_config=ct.ClassifierConfig(class_names(source.labels), "classLabel"),
        minimum_deployment_target=ct.target.iOS16,
        skip_model_load=True,
    ).get_spec()
    ours = message(package("float32", "host"))
    for model in (ours, theirs):
        last = operations(model)[-1]
        last.ClearField("attributes")
        last.inputs["probabilities"].ClearField("arguments")
        for one in model.description.output:
            one.ClearField("shortDescription")
    assert operations(ours)[-1].SerializeToString(deterministic=True) == operations(theirs)[
        -1
    ].SerializeToString(deterministic=True)
    assert list(ours.description.output)[:2] == list(theirs.description.output)


def test_class_names_are_unique() -> None:
    labels = imagenet_labels(1000)
    assert labels is not None
    names = class_names(labels)
    assert len(set(names)) == 1000
    changed = {label.name for label, name in zip(labels, names) if label.name != name}
    assert changed == {"crane", "maillot"}
    assert {
        "crane (n02012849)",
        "crane (n03126707)",
        "maillot (n03710637)",
        "maillot (n03710721)",
    } <= set(names)
    assert class_names((Label("a"), Label("a"), Label("a (1)"), Label("b"))) == [
        "a (0)",
        "a (1) (1)",
        "a (1)",
        "b",
    ]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_same_bytes_again(
    source: Any, graphs: Any, package: Make, tmp_path: Path, precision: str
) -> None:
    lowered = TARGET.lower(graphs(precision), source.preprocess, "normalize")
    path = tmp_path / "again.mlpackage"
    for _ in range(2):  # over a folder that is there, as the export does
        lowered.save(path, manifest_of(source, "normalize", precision))
    first = files(package(precision, "normalize"))
    assert sorted(first) == [
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
        "Manifest.json",
    ]
    assert files(path) == first


def test_sizes(package: Make) -> None:
    sizes = {
        precision: sum(map(len, files(package(precision, "normalize")).values()))
        for precision in PRECISIONS
    }
    assert sizes["float16"] < 0.52 * sizes["float32"]
    assert sizes["int8"] < 0.30 * sizes["float32"]
    assert sizes["int8-weights"] < 0.30 * sizes["float32"]


@pytest.mark.parametrize(
    ("stage", "batch", "said"),
    [("full", 1, "Vision"), ("host", 2, "one picture"), ("host", None, "one picture")],
)
def test_what_core_ml_cannot_do(stage: Any, batch: int | None, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        TARGET.lower(SimpleNamespace(batch=batch), None, stage)  # type: ignore[arg-type]


def test_a_missing_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingDependencyError, match=r"tinyvit-edge\[coreml\]"):
        TARGET.lower(SimpleNamespace(batch=1), None, "host")  # type: ignore[arg-type]


def test_nothing_is_said(
    source: Any, graphs: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    TARGET.lower(graphs("float32"), source.preprocess, "host").save(
        tmp_path / "a.mlpackage", manifest_of(source, "host", "float32")
    )
    assert capfd.readouterr() == ("", "")
