"""`Classifier` takes the arguments that people pass: paths, arrays, tensors, dicts of labels."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.small_classifiers import ArtifactBuilder
from tinyvit import Classifier
from tinyvit.errors import ImageError, RequestError, TinyViTError
from tinyvit.runtimes.image_arguments import interpret_image_argument
from tinyvit.runtimes.verify import verify

PIXELS = np.random.default_rng(6).integers(0, 256, (40, 50, 3), np.uint8)
NAMES = [f"name {i}" for i in range(10)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with the image pictures/a.png."""
    folder = tmp_path / "home"
    (folder / "pictures").mkdir(parents=True)
    Image.fromarray(PIXELS).save(folder / "pictures" / "a.png")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


@pytest.fixture
def classifier(build_artifact: ArtifactBuilder) -> Classifier:
    return Classifier(build_artifact(), top_k=3)


def test_calling_a_classifier_is_predicting(classifier: Classifier) -> None:
    assert classifier(PIXELS) == classifier.predict(PIXELS)
    bgr = classifier(PIXELS[:, :, ::-1], channels="bgr")
    assert bgr == classifier.predict(PIXELS)


@pytest.mark.parametrize("make", [str, Path, PurePosixPath])
def test_a_path_may_begin_with_the_home_folder(
    classifier: Classifier, home: Path, make: Callable[[str], Any]
) -> None:
    expected = classifier.predict(PIXELS)
    assert classifier.predict(make("~/pictures/a.png")) == expected
    assert classifier.predict(make("~/pictures")) == [expected]
    assert classifier.predict([make("~/pictures/a.png")]) == [expected]
    entry = next(iter(os.scandir(home / "pictures")))
    assert classifier.predict(entry) == expected


def test_an_artifact_and_a_cache_folder_may_be_in_the_home_folder(
    copy_artifact: ArtifactBuilder, home: Path, classifier: Classifier
) -> None:
    copy_artifact().rename(home / "model.onnx")
    assert Classifier("~/model.onnx", top_k=3).predict(PIXELS) == classifier.predict(PIXELS)
    assert verify("~/model.onnx").passed


def test_a_folder_that_is_called_tilde_is_not_the_home_folder(
    classifier: Classifier, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "~").mkdir()
    Image.fromarray(PIXELS[::-1].copy()).save(tmp_path / "~" / "a.png")
    monkeypatch.chdir(tmp_path)
    expected = classifier.predict(PIXELS[::-1])
    assert expected != classifier.predict(PIXELS)
    assert classifier.predict(Path("~/a.png")) == expected


def test_arrays_of_paths_are_many_images(classifier: Classifier, home: Path) -> None:
    path = home / "pictures" / "a.png"
    expected = classifier.predict(PIXELS)
    for array in (
        np.array([path, path], object),
        np.array([str(path), str(path)]),
        np.array([str(path), str(path)], np.dtypes.StringDType())
        if hasattr(np.dtypes, "StringDType")
        else np.array([str(path), str(path)], object),
    ):
        assert classifier.predict(array) == [expected, expected]
    assert classifier.predict(np.array(str(path))) == expected
    assert classifier.predict(np.array([str(path)])[0]) == expected


def test_object_arrays_may_hold_images_of_different_sizes(classifier: Classifier) -> None:
    images = np.empty(3, object)
    images[:] = [PIXELS, PIXELS[:30], None]
    results = classifier.predict(images, on_error="skip")
    assert results == [classifier.predict(PIXELS), classifier.predict(PIXELS[:30]), None]


def test_a_column_of_a_table_is_many_images(classifier: Classifier, home: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"file": [str(home / "pictures" / "a.png")]}, index=[17])
    assert classifier.predict(table["file"]) == [classifier.predict(PIXELS)]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([["a.png"], ["b.png"]]), "2 axes of objects"),
        (np.array([b"a.png"]), "may have lost bytes"),
        (np.float64(3), "not an image"),
    ],
)
def test_other_arrays_of_objects_are_refused(array: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        interpret_image_argument(array)


def test_tensors_are_images_in_both_layouts(classifier: Classifier) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(PIXELS)
    expected = classifier.predict(PIXELS)
    channels_first = tensor.permute(2, 0, 1)
    for image in (tensor, channels_first, channels_first.contiguous()):
        assert classifier.predict(image) == expected
        assert classifier.predict(image[None]) == [expected]
        assert classifier.predict([image, image]) == [expected, expected]
    assert classifier.predict(tensor.flip(2), channels="bgr") == expected
    assert len(classifier.logits(channels_first[None])) == 1


def test_the_bytes_of_a_file_may_be_an_array(classifier: Classifier, home: Path) -> None:
    data = (home / "pictures" / "a.png").read_bytes()
    assert classifier.predict(np.frombuffer(data, np.uint8)) == classifier.predict(PIXELS)


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png;base64," + base64.b64encode(bytes(4000)).decode(),
        base64.b64encode(bytes(range(256)) * 15).decode(),
        "x" * 5000,
        "some words " * 500,
        "n" * 300 + ".jpg",
        "https://example.com/cat.jpg",
        "a\0b",
    ],
)
def test_text_that_is_no_path_does_not_lose_the_other_images(
    classifier: Classifier, text: str
) -> None:
    results = classifier.predict([PIXELS, text, PIXELS], on_error="skip")
    expected = classifier.predict(PIXELS)
    assert results == [expected, None, expected]
    with pytest.raises(ImageError):
        classifier.predict(text)
    with pytest.raises(ImageError, match=r"^image 1: "):
        classifier.predict([PIXELS, text])


@pytest.mark.parametrize(
    "labels",
    [
        NAMES,
        tuple(NAMES),
        np.array(NAMES),
        iter(NAMES),
        dict(enumerate(NAMES)),
        {str(i): name for i, name in reversed(list(enumerate(NAMES)))},
        {name: i for i, name in reversed(list(enumerate(NAMES)))},
    ],
)
def test_labels_may_be_a_list_or_a_dict(build_artifact: ArtifactBuilder, labels: Any) -> None:
    classifier = Classifier(build_artifact(), labels=labels)
    assert [label.name for label in classifier.labels] == NAMES


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {i + 1: name for i, name in enumerate(NAMES)},
            "they are 1 to 10, so either they count from 1",
        ),
        (dict.fromkeys(NAMES, 0), "0 occurs twice"),
        ({"a": "b"}, "its indices are not 0, 1, 2, .*'a' is no index"),
        (set(NAMES), "have no order"),
        (range(10), "the name of class 0 is 0, not a string"),
        ([*NAMES[:9], None], "the name of class 9 is None, not a string"),
        (NAMES[:9], "9 labels"),
        (Path("names.txt"), "read the file first"),
        (5, "have no order"),
    ],
)
def test_labels_without_names_or_order_are_refused(
    build_artifact: ArtifactBuilder, labels: Any, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        Classifier(build_artifact(), labels=labels)


def test_counts_may_be_numbers_of_numpy(build_artifact: ArtifactBuilder) -> None:
    classifier = Classifier(build_artifact(), threads=np.int64(1), top_k=np.int32(2))
    assert classifier.describe().runtime.threads == 1
    assert len(classifier.predict(PIXELS)) == 2


def test_other_files_and_names_are_explained(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(TinyViTError, match="tinyvit-export --checkpoint"):
        Classifier(tmp_path / "mine.pth")
    for name in ("tinyvit_5m", "demo"):
        with pytest.raises(TinyViTError, match=rf"from_pretrained\('{name}'\)"):
            Classifier(name)
