"""The YAML header of a model card, as the Hugging Face hub reads it.

The fields and their values are those of the hub's documentation ("Model Cards" and its
specification modelcard.md in huggingface/hub-docs, read in November 2026). Every text is written as
a JSON string, which is also a string of YAML, so that no text of a manifest can add a field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from json import dumps
from typing import Any

from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import Quantization
from tinyvit.metrics.significance import wilson_interval
from tinyvit.text.safe_text import escape_text
from tinyvit.variants import IMAGENET_1K, RELEASED, ReleasedCheckpoint

LIBRARY_NAME = "tinyvit-edge"
"""Value of the header's field library_name."""

CONFIDENCE_LEVEL = 0.95
"""Confidence level of the intervals."""

_HUB_LICENSES = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause
    bsl-1.0 c-uda cc cc-by-2.0 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 ecl-2.0 epl-2.0
    eupl-1.1 gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 mit mpl-2.0 ms-pl ncsa odbl ofl-1.1
    openrail osl-3.0 pddl postgresql unknown unlicense wtfpl zlib
    """.split()  # noqa: SIM905 (a list of words would take one line for each)
)
"""Names of licenses that the hub knows. For any other license, its value is "other"."""

_MAX_NAME_LENGTH = 100
"""Longest name of a license or a tag, in characters."""


@dataclass(frozen=True)
class CardMetric:
    """One measured accuracy of an artifact.

    Attributes:
        type: Name of the metric on the hub, such as "accuracy".
        name: Name for people.
        value: The measured value, 0 to 1; higher is better.
        interval: Limits of the 95% confidence interval, 0 to 1; None if the manifest does not
            contain what is needed to compute it.
        image_count: Number of images on which it was measured.
    """

    type: str
    name: str
    value: float
    interval: tuple[float, float] | None
    image_count: int


def list_metrics(quantization: Quantization | None) -> list[CardMetric]:
    """List the accuracies that a manifest states.

    Args:
        quantization: The quantization; None for a float network, whose accuracy export does not
            measure.

    Returns:
        The metrics, the most important first.
    """
    if quantization is None or quantization.evaluation_count < 1:
        return []
    count = quantization.evaluation_count
    proportions = (
        ("accuracy", "Top-1 accuracy", quantization.top1),
        ("agreement", "Top-1 agreement with the float32 network", quantization.agreement),
        (
            "neighbor-agreement",
            "Nearest neighbors that are those of the float32 network",
            quantization.neighbor_agreement,
        ),
    )
    metrics = [
        _make_proportion(kind, name, percent, count)
        for kind, name, percent in proportions
        if percent is not None
    ]
    if quantization.cosine is not None:
        name = "Mean cosine similarity to the float32 network"
        metrics.append(CardMetric("cosine-similarity", name, quantization.cosine, None, count))
    return metrics


def find_release(manifest: Manifest) -> ReleasedCheckpoint | None:
    """Find the released checkpoint that an artifact was made from.

    A file of a user may have the name of a released checkpoint. It has no license of its own, so
    the license distinguishes them.

    Args:
        manifest: The manifest of the artifact.

    Returns:
        The checkpoint; None if the artifact was made from another one.
    """
    released = RELEASED.get(manifest.source.name)
    return released if released is not None and released.license == manifest.license else None


def format_card_metadata(manifest: Manifest) -> str:
    """Format the header of a model card.

    Args:
        manifest: The manifest of the artifact.

    Returns:
        Lines of YAML between two lines "---", with a newline at the end.
    """
    header: dict[str, Any] = {
        **_describe_license(manifest.license),
        "library_name": LIBRARY_NAME,
        "pipeline_tag": _choose_task(manifest),
        "tags": _list_tags(manifest),
        **_describe_origin(manifest),
    }
    metrics = list_metrics(manifest.quantization)
    if metrics and not _has_synthetic_images(manifest):
        header["metrics"] = sorted({metric.type for metric in metrics})
        header["model-index"] = [_make_index_entry(manifest, metrics)]
    return "\n".join(("---", *_format_yaml(header, indent=""), "---")) + "\n"


def _make_proportion(kind: str, name: str, percent: float, image_count: int) -> CardMetric:
    """Make a metric from a percentage of images, which a manifest states exactly or rounded."""
    correct = min(max(round(percent * image_count / 100), 0), image_count)
    low, high = wilson_interval(correct, image_count)
    return CardMetric(kind, name, percent / 100, (low / 100, high / 100), image_count)


def _has_synthetic_images(manifest: Manifest) -> bool:
    """Return whether the accuracy was measured on images that were made from the network."""
    return manifest.quantization is not None and manifest.quantization.has_synthetic_evaluation


def _describe_license(name: str) -> dict[str, str]:
    """Return the fields for a license: the hub's name of it, or "other" and a name of its own."""
    hub_name = name.strip().lower()
    if hub_name in _HUB_LICENSES:
        return {"license": hub_name}
    return {"license": "other", "license_name": _make_slug(name) or "unknown"}


