"""The apps for phones are checked as far as possible without the SDKs of Android and iOS.

A parser checks their syntax, and exported files are checked for what the apps read from them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

tree_sitter = pytest.importorskip(
    "tree_sitter", reason="pip install tree-sitter tree-sitter-kotlin tree-sitter-swift"
)
EXAMPLES = Path(__file__).parents[2] / "examples"
GRAMMARS = {
    "android/MainActivity.kt": "tree_sitter_kotlin",
    "ios/ContentView.swift": "tree_sitter_swift",
}


def find_syntax_errors(grammar: str, source: bytes) -> list[str]:
    """Return the places that a parser does not understand, as line number and text."""
    language = tree_sitter.Language(pytest.importorskip(grammar).language())
    tree = tree_sitter.Parser(language).parse(source)
    errors, remaining = [], [tree.root_node]
    while remaining:
        node = remaining.pop()
        if node.is_error or node.is_missing:
            errors.append(f"{node.start_point.row + 1}: {node.text.decode()[:60]}")
        remaining += node.children
    return errors


def read_archive_entry(file: bytes, name: str) -> str:
    """Read a text from the archive behind a file, by the steps of the Android app."""

    def read_number(offset: int, size: int = 2) -> int:
        return int.from_bytes(file[offset : offset + size], "little")

    end_record = file.rindex(b"PK\5\6")
    header = read_number(end_record + 16, 4)
    for _ in range(read_number(end_record + 10)):
        name_length = read_number(header + 28)
        if file[header + 46 : header + 46 + name_length].decode() == name:
            local = read_number(header + 42, 4)
            content = local + 30 + read_number(local + 26) + read_number(local + 28)
            return file[content : content + read_number(header + 24, 4)].decode()
        header += 46 + name_length + read_number(header + 30) + read_number(header + 32)
    raise AssertionError(f"no {name}")


@pytest.mark.parametrize("app", GRAMMARS)
def test_the_source_has_no_syntax_errors(app: str) -> None:
    source = (EXAMPLES / app).read_bytes()
    assert find_syntax_errors(GRAMMARS[app], source) == []
    damaged = source.replace(b"{", b"(", 1)
    assert find_syntax_errors(GRAMMARS[app], damaged), "the parser finds no errors at all"


def test_labels_are_escaped_where_they_are_shown() -> None:
    kotlin = (EXAMPLES / "android" / "MainActivity.kt").read_text()
    swift = (EXAMPLES / "ios" / "ContentView.swift").read_text()
    assert kotlin.count("it.label") == kotlin.count("escapeText(it.label)") == 1
    assert swift.count("$0.identifier") == swift.count("escapeText($0.identifier)") == 1


@pytest.mark.slow
def test_the_android_app_finds_in_a_file_what_it_reads(tmp_path: Path) -> None:
    pytest.importorskip("litert_torch")
    from tinyvit.export import ExportConfig, export

    source = (EXAMPLES / "android" / "MainActivity.kt").read_text()
    config = ExportConfig(
        model="demo",
        targets=("litert",),
        preprocess="normalize",
        output_path=tmp_path / "model.tflite",
    )
    file = export(config).path.read_bytes()
    manifest = json.loads(read_archive_entry(file, "tinyvit.json"))
    assert 'readArchiveEntry(model, "tinyvit.json")' in source
    assert manifest["embedded_preprocessing"] == "normalize"
    size = manifest["preprocess"]["size"]
    assert (manifest["input"]["dtype"], manifest["input"]["shape"]) == ("uint8", [1, size, size, 3])
    (output,) = manifest["outputs"]
    assert (output["dtype"], output["shape"]) == (
        "float32",
        [1, len(manifest["labels"]["names"])],
    )
    assert manifest["preprocess"]["resize"] >= size
    assert manifest["preprocess"]["crop"] == "center"
    for expression in (
        'getString("embedded_preprocessing")',
        'getString("crop") == "squash"',
        'getInt("size")',
        'getInt("resize")',
        'getJSONObject("labels").getJSONArray("names")',
    ):
        assert expression in source


@pytest.mark.slow
def test_the_iphone_app_gets_a_classifier_with_an_image(tmp_path: Path) -> None:
    ct = pytest.importorskip("coremltools")
    from tinyvit.export import ExportConfig, export

    config = ExportConfig(
        model="demo",
        targets=("coreml",),
        preprocess="normalize",
        output_path=tmp_path / "model.mlpackage",
    )
    model = ct.models.MLModel(str(export(config).path), skip_model_load=True)
    description = model.get_spec().description
    assert [feature.type.WhichOneof("Type") for feature in description.input] == ["imageType"]
    assert description.predictedFeatureName == "classLabel"
    assert description.predictedProbabilitiesName == "classLabel_probs"
    source = (EXAMPLES / "ios" / "ContentView.swift").read_text()
    assert "VNClassificationObservation" in source
    assert 'forResource: "model"' in source
    manifest = json.loads(description.metadata.userDefined["tinyvit"])
    assert manifest["preprocess"]["crop"] == "center"
    for expression in (
        '[.creatorDefinedKey] as? [String: String])?["tinyvit"]',
        "let preprocess: Preprocess",
        "let crop: String",
        '== "squash"',
    ):
        assert expression in source
