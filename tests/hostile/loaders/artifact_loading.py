"""What users do with an exported file of any format; the loaders of the campaign call it."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

from PIL import Image

from tinyvit.errors import ArtifactError
from tinyvit.runtimes import cli
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.verify import verify

_IMAGE_COUNT = 9
"""Number of images in a batch: more than a run of a network that takes any number of them."""


def predict(path: Path) -> None:
    """Predict the class of a small image."""
    with Classifier(path) as classifier:
        classifier.predict(Image.new("RGB", (48, 40)))


def predict_batch(path: Path) -> None:
    """Predict the classes of several images of different sizes."""
    images = [Image.new("RGB", (40 + number, 48)) for number in range(_IMAGE_COUNT)]
    with Classifier(path) as classifier:
        classifier.predict(images)


def verify_artifact(path: Path) -> None:
    """Verify an artifact; wrong logits or a changed hash refuse it."""
    result = verify(path)
    if not result.passed:
        raise ArtifactError("; ".join(result.reasons), "export it again")


def inspect(path: Path) -> None:
    """Run tinyvit-inspect, as text and as JSON; a changed manifest refuses the file."""
    for options in (["--labels"], ["--json"]):
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = cli.inspect([str(path), *options])
        sys.stdout.write(output.getvalue())
        sys.stderr.write(errors.getvalue())
        if "report" in errors.getvalue():
            raise AssertionError(errors.getvalue())
        if code:
            raise ArtifactError(errors.getvalue().strip() or "no reason", "export it again")
        if "CHANGED" in output.getvalue() or '"intact": false' in output.getvalue():
            raise ArtifactError("the manifest was changed", "export it again")