def _choose_task(manifest: Manifest) -> str:
    """Return the hub's name of the task."""
    is_classifier = manifest.output_kind == "logits"
    return "image-classification" if is_classifier else "image-feature-extraction"


def _list_tags(manifest: Manifest) -> list[str]:
    """Return the tags: the family, the variant, the target and the precision."""
    names = ("tinyvit", "vision-transformer", manifest.variant, manifest.target, manifest.precision)
    return [tag for tag in dict.fromkeys(map(_make_slug, names)) if tag]


def _make_slug(text: str) -> str:
    """Return text in lower case, in which every other character than those of names is "-"."""
    return re.sub(r"[^a-z0-9._]+", "-", text[:_MAX_NAME_LENGTH].lower()).strip("-.")


def _describe_origin(manifest: Manifest) -> dict[str, Any]:
    """Return the fields for a released checkpoint: its repository, and its training images."""
    released = find_release(manifest)
    if released is None:
        return {}
    has_22k = "in22k" in released.name
    has_1k = released.num_classes == IMAGENET_1K
    datasets = ["imagenet-1k"] * has_1k + ["imagenet-22k"] * has_22k
    origin: dict[str, Any] = {"datasets": datasets, "base_model": released.hub_id}
    if manifest.quantization is not None:
        origin["base_model_relation"] = "quantized"
    return origin


def _make_index_entry(manifest: Manifest, metrics: list[CardMetric]) -> dict[str, Any]:
    """Return the entry of "model-index" for the accuracies that export measured.

    A manifest does not name the images, because they are those of the user who exported.
    """
    task = _choose_task(manifest)
    dataset = {
        "type": "other",
        "name": f"validation images of the export ({metrics[0].image_count})",
    }
    result = {
        "task": {"type": task},
        "dataset": dataset,
        "metrics": [_make_index_metric(metric) for metric in metrics],
    }
    return {"name": manifest.model, "results": [result]}


def _make_index_metric(metric: CardMetric) -> dict[str, Any]:
    """Return the entry of "model-index" for one metric, with its interval among the arguments."""
    arguments: dict[str, Any] = {"images": metric.image_count}
    if metric.interval is not None:
        low, high = metric.interval
        arguments |= {
            "confidence_level": CONFIDENCE_LEVEL,
            "confidence_low": round(low, 4),
            "confidence_high": round(high, 4),
        }
    return {
        "type": metric.type,
        "name": metric.name,
        "value": round(metric.value, 6),
        "args": arguments,
    }


def _format_yaml(value: dict[str, Any], indent: str) -> Iterator[str]:
    """Yield the lines of a mapping in YAML's block style. Its keys are words of this module."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield f"{indent}{key}:"
            yield from _format_yaml(item, f"{indent}  ")
        elif isinstance(item, list):
            yield f"{indent}{key}:"
            for element in item:
                yield from _format_list_item(element, indent)
        else:
            yield f"{indent}{key}: {_format_scalar(item)}"


def _format_list_item(element: Any, indent: str) -> Iterator[str]:
    """Yield the lines of an element of a list: a mapping or a scalar."""
    if not isinstance(element, dict):
        yield f"{indent}- {_format_scalar(element)}"
        return
    for number, line in enumerate(_format_yaml(element, f"{indent}  ")):
        yield f"{indent}- {line[len(indent) + 2 :]}" if number == 0 else line


def _format_scalar(value: str | float) -> str:
    """Return a scalar as JSON. Words that YAML reads as they are need no quotes."""
    if isinstance(value, str) and re.fullmatch(r"[a-z][a-z-]*[a-z]", value) and value != "null":
        return value if value not in ("true", "false", "yes", "no", "on", "off") else dumps(value)
    return dumps(escape_text(value) if isinstance(value, str) else value, ensure_ascii=False)
