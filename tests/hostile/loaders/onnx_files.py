"""Hostile .onnx files."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from tests.helpers.small_classifiers import build_classifier
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_file
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.verify import verify


def make_samples(folder: Path) -> Sequence[Path]:
    """Make small classifiers: with a manifest and each kind of preprocessing."""
    samples = []
    for preprocessing in ("host", "normalize", "full"):
        subfolder = folder / preprocessing
        subfolder.mkdir()
        path = build_classifier(subfolder, ".onnx", preprocessing, 1, with_manifest=True)
        samples.append(path)
    return samples


def predict(path: Path) -> None:
    """Predict the class of a small image."""
    with Classifier(path) as classifier:
        classifier.predict(Image.new("RGB", (48, 40)))


def verify_artifact(path: Path) -> None:
    """Verify an artifact; wrong logits or a changed hash refuse it."""
    result = verify(path)
    if not result.passed:
        raise ArtifactError("; ".join(result.reasons), "export it again")


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield files that are no ONNX models at all."""
    for length in (1, 100, 10_000):
        yield make_file("a.onnx", f"{length} random bytes", generator.randbytes(length))
        yield make_file("a.onnx", f"{length} zeros", bytes(length))


LOADERS = (
    Loader("ONNX: predict", predict, make_samples, craft, memory_bytes=2 * GIB),
    Loader("ONNX: verify", verify_artifact, make_samples, craft, must_refuse=True),
)
