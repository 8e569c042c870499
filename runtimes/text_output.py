"""Prints the results of tinyvit-predict, tinyvit-verify and tinyvit-inspect as text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinyvit.runtimes.manifest_summary import describe_integrity, summarize_manifest

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
    _print_safely(image_name)
    for prediction in predictions:
        line = f"  {prediction.score:7.2%}  {prediction.label}  {prediction.wnid}"
        _print_safely(line.rstrip())


def print_verification(file: str, result: Verification) -> None:
    """Print the result of a verification.

    Args:
        file: Path of the artifact.
        result: The result.
    """
    difference = (
        f"largest logit difference {result.max_abs_diff:.2e}, tolerance {result.tolerance:.2e}"
    )
    verdict = "PASS" if result.passed else "FAIL"
    _print_safely(f"{verdict}  {file}: {'; '.join((*result.reasons, difference))}")
    for golden_input in result.golden_inputs:
        top1 = "agrees" if golden_input.top1_agrees else "DIFFERS"
        _print_safely(
            f"  golden input {golden_input.pattern_number}: logit difference"
            f" {golden_input.max_abs_diff:.2e}, top-1 class {top1}"
        )
    _print_safely(f"  network: {describe_integrity(result.content_unchanged)}")
    _print_safely(f"  manifest: {describe_integrity(result.manifest_unchanged)}")
    _print_safely(f"  engine: {_describe_engine(result.engine)}")
    _print_safely(f"  host: {result.host.machine}, {result.host.processor}")


def print_manifest(manifest: Manifest, all_labels: bool) -> None:
    """Print a manifest.

    Args:
        manifest: The manifest.
        all_labels: Whether to print all class labels instead of the first three.
    """
    for heading, description in summarize_manifest(manifest).items():
        _print_safely(f"{heading:<{_HEADING_WIDTH}} {description}")
    labels = manifest.labels if all_labels else manifest.labels[:_SHORT_LABEL_COUNT]
    for index, label in enumerate(labels):
        _print_safely(f"  {index:>5}  {label.name}  {label.wnid}".rstrip())
    if len(labels) < len(manifest.labels):
        _print_safely(f"  {'...':>5}  --labels lists all {len(manifest.labels)}")


def _describe_engine(info: RuntimeInfo) -> str:
    """Return one line such as "onnxruntime, version 1.32.0, device ..., threads 1, ..."."""
    threads = "engine default" if info.threads is None else info.threads
    return (
        f"{info.engine}, version {info.version}, device {info.device}, threads {threads},"
        f" precision {info.precision}"
    )


def _print_safely(line: str) -> None:
    """Print a line with text from a file that may be hostile.

    Two kinds of characters are escaped: control characters, which could send commands to the
    terminal, and characters that the terminal's encoding lacks.
    """
    escaped = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in line)
    encoding = sys.stdout.encoding or "utf-8"
    print(escaped.encode(encoding, "backslashreplace").decode(encoding))
