"""The model card of an artifact: a README.md for a repository of the Hugging Face hub.

The text of the card comes from the manifest, which strangers may have written, so every value is
escaped. It states only what the manifest states.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tinyvit.image_sizes import describe_size
from tinyvit.manifest import Manifest
from tinyvit.runtimes import registry
from tinyvit.runtimes.artifact import Artifact, is_manifest_unchanged, list_artifact_files
from tinyvit.runtimes.commands.card_metadata import (
    CardMetric,
    find_release,
    format_card_metadata,
    list_metrics,
)
from tinyvit.runtimes.commands.manifest_summary import summarize_manifest
from tinyvit.text.markdown_text import escape_markdown, format_markdown_row
from tinyvit.text.plurals import format_count
from tinyvit.text.safe_text import escape_text, quote_argument

CARD_NAME = "README.md"
"""Name of the model card in a repository of the hub."""

_MAX_LABELS = 1000
"""Number of labels that a card lists. More are only counted."""

_INPUT_FACTS = ("input", "preprocessing", "  in the file", "output", "windows")
_INT8_FACTS = (
    "int8",
    "  processors",
    "  int8 share",
    "  in float32",
    "  calibration",
    "  accuracy",
)
_ORIGIN_FACTS = ("model", "variant", "license", "source", "tools", "parity", "manifest")
"""Headings of `summarize_manifest` in each section of the card."""

_CODE_BY_KIND = {
    "logits": ("Classifier", "print(model.predict({image})[0].label)"),
    "embedding": ("Encoder", "embedding = model.embed({image})"),
    "features": ("Encoder", "feature_maps = model.features({image})"),
}
"""Kind of output -> the class that runs it, and a line of Python that uses the object."""


@dataclass(frozen=True)
class ArtifactFacts:
    """Facts about an artifact that a card states, but that its manifest does not contain.

    Attributes:
        file_name: Name of the artifact, without folders.
        companions: Names of the separate files that the artifact needs.
        extra: Extra of tinyvit-edge that installs the engine; "" if the base install has it.
        is_unchanged: Whether the manifest in the file is, byte by byte, what was exported.
    """

    file_name: str
    companions: tuple[str, ...]
    extra: str
    is_unchanged: bool


def describe_artifact(artifact: Artifact) -> ArtifactFacts:
    """Collect what a card states about a file.

    Args:
        artifact: The artifact.

    Returns:
        The facts.

    Raises:
        ArtifactError: The file is damaged, or a file that it needs is missing.
    """
    path = artifact.path
    companions = () if path.is_dir() else list_artifact_files(path)[1:]
    engines = [registry.get_engine(name) for name in registry.engine_names()]
    extras = {
        engine.extra
        for engine in engines
        if artifact.format in engine.formats and not engine.is_reference
    }
    return ArtifactFacts(
        file_name=path.name,
        companions=tuple(companion.name for companion in companions),
        extra="" if not all(extras) else min(extra for extra in extras if extra),
        is_unchanged=is_manifest_unchanged(artifact),
    )


def format_model_card(manifest: Manifest, facts: ArtifactFacts) -> str:
    """Write the model card of an artifact.

    Args:
        manifest: Its manifest.
        facts: What the card states besides the manifest.

    Returns:
        The text of a README.md: a YAML header and Markdown.
    """
    summary = summarize_manifest(manifest, facts.is_unchanged)
    lines = [
        f"# {escape_markdown(manifest.model)}, {manifest.precision}, for"
        f" {escape_markdown(manifest.target)}",
        "",
        *_introduce(manifest, facts),
        "",
        *_explain_use(manifest, facts),
        "",
        *_report_accuracy(manifest),
        "",
        "## Input and output",
        "",
        *_format_facts(summary, _INPUT_FACTS),
    ]
    if manifest.quantization is not None:
        lines += ["", "## int8", "", *_format_facts(summary, _INT8_FACTS)]
    lines += ["", "## Origin", "", *_format_facts(summary, _ORIGIN_FACTS)]
    lines.append(format_markdown_row(("network", f"sha256 {manifest.content_sha256}")))
    if manifest.labels:
        lines += ["", *_list_labels(manifest)]
    return format_card_metadata(manifest) + "\n" + "\n".join(lines) + "\n"


def _introduce(manifest: Manifest, facts: ArtifactFacts) -> Iterator[str]:
    """Yield a paragraph that says what the file is, and a warning if it was changed."""
    class_count = format_count(len(manifest.labels), "class", "classes")
    purposes = {
        "logits": f"classifies images into {class_count}",
        "embedding": "computes an embedding (a vector) of an image",
        "features": "computes feature maps of an image",
    }
    yield (
        f"A TinyViT ({escape_markdown(manifest.variant)}, {describe_size(manifest.img_size)}"
        f" pixels) that {purposes[manifest.output_kind]}. `tinyvit-edge` exported it for"
        f" {escape_markdown(manifest.target)} in {manifest.precision}. The file contains its"
        " labels, its preprocessing, and test inputs with the expected outputs."
    )
    if facts.companions:
        names = ", ".join(map(escape_markdown, facts.companions))
        yield f"It needs the following files in the same folder: {names}."
    if not facts.is_unchanged:
        yield ""
        yield "**Warning:** the manifest of this file was changed after the export."


def _explain_use(manifest: Manifest, facts: ArtifactFacts) -> Iterator[str]:
    """Yield the section that says how to run the file."""
    package = "`tinyvit-edge`" + (f" with the extra `{facts.extra}`" if facts.extra else "")
    # `escape_text` leaves no line break, so the name cannot end the block of code.
    file, name = escape_text(quote_argument(facts.file_name)), escape_text(facts.file_name)
    class_name, code = _CODE_BY_KIND[manifest.output_kind]
    predict = f"tinyvit predict {file} photo.jpg"
    if manifest.output_kind != "logits":
        predict += " -o photo.npy" if manifest.output_kind == "embedding" else " -o photo.npz"
    yield from ("## How to run it", "", f"Install the Python package {package}.", "")
    yield from ("```bash", predict)
    if manifest.golden is not None:
        yield f"tinyvit verify {file}   # compares the outputs on your machine with PyTorch's"
    yield from ("```", "", "```python", f"from tinyvit import {class_name}", "")
    yield f"with {class_name}({json.dumps(name, ensure_ascii=False)}) as model:"
    yield from (f"    {code.format(image=json.dumps('photo.jpg'))}", "```")


def _report_accuracy(manifest: Manifest) -> Iterator[str]:
    """Yield the section about the accuracy: what was measured, or that nothing was."""
    yield from ("## Accuracy", "")
    metrics, quantization = list_metrics(manifest.quantization), manifest.quantization
    if metrics:
        is_synthetic = quantization is not None and quantization.has_synthetic_evaluation
        source = "images that its maker chose"
        if is_synthetic:
            source = "images that were made from the network itself"
        yield f"Measured during the export, on {source}."
        if is_synthetic:
            yield "These figures state how close int8 is to float32, not how accurate it is."
        header = ("metric", "value", "95% interval", "images")
        yield from ("", format_markdown_row(header), "|---|---|---|---|")
        yield from map(_format_metric, metrics)
        if quantization is not None and quantization.float_top1 is not None:
            yield ""
            yield f"Top-1 accuracy of the float32 network on them: {quantization.float_top1:.1f}%."
        return
    yield "The export measured no accuracy of this file."
    released = find_release(manifest)
    if released is not None and released.top1 is not None:
        yield (
            f"The published top-1 accuracy of the checkpoint on ImageNet-1k is {released.top1}%"
            f" (top-5: {released.top5}%)."
        )


def _format_metric(metric: CardMetric) -> str:
    """Return the row of the table for one metric."""
    if metric.interval is None:
        cells = [metric.name, f"{metric.value:.4f}", "not stated"]
    else:
        low, high = (100 * limit for limit in metric.interval)
        cells = [metric.name, f"{100 * metric.value:.1f}%", f"{low:.1f}% to {high:.1f}%"]
    return format_markdown_row([*cells, str(metric.image_count)])


def _format_facts(summary: dict[str, str], headings: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a table of facts."""
    yield from ("| | |", "|---|---|")
    for heading in headings:
        if heading in summary:
            yield format_markdown_row((heading.strip(), summary[heading]))


def _list_labels(manifest: Manifest) -> Iterable[str]:
    """Return the lines of the section with the labels, which can be folded on the page."""
    labels = manifest.labels[:_MAX_LABELS]
    rows = [
        format_markdown_row((str(index), label.name, label.wnid))
        for index, label in enumerate(labels)
    ]
    title = f"All {len(labels)} labels, in the order of the logits"
    if len(labels) < len(manifest.labels):
        title = f"The first {len(labels)} of {len(manifest.labels)} labels"
    return [
        "## Labels",
        "",
        f"They come from: {escape_markdown(manifest.labels_source or 'not stated')}.",
        "",
        f"<details><summary>{title}</summary>",
        "",
        "| index | label | WordNet id |",
        "|---|---|---|",
        *rows,
        "",
        "</details>",
    ]
