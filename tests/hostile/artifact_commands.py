"""What users do with an exported file of any format; the loaders of the campaign call it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tinyvit.errors import ArtifactError
from tinyvit.runtimes import cli
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.network_analysis.coverage import check_coverage
from tinyvit.runtimes.verify import verify
from tinyvit.text.safe_text import print_lines

_PIXELS = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
_IMAGE_COUNT = 9
"""Number of images in a batch: more than a run of a network that takes any number of them."""


def choose_engine(path: Path) -> str | None:
    """Return the engine for a path: the evaluator for Core ML packages, otherwise the default."""
    return "coreml-reference" if path.suffix == ".mlpackage" else None


def predict(path: Path) -> None:
    """Predict the class of a small image, twice, and describe the classifier."""
    with Classifier(path, choose_engine(path)) as classifier:
        classifier.predict([Image.fromarray(_PIXELS)] * 2)
        str(classifier.describe())


def predict_batch(path: Path) -> None:
    """Predict the classes of several images of different sizes."""
    images = [Image.new("RGB", (40 + number, 48)) for number in range(_IMAGE_COUNT)]
    with Classifier(path, choose_engine(path)) as classifier:
        classifier.predict(images)


def verify_artifact(path: Path) -> None:
    """Verify an artifact; wrong logits or a changed hash refuse it."""
    result = verify(path, choose_engine(path))
    if not result.passed:
        raise ArtifactError("; ".join(result.reasons), "export it again")


def check_operators(path: Path) -> None:
    """Find the operators that accelerators refuse."""
    coverage = check_coverage(read_artifact(path))
    print_lines(*coverage.describe())
    json.dumps(dataclasses.asdict(coverage), allow_nan=False)


def inspect(path: Path) -> None:
    """Run tinyvit-inspect as text and as JSON.

    An exit code of 1 refuses the file, and so does a changed manifest.
    """
    for options in ([], ["--labels"], ["--json"]):
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            exit_code = cli.inspect([str(path), *options])
        print(output.getvalue(), errors.getvalue())
        message = errors.getvalue()
        if exit_code == 0:
            if options == ["--json"]:
                json.loads(output.getvalue())
            if "CHANGED" in output.getvalue() or '"intact": false' in output.getvalue():
                raise ArtifactError("the manifest was changed", "export it again")
            continue
        is_one_line = message.count("\n") == 1
        if exit_code != 1 or "unexpected" in message or "report" in message or not is_one_line:
            raise AssertionError(f"exit code {exit_code}: {message}")
        raise ArtifactError(message, "export it again")
