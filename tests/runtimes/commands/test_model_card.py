"""`tinyvit inspect FILE --card` writes a model card that the Hugging Face hub can read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT, has_control_characters
from tests.helpers.small_classifiers import QUANTIZATION, ArtifactBuilder, make_manifest
from tinyvit.labels import Label
from tinyvit.manifest import MANIFEST_KEY, Manifest
from tinyvit.manifest_parts import OutputSpec, SourceCheckpoint
from tinyvit.runtimes import cli
from tinyvit.runtimes.commands.model_card import ArtifactFacts, format_model_card

FACTS = ArtifactFacts("test.onnx", companions=(), extra="", is_unchanged=True)

Reader = Callable[[str], Any]


@pytest.fixture(scope="module")
def read_card() -> Reader:
    """The function with which huggingface_hub reads the text of a model card."""
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="reads model cards")
    return huggingface_hub.ModelCard  # type: ignore[no-any-return]


def run_inspect(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run tinyvit-inspect; return its exit code, stdout and stderr."""
    code = cli.inspect([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def make_int8_manifest(**changes: Any) -> Manifest:
    manifest = replace(make_manifest("host", 1), precision="int8", quantization=QUANTIZATION)
    return replace(manifest, **changes)


def test_the_command_writes_a_card_beside_the_file(
    build_artifact: ArtifactBuilder,
    read_card: Reader,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = build_artifact()
    moved = tmp_path / "my model.onnx"
    moved.write_bytes(file.read_bytes())
    code, out, err = run_inspect(capsys, moved, "--card")
    assert (code, out, err) == (0, f"wrote {tmp_path / 'README.md'}\n", "")
    card = read_card((tmp_path / "README.md").read_text(encoding="utf-8"))
    assert card.data.to_dict() == {
        "license": "mit",
        "library_name": "tinyvit-edge",
        "pipeline_tag": "image-classification",
        "tags": ["tinyvit", "vision-transformer", "test", "onnx", "float32"],
    }
    assert "tinyvit predict 'my model.onnx' photo.jpg\n" in card.text
    assert 'with Classifier("my model.onnx") as model:\n' in card.text
    assert "| 9 | thing 9 | n00000009 |\n" in card.text
    assert "The export measured no accuracy of this file." in card.text
    code, out, err = run_inspect(capsys, moved, "--card")
    assert code == 1
    assert err == (
        f"error: {tmp_path / 'README.md'} exists: give another -o, or --overwrite to replace it\n"
    )
    other = tmp_path / "folder" / "card.md"
    assert run_inspect(capsys, moved, "--card", "-o", other)[0] == 0
    assert other.read_bytes() == (tmp_path / "README.md").read_bytes()


def test_a_path_without_card_is_refused(
    build_artifact: ArtifactBuilder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run_inspect(capsys, build_artifact(), "-o", tmp_path / "card.md")
    assert code == 1
    assert err == "error: -o was given without --card: add --card, or leave -o out\n"


def test_a_changed_manifest_is_stated(
    build_artifact: ArtifactBuilder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    file = build_artifact()
    model = onnx.load(file)
    text = next(entry.value for entry in model.metadata_props if entry.key == MANIFEST_KEY)
    changed = text.replace("thing 3", "thing x")
    onnx.helper.set_model_props(model, {MANIFEST_KEY: changed})
    onnx.save(model, tmp_path / "changed.onnx")
    assert run_inspect(capsys, tmp_path / "changed.onnx", "--card")[0] == 0
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "**Warning:** the manifest of this file was changed after the export." in card


def test_metrics_have_intervals(read_card: Reader) -> None:
    """The limits are Wilson's for 852 and 987 of 1000, computed with statsmodels 0.15."""
    card = read_card(format_model_card(make_int8_manifest(), FACTS))
    results = {result.metric_type: result for result in card.data.eval_results}
    assert results.keys() == {"accuracy", "agreement"}
    accuracy = results["accuracy"]
    assert card.data.model_name == "test"
    assert accuracy.task_type == "image-classification"
    assert (accuracy.dataset_type, accuracy.metric_value) == ("other", 0.852)
    assert accuracy.metric_args == {
        "images": 1000,
        "confidence_level": 0.95,
        "confidence_low": 0.8286,
        "confidence_high": 0.8727,
    }
    assert results["agreement"].metric_value == 0.987
    assert "| Top-1 accuracy | 85.2% | 82.9% to 87.3% | 1000 |" in card.text
    assert "Top-1 accuracy of the float32 network on them: 85.4%." in card.text
    assert "| calibration | 256 images, torchao HistogramObserver |" in card.text


def test_synthetic_images_make_no_metric_on_the_hub(read_card: Reader) -> None:
    quantization = replace(QUANTIZATION, top1=None, has_synthetic_evaluation=True)
    card = read_card(format_model_card(make_int8_manifest(quantization=quantization), FACTS))
    assert "model-index" not in card.data.to_dict()
    assert card.data.eval_results is None
    assert "These figures state how close int8 is to float32" in card.text
    assert "| Top-1 agreement with the float32 network | 98.7% |" in card.text


def test_a_released_checkpoint_names_its_origin(read_card: Reader) -> None:
    source = SourceCheckpoint("tiny_vit_21m_384.dist_in22k_ft_in1k", "0" * 64)
    manifest = make_int8_manifest(source=source, license="apache-2.0")
    data = read_card(format_model_card(manifest, FACTS)).data.to_dict()
    assert data["license"] == "apache-2.0"
    assert data["datasets"] == ["imagenet-1k", "imagenet-22k"]
    assert data["base_model"] == "timm/tiny_vit_21m_384.dist_in22k_ft_in1k"
    assert data["base_model_relation"] == "quantized"
    card = read_card(format_model_card(replace(manifest, quantization=None), FACTS))
    assert "base_model_relation" not in card.data.to_dict()
    assert "accuracy of the checkpoint on ImageNet-1k is 86.2% (top-5: 97.8%)" in card.text
    own_file = replace(manifest, license="unknown")
    assert "base_model" not in read_card(format_model_card(own_file, FACTS)).data.to_dict()


def test_another_license_gets_a_name_of_its_own(read_card: Reader) -> None:
    manifest = replace(make_manifest("host", 1), license="My Company: internal, v2")
    data = read_card(format_model_card(manifest, FACTS)).data.to_dict()
    assert data["license"] == "other"
    assert data["license_name"] == "my-company-internal-v2"


def test_an_embedding_is_run_by_encoder(read_card: Reader) -> None:
    output = OutputSpec("embedding", (1, 320), "float32", "NC", "embedding")
    manifest = replace(make_manifest("host", 1), outputs=(output,), labels=())
    facts = replace(FACTS, file_name="m.xml", companions=("m.bin",), extra="openvino")
    card = read_card(format_model_card(manifest, facts))
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert "Install the Python package `tinyvit-edge` with the extra `openvino`.\n" in card.text
    assert 'embedding = model.embed("photo.jpg")\n' in card.text
    assert "It needs the following files in the same folder: m.bin." in card.text
    assert "## Labels" not in card.text


def test_only_1000_labels_are_listed() -> None:
    labels = tuple(Label(f"class {index}") for index in range(1001))
    card = format_model_card(replace(make_manifest("host", 1), labels=labels), FACTS)
    assert "| 999 | class 999 |  |" in card
    assert "| 1000 |" not in card
    assert "The first 1000 of 1001 labels" in card


def test_text_of_strangers_is_escaped(read_card: Reader) -> None:
    """No text adds a field to the header, a heading, a link, a block of code or HTML."""
    attack = 'x"\nlicense: mit\n---\n# heading\n```\n[x](https://evil.org)<script>' + HOSTILE_TEXT
    manifest = make_int8_manifest(
        model=attack,
        variant=attack,
        target=attack,
        license=attack,
        labels_source=attack,
        labels=tuple(Label(attack, attack) for _ in range(10)),
        source=SourceCheckpoint(attack, attack),
        tools={attack: attack},
        content_sha256=attack,
        preprocess_source=attack,
        quantization=replace(QUANTIZATION, method=attack, measured_on=attack),
    )
    facts = replace(FACTS, file_name=f"{attack}.onnx", companions=(attack,))
    text = format_model_card(manifest, facts)
    assert not has_control_characters(text)
    card = read_card(text)
    data = card.data.to_dict()
    assert data.keys() == {
        *("license", "license_name", "library_name", "pipeline_tag", "tags"),
        *("metrics", "model-index"),
    }
    assert data["license"] == "other"
    assert re.fullmatch(r"[a-z0-9._-]+", data["license_name"])
    assert all(re.fullmatch(r"[a-z0-9._-]+", tag) for tag in data["tags"])
    assert card.data.model_name.startswith('x"\\u000alicense: mit\\u000a---')
    headings = [line for line in card.text.splitlines() if line.startswith("#")]
    assert headings[1:] == [
        *("## How to run it", "## Accuracy", "## Input and output", "## int8", "## Origin"),
        "## Labels",
    ]
    assert len(re.findall(r"(?m)^```", card.text)) == 4


def test_the_page_of_a_hostile_card_has_no_links_and_no_html() -> None:
    markdown_it = pytest.importorskip("markdown_it", reason="renders Markdown")
    attack = (
        '"><img src=x> [x](https://evil.org) <https://evil.org> ![](x) **b** `c` | ' + HOSTILE_TEXT
    )
    labels = tuple(Label(attack) for _ in range(10))
    manifest = make_int8_manifest(model=attack, variant=attack, target=attack, labels=labels)
    card = format_model_card(manifest, replace(FACTS, companions=(attack,))).split("---\n")[2]
    page = markdown_it.MarkdownIt("commonmark").enable("table").render(card)
    tags = set(re.findall(r"<([a-z0-9]+)", page))
    assert tags == {
        *("h1", "h2", "p", "pre", "code", "table", "thead", "tbody", "tr", "th", "td"),
        *("details", "summary"),
    }
    assert page.count("<code") == 4  # two blocks, and twice the name of the package
    assert page.count("<td>") == page.count("</td>") == 4 * 2 + 2 * 5 + 2 * 6 + 2 * 8 + 3 * 10


@pytest.mark.parametrize(
    "text", ["yes", "null", "~", "1.0", "- a", "a: b", "#", "émoji 🙂", "'", "!!python/object:x"]
)
def test_texts_stay_texts_in_the_header(text: str, read_card: Reader) -> None:
    card = read_card(format_model_card(make_int8_manifest(model=text), FACTS))
    assert card.data.model_name == text
