"""One image is prepared in the caller's thread, and the result is that of many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.small_classifiers import ArtifactBuilder
from tinyvit import Classifier
from tinyvit.errors import ImageError
from tinyvit.runtimes import image_input, image_pipeline


def no_threads(*args: object, **options: object) -> None:
    raise AssertionError("one image needs no thread")


@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_one_image_needs_no_thread(
    build_artifact: ArtifactBuilder,
    image_files: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    batch: int | str,
) -> None:
    with Classifier(build_artifact(batch=batch), "onnxruntime") as classifier:
        expected = classifier.logits(image_files)
        monkeypatch.setattr(image_pipeline, "map_ahead", no_threads)
        for path, row in zip(image_files, expected):
            assert np.allclose(classifier.logits(path), row, atol=1e-5)
            assert np.array_equal(classifier.logits([path])[0], classifier.logits(path))
        with pytest.raises(AssertionError, match="needs no thread"):
            classifier.logits(image_files)


def test_errors_of_one_image_are_those_of_many(
    build_artifact: ArtifactBuilder, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    with Classifier(build_artifact(), "onnxruntime") as classifier:
        with pytest.raises(ImageError, match=r"a\.png"):
            classifier.predict(tmp_path / "a.png")
        with pytest.raises(ImageError, match=r"^image 0: "):
            classifier.predict([tmp_path / "a.png"])
        assert classifier.predict([tmp_path / "a.png"], on_error="skip") == [None]
        assert classifier.predict(tmp_path / "a.png", on_error="skip") is None


def test_the_callers_image_is_not_changed(build_artifact: ArtifactBuilder, tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 30), (1, 2, 3))
    image.info["exif"] = b"Exif\0\0"
    with Classifier(build_artifact(), "onnxruntime") as classifier:
        classifier.predict(image)
    assert image.info == {"exif": b"Exif\0\0"}
    assert image.tobytes() == bytes([1, 2, 3]) * 1200


def test_many_images_are_decoded_in_threads(
    build_artifact: ArtifactBuilder, image_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode: Callable[..., object] = image_input.ImageInput.decode
    names = set()

    def record(*args: object, **options: object) -> object:
        names.add(threading.current_thread().name)
        return decode(*args, **options)

    monkeypatch.setattr(image_input.ImageInput, "decode", record)
    with Classifier(build_artifact(), "onnxruntime") as classifier:
        classifier.predict(image_files)
        assert all(name.startswith("tinyvit-decode") for name in names)
        names.clear()
        classifier.predict(image_files[0])
        assert names == {threading.current_thread().name}
