"""The apps, as far as they can be checked without their SDKs: a parser reads them, and what they take from a file is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

tree_sitter = pytest.importorskip(
    "tree_sitter", reason="pip install tree-sitter tree-sitter-kotlin tree-sitter-swift"
)
EXAMPLES = Path(__file__).parents[2] / "examples"
APPS = {
    "android/MainActivity.kt": "tree_sitter_kotlin",
    "ios/ContentView.swift": "tree_sitter_swift",
}


def errors(language: str, source: bytes) -> list[str]:
    """Where the parser found no sense, as line and text."""
    grammar = pytest.importorskip(language)
    tree = tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(source)
    found, left = [], [tree.root_node]
    while left:
        node = left.pop()
        if node.is_error or node.is_missing:
            found.append(f"{node.start_point.row + 1}: {node.text.decode()[:60]}")
        left += node.children
    return found


def stored(file: bytes, wanted: str) -> str:
    """A text of the archive behind a file, by the steps that the Android app takes."""

    def number(at: int, size: int = 2) -> int:
        return int.from_bytes(file[at : at + size], "little")

    end = file.rindex(b"PK\5\6")
    at = number(end + 16, 4)
    for _ in range(number(end + 10)):
        if file[at + 46 : at + 46 + number(at + 28)].decode() == wanted:
            local = number(at + 42, 4)
            begin = local + 30 + number(local + 26) + number(local + 28)
            return file[begin : begin + number(at + 24, 4)].decode()
        at += 46 + number(at + 28) + number(at + 30) + number(at + 32)
    raise AssertionError(f"no {wanted}")


@pytest.mark.parametrize("app", APPS)
def test_the_source_is_sound(app: str) -> None:
    source = (EXAMPLES / app).read_bytes()
    assert errors(APPS[app], source) == []
    assert errors(APPS[app], source.replace(b"{", b"(", 1)), "the parser sees nothing"


def test_the_android_app_finds_in_a_file_what_it_reads(tmp_path: Path) -> None:
    pytest.importorskip("litert_torch")
    from tinyvit.export import ExportConfig, export

    source = (EXAMPLES / "android" / "MainActivity.kt").read_text()
    config = ExportConfig(
        model="demo",
        targets=("litert",),
        preprocess="normalize",
        output=tmp_path / "model.tflite",
    )
    manifest = json.loads(stored(export(config).path.read_bytes(), "tinyvit.json"))
    assert 'stored(file, "tinyvit.json")' in source
    assert manifest["stage"] == "normalize"
    size = manifest["preprocess"]["size"]
    assert (manifest["input"]["dtype"], manifest["input"]["shape"]) == ("uint8", [1, size, size, 3])
    assert (manifest["output"]["dtype"], manifest["output"]["shape"]) == (
        "float32",
        [1, len(manifest["labels"]["names"])],
    )
    assert manifest["preprocess"]["resize"] >= size
    assert manifest["preprocess"]["crop"] == "center"
    for read in (
        'getString("stage")',
        'getString("crop") == "squash"',
        'getInt("size")',
        'getInt("resize")',
        'getJSONObject("labels").getJSONArray("names")',
    ):
        assert read in source


def test_the_iphone_app_gets_a_classifier_with_an_image(tmp_path: Path) -> None:
    ct = pytest.importorskip("coremltools")
    from tinyvit.export import ExportConfig, export

    config = ExportConfig(
        model="demo",
        targets=("coreml",),
        preprocess="normalize",
        output=tmp_path / "model.mlpackage",
    )
    about = ct.models.MLModel(str(export(config).path), skip_model_load=True).get_spec().description
    assert [one.type.WhichOneof("Type") for one in about.input] == ["imageType"]
    assert about.predictedFeatureName == "classLabel"
    assert about.predictedProbabilitiesName == "classLabel_probs"
    source = (EXAMPLES / "ios" / "ContentView.swift").read_text()
    assert "VNClassificationObservation" in source
    assert 'forResource: "model"' in source
    assert json.loads(about.metadata.userDefined["tinyvit"])["preprocess"]["crop"] == "center"
    for read in (
        '[.creatorDefinedKey] as? [String: String])?["tinyvit"]',
        "let preprocess: Preprocess",
        "let crop: String",
        '== "squash"',
    ):
        assert read in source
