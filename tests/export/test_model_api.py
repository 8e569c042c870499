"""OpenVINO files in OpenVINO's own Model API, which knows nothing of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("openvino")
pytest.importorskip("model_api", reason="a peer: pip install openvino-model-api")

from PIL import Image

from tinyvit import Classifier
from tinyvit.export import export


@pytest.fixture(params=("host", "normalize", "full"))
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made, _ = export(
        "demo", target="openvino", preprocess=request.param, output=tmp_path / "demo.xml"
    )
    return made[0]


def test_it_finds_labels_and_preprocessing(file: Any, images: Path) -> None:
    from model_api.models import ClassificationModel, Model

    model = Model.create_model(str(file.path))
    assert isinstance(model, ClassificationModel)
    assert model.params.labels == [label.name.replace(" ", "_") for label in file.manifest.labels]
    picture = np.asarray(Image.open(images / "coffee.jpg").convert("RGB"))
    whole = file.manifest.stage == "full"
    found = model(picture if whole else picture[..., ::-1].copy()).top_labels[0]
    with Classifier(file.path, "openvino") as classifier:
        wanted = classifier.predict(images / "coffee.jpg")[0]
    assert found.name == wanted.label == "espresso"
    # It resizes in another way, and computes in bf16 where it can; without mean and std, or with red and blue swapped, it is under 0.5.
    assert abs(float(found.confidence) - wanted.score) < 0.05
