"""The JSON Schemas are those of the code, and accept the files that the code writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="recipes need tinyvit-edge[export]")
pytest.importorskip("jsonschema", reason="pip install check-jsonschema")

import jsonschema
import schema_files
from schema_pages import format_schema_page

from tests.helpers.records import make_full_records, make_sensitivity_record
from tests.helpers.small_classifiers import build_classifier
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.suite import SuiteConfig, evaluate_all
from tinyvit.bench.latency.config import LatencyConfig
from tinyvit.bench.latency.measure import measure_latency
from tinyvit.bench.record import Record
from tinyvit.data.dataset import DatasetLocation, open_dataset
from tinyvit.errors import ArtifactError
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import Quantization
from tinyvit.quant.channel_ranges.equalization import Equalization
from tinyvit.quant.recipe import Recipe, read_recipe
from tinyvit.runtimes import read_artifact

RECIPE = Recipe("abc", 64, {"a:in": 0.5, "b:out": 0.25}, 8, ("head",), "an observer", "def", 24)
QUANTIZATION = Quantization("an observer", "abc", 256, "def", 7, "any", ("head",))


def find_errors(name: str, data: Any) -> list[str]:
    """Return the messages of the committed schema about a file."""
    path = schema_files.FOLDER / f"{name}.schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(data)]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .onnx file with a manifest."""
    folder = tmp_path_factory.mktemp("classifier")
    return build_classifier(folder, ".onnx", "host", batch="batch", with_manifest=True)


@pytest.fixture
def manifest(classifier: Path) -> dict[str, Any]:
    """The JSON of the manifest in an .onnx file."""
    stored = read_artifact(classifier).manifest
    assert stored is not None
    return dict(json.loads(stored.to_json()))


@pytest.mark.parametrize("name", schema_files.SCHEMAS)
def test_the_committed_schema_is_that_of_the_code(name: str) -> None:
    """If this fails, run `python docs/tools/schema_files.py`."""
    path = schema_files.FOLDER / f"{name}.schema.json"
    text = schema_files.format_schema(schema_files.SCHEMAS[name]())
    assert path.read_text(encoding="utf-8") == text


def test_a_manifest_in_a_file_is_valid(manifest: dict[str, Any]) -> None:
    assert find_errors("manifest", manifest) == []
    stored = Manifest.from_json(json.dumps(manifest))
    for is_synthetic in (False, True):
        quantization = replace(QUANTIZATION, has_synthetic_calibration=is_synthetic)
        text = replace(stored, precision="int8", quantization=quantization).to_json()
        assert find_errors("manifest", json.loads(text)) == []


def test_the_schema_requires_the_fields_that_the_reader_requires(manifest: dict[str, Any]) -> None:
    for container in (manifest, manifest["preprocess"], manifest["input"], manifest["labels"]):
        for name in list(container):
            value = container.pop(name)
            text = json.dumps(manifest)
            try:
                Manifest.from_json(text)
                is_accepted = True
            except ArtifactError:
                is_accepted = False
            assert (find_errors("manifest", manifest) == []) == is_accepted, name
            container[name] = value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 2),
        ("img_size", "224"),
        ("precision", "float64"),
        ("labels", ["cat", "dog"]),
        ("unknown", 1),
    ],
)
def test_a_wrong_manifest_is_refused_by_schema_and_reader(
    manifest: dict[str, Any], name: str, value: Any
) -> None:
    manifest[name] = value
    assert len(find_errors("manifest", manifest)) == 1
    with pytest.raises(ArtifactError):
        Manifest.from_json(json.dumps(manifest))


def test_a_recipe_file_is_valid(tmp_path: Path) -> None:
    scales = Equalization(scales={"mlp.fc2_input": (0, -4)})
    for recipe in (RECIPE, replace(RECIPE, is_synthetic=True, equalization=scales)):
        recipe.save(tmp_path / "recipe.json")
        assert read_recipe(tmp_path / "recipe.json") == recipe
        assert find_errors("recipe", json.loads((tmp_path / "recipe.json").read_text())) == []


def test_a_wrong_recipe_is_refused() -> None:
    data = json.loads(RECIPE.to_json())
    assert find_errors("recipe", {**data, "weight_bits": 6}) == ["6 is not one of [4, 7, 8]"]
    assert find_errors("recipe", {**data, "scales": {"a:in": 0}}) == [
        "0 is less than the minimum of 1e-30"
    ]


def list_records(classifier: Path, folder: Path) -> Iterator[Record]:
    """Measure a latency and an accuracy, and yield records with everything that can be in them."""
    yield measure_latency([str(classifier)], LatencyConfig(runs=4, seconds=5.0, cold_starts=0))
    dataset = open_dataset(DatasetLocation(str(folder)))
    yield evaluate_all([str(classifier)], dataset, SuiteConfig(EvaluationOptions())).record
    yield from make_full_records()
    yield make_sensitivity_record()


def test_records_are_valid(classifier: Path, tmp_path: Path, images: Path) -> None:
    (tmp_path / "thing 1").mkdir()
    (tmp_path / "thing 1" / "cat.jpg").write_bytes((images / "cat.jpg").read_bytes())
    for record in list_records(classifier, tmp_path):
        assert find_errors("record", json.loads(record.to_json())) == []


def test_results_of_another_kind_are_refused() -> None:
    data = json.loads(make_sensitivity_record().to_json())
    assert find_errors("record", {**data, "kind": "latency"}) != []


def test_descriptions_come_from_the_docstrings() -> None:
    docstring = "Title.\n\nAttributes:\n    size: Size in\n        pixels.\n    name: Its name.\n"
    expected = {"size": "Size in pixels.", "name": "Its name."}
    assert schema_files.read_attributes(docstring) == expected
    for make_schema in schema_files.SCHEMAS.values():
        schema = make_schema()
        for definition in (schema, *schema["$defs"].values()):
            assert all(field["description"] for field in definition["properties"].values())


def test_a_page_lists_the_fields() -> None:
    part = {"description": "A part.", "anyOf": [{"$ref": "#/$defs/Part"}, {"type": "null"}]}
    schema = {
        "title": "A file",
        "description": "What it is.",
        "properties": {"size": {"description": "Its size.", "type": "integer"}, "part": part},
        "required": ["size"],
        "$defs": {"Part": {"description": "A part.", "properties": {}, "required": []}},
    }
    assert format_schema_page("file", schema) == (
        "# A file\n\nWhat it is.\n\nThe [JSON Schema](file.schema.json) states the same for"
        " programs.\n\n- `size` (integer)\n\n    Its size.\n\n"
        "- `part` ([Part](#part) or null, optional)\n\n    A part.\n\n## Part\n\nA part.\n\n"
    )
