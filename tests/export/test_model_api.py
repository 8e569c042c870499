"""OpenVINO's own Model API, which knows nothing of this package, opens OpenVINO artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("openvino")
pytest.importorskip("model_api", reason="needs pip install openvino-model-api")

from PIL import Image

from tinyvit import Classifier
from tinyvit.runtimes.artifact import read_artifact


@pytest.mark.parametrize("embedded_preprocessing", ["host", "normalize", "full"])
def test_model_api_finds_labels_and_preprocessing(
    embedded_preprocessing: str,
    demo: dict[str, Path],
    preprocessing_artifacts: dict[str, dict[str, Any]],
    images: Path,
) -> None:
    from model_api.models import ClassificationModel, Model

    path = (
        demo["openvino"]
        if embedded_preprocessing == "host"
        else preprocessing_artifacts[embedded_preprocessing]["openvino"].path
    )
    manifest = read_artifact(path).manifest
    assert manifest is not None
    assert manifest.embedded_preprocessing == embedded_preprocessing
    model = Model.create_model(str(path))
    assert isinstance(model, ClassificationModel)
    assert model.params.labels == [label.name.replace(" ", "_") for label in manifest.labels]
    image = np.asarray(Image.open(images / "coffee.jpg").convert("RGB"))
    is_rgb = embedded_preprocessing == "full"
    best = model(image if is_rgb else image[..., ::-1].copy()).top_labels[0]
    with Classifier(path, "openvino") as classifier:
        expected = classifier.predict(images / "coffee.jpg")[0]
    assert best.name == expected.label == "espresso"
    # Model API resizes in another way and computes in bfloat16 where it can. Without mean and
    # standard deviation, or with red and blue swapped, its confidence is below 0.5.
    assert abs(float(best.confidence) - expected.score) < 0.05
