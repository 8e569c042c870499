"""Prints the results of tinyvit-predict, tinyvit-verify and tinyvit-inspect as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinyvit.runtimes.commands.manifest_summary import describe_integrity, summarize_manifest
from tinyvit.text.safe_text import print_lines

if TYPE_CHECKING:
    from tinyvit.manifest import Manifest
    from tinyvit.runtimes.base import RuntimeInfo
    from tinyvit.runtimes.predictions import Prediction
    from tinyvit.runtimes.verify import Verification

_SHORT_LABEL_COUNT = 3
"""Number of labels that are printed without --labels."""

_HEADING_WIDTH = len("golden vectors")
"""Characters of the longest heading of `summarize_manifest`."""


def print_predictions(image_name: str, predictions: Sequence[Prediction]) -> None:
    """Print the predictions for one image.

    Args:
        image_name: Name of the image.
        predictions: The predictions, the most probable class first.
    """
    print_lines(image_name)
    for prediction in predictions:
        line = f"  {prediction.score:7.2%}  {prediction.label}  {prediction.wnid}"
        print_lines(line.rstrip())


def print_verification(file: str, result: Verification) -> None:
    """Print the result of a verification.

    Args:
        file: Path of the artifact.
        result: The result.
    """
    are_logits = all(golden.top1_agrees is not None for golden in result.golden_inputs)
    name = "logit" if are_logits else "output"
    difference = (
        f"largest {name} difference {result.max_abs_diff:.2e}, tolerance {result.tolerance:.2e}"
    )
    verdict = "PASS" if result.passed else "FAIL"
    print_lines(f"{verdict}  {file}: {'; '.join((*result.reasons, difference))}")
    print_lines(f"  reference {name}s: of {result.reference}")
    for number, golden_input in enumerate(result.golden_inputs, start=1):
        line = (
            f"  test input {number} of {len(result.golden_inputs)}: {name} difference"
            f" {golden_input.max_abs_diff:.2e}"
        )
        if are_logits:
            line += f", top-1 class {'agrees' if golden_input.top1_agrees else 'DIFFERS'}"
        print_lines(line)
    if not are_logits:
        for output in result.outputs:
            print_lines(
                f"  output {output.name}: difference {output.max_abs_diff:.2e}, tolerance"
                f" {output.tolerance:.2e}"
            )
    print_lines(f"  network: {describe_integrity(result.content_unchanged)}")
    print_lines(f"  manifest: {describe_integrity(result.manifest_unchanged)}")
    print_lines(f"  engine: {_describe_engine(result.engine)}")
    print_lines(f"  host: {result.host.machine}, {result.host.processor}")


def print_manifest(manifest: Manifest, is_unchanged: bool, all_labels: bool) -> None:
    """Print a manifest.

    Args:
        manifest: The manifest.
        is_unchanged: Whether the manifest in the file is, byte by byte, what was exported.
        all_labels: Whether to print all class labels instead of the first three.
    """
    for heading, description in summarize_manifest(manifest, is_unchanged).items():
        print_lines(f"{heading:<{_HEADING_WIDTH}} {description}")
    labels = manifest.labels if all_labels else manifest.labels[:_SHORT_LABEL_COUNT]
    for index, label in enumerate(labels):
        print_lines(f"  {index:>5}  {label.name}  {label.wnid}".rstrip())
    if len(labels) < len(manifest.labels):
        print_lines(f"  {'...':>5}  --labels lists all {len(manifest.labels)}")


def _describe_engine(info: RuntimeInfo) -> str:
    """Return one line such as "onnxruntime, version 1.32.0, device ..., threads 1, ..."."""
    threads = "engine default" if info.threads is None else info.threads
    return (
        f"{info.engine}, version {info.version}, device {info.device}, threads {threads},"
        f" precision {info.precision}"
    )
