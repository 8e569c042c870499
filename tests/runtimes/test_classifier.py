"""`Classifier` takes every kind of image, in order, and preprocesses it as the file states."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.predictions import predictions_agree
from tests.helpers.small_classifiers import ArtifactBuilder
from tinyvit import Classifier, Prediction
from tinyvit.errors import ArtifactError, ImageError, RequestError
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes import ModelInfo, RuntimeOptions, open_runtime, read_artifact

RNG = np.random.default_rng(3)
PREPROCESSING_AND_BATCH = [("host", "batch"), ("host", 4), ("normalize", "batch"), ("normalize", 1)]
EXIF_ORIENTATION = 0x0112
ROTATE_90_CLOCKWISE = 6


def read_pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(("embedded_preprocessing", "batch"), PREPROCESSING_AND_BATCH)
def test_one_image_may_have_any_form(
    build_artifact: ArtifactBuilder,
    engine_and_suffix: tuple[str, str],
    image_files: list[Path],
    embedded_preprocessing: str,
    batch: int | str,
) -> None:
    engine, suffix = engine_and_suffix
    path = image_files[0]
    data = path.read_bytes()
    with Classifier(
        build_artifact(suffix, embedded_preprocessing, batch), engine, threads=1
    ) as classifier:
        expected = [classifier.predict(path)]
        images = (
            str(path),
            data,
            bytearray(data),
            memoryview(data),
            Image.open(path),
            read_pixels(path),
        )
        for image in images:
            assert predictions_agree([classifier.predict(image)], expected)
        bgr = classifier.predict(read_pixels(path)[:, :, ::-1], channels="bgr")
        assert predictions_agree([bgr], expected)


@pytest.mark.parametrize(("embedded_preprocessing", "batch"), PREPROCESSING_AND_BATCH)
def test_many_images_may_have_any_form(
    build_artifact: ArtifactBuilder,
    engine_and_suffix: tuple[str, str],
    image_files: list[Path],
    embedded_preprocessing: str,
    batch: int | str,
) -> None:
    engine, suffix = engine_and_suffix
    with Classifier(
        build_artifact(suffix, embedded_preprocessing, batch), engine, threads=1
    ) as classifier:
        expected = [classifier.predict(path) for path in image_files]
        rankings = {tuple(prediction.index for prediction in result) for result in expected}
        assert len(rankings) > 1
        collections = (
            image_files,
            tuple(image_files),
            iter(image_files),
            (path.read_bytes() for path in image_files),
            image_files[0].parent,
            str(image_files[0].parent),
            [Image.open(path) for path in image_files],
        )
        for images in collections:
            assert predictions_agree(classifier.predict(images), expected)
        same_size = np.stack([np.resize(read_pixels(path), (40, 40, 3)) for path in image_files])
        assert predictions_agree(
            classifier.predict(same_size), [classifier.predict(image) for image in same_size]
        )
        assert classifier.predict([]) == []


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(("embedded_preprocessing", "batch"), PREPROCESSING_AND_BATCH)
def test_logits_are_those_of_the_steps_done_one_by_one(
    build_artifact: ArtifactBuilder,
    image_files: list[Path],
    suffix: str,
    embedded_preprocessing: str,
    batch: int | str,
) -> None:
    pytest.importorskip("onnxruntime")
    classifier = Classifier(build_artifact(suffix, embedded_preprocessing, batch))
    host_runtime = open_runtime(build_artifact(".onnx", "host", "batch"))
    expected = host_runtime.run(
        np.stack([classifier.preprocess(Image.open(path)) for path in image_files])
    )
    logits = classifier.logits(image_files)
    assert (logits.shape, logits.dtype) == ((9, 10), np.float32)
    assert np.abs(logits - expected).max() < 2e-3
    assert np.abs(classifier.logits(image_files[4]) - expected[4]).max() < 2e-3
    assert classifier.logits(iter([])).shape == (0, 10)


@pytest.mark.parametrize("chunk", [1, 3, 9, 20])
def test_logits_do_not_depend_on_the_chunk(
    build_artifact: ArtifactBuilder, image_files: list[Path], chunk: int
) -> None:
    classifier = Classifier(build_artifact(batch=4))
    logits = list(classifier.logits_each(image_files, chunk=chunk))
    assert np.allclose(logits, classifier.logits(image_files), atol=1e-4)


def test_a_file_that_resizes_inside_takes_any_size(
    build_artifact: ArtifactBuilder, image_files: list[Path]
) -> None:
    pytest.importorskip("onnxruntime")
    classifier = Classifier(build_artifact(embedded_preprocessing="full"), "onnxruntime")
    host_runtime = open_runtime(build_artifact(".onnx", "host", "batch"), "onnxruntime")
    smooth_images = [
        Image.open(path).resize((90, 70), Image.Resampling.BICUBIC) for path in image_files[:3]
    ]
    expected = host_runtime.run(np.stack([classifier.preprocess(x) for x in smooth_images]))
    assert np.abs(classifier.logits(smooth_images) - expected).max() < 0.5
    with pytest.raises(RequestError, match="inside the file"):
        Classifier(
            build_artifact(embedded_preprocessing="full"),
            "onnxruntime",
            preprocess=Preprocess(32, 40),
        )


def test_predictions_are_the_softmax_of_the_best_logits(
    build_artifact: ArtifactBuilder, image_files: list[Path]
) -> None:
    classifier = Classifier(build_artifact(), top_k=3)
    logits, predictions = classifier.logits(image_files[1]), classifier.predict(image_files[1])
    assert [x.index for x in predictions] == np.argsort(-logits)[:3].tolist()
    best = predictions[0]
    assert best == Prediction(best.index, f"thing {best.index}", f"n{best.index:08}", best.score)
    probabilities = sorted(np.exp(logits) / np.exp(logits).sum(), reverse=True)
    assert np.allclose([x.score for x in predictions], probabilities[:3])


def test_top_k_limits_the_predictions(
    build_artifact: ArtifactBuilder, image_files: list[Path]
) -> None:
    predictions = Classifier(build_artifact(), top_k=500).predict(image_files[1])
    assert len(predictions) == 10
    assert abs(sum(prediction.score for prediction in predictions) - 1) < 1e-6
    for top_k in (0, -1, 2.5):
        with pytest.raises(RequestError, match="top_k"):
            Classifier(build_artifact(), top_k=top_k)


@pytest.mark.parametrize("batch", ["batch", 4])
def test_images_that_cannot_be_read_are_errors_or_skipped(
    build_artifact: ArtifactBuilder, image_files: list[Path], tmp_path: Path, batch: int | str
) -> None:
    bad_file = tmp_path / "bad.jpg"
    bad_file.write_bytes(b"not an image")
    images = [*image_files[:5], bad_file, np.zeros((2, 2)), *image_files[5:]]
    classifier = Classifier(build_artifact(batch=batch))
    results = classifier.predict(images, on_error="skip")
    assert [result is None for result in results] == [False] * 5 + [True] * 2 + [False] * 4
    readable = [result for result in results if result]
    assert predictions_agree(readable, classifier.predict(image_files))
    for method in (classifier.predict, classifier.logits):
        with pytest.raises(ImageError, match=r"^image 5: .*bad\.jpg"):
            method(images)
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        classifier.predict(bad_file)
    assert classifier.predict(bad_file, on_error="skip") is None
    assert classifier.predict(bad_file.read_bytes(), on_error="skip") is None
    types = [type(result) for result in classifier.predict_each(images)]
    assert types == [list] * 5 + [ImageError] * 2 + [list] * 4
    with pytest.raises(RequestError, match="on_error"):
        classifier.predict(images, on_error="ignore")


@pytest.mark.parametrize("x", [5, None, {"a": 1}, {"a"}, object()])
def test_objects_that_are_not_images_are_refused(
    build_artifact: ArtifactBuilder, x: object
) -> None:
    with pytest.raises(RequestError, match="not an image"):
        Classifier(build_artifact()).predict(x)


def test_an_open_file_is_not_taken_for_a_list_of_lines(
    build_artifact: ArtifactBuilder, image_files: list[Path]
) -> None:
    with image_files[0].open("rb") as file, pytest.raises(RequestError, match=r"read\(\)"):
        Classifier(build_artifact()).predict(file)


def test_an_endless_generator_is_streamed(build_artifact: ArtifactBuilder) -> None:
    generated = 0

    def generate() -> Iterator[np.ndarray]:
        nonlocal generated
        while True:
            generated += 1
            yield RNG.integers(0, 256, (33, 33, 3), np.uint8)

    results = itertools.islice(Classifier(build_artifact()).predict_each(generate()), 20)
    assert len(list(results)) == 20
    assert generated < 60


def test_a_generator_may_use_its_array_again(build_artifact: ArtifactBuilder) -> None:
    classifier = Classifier(build_artifact())
    frames = [RNG.integers(0, 256, (40, 40, 3), np.uint8) for _ in range(20)]
    buffer = np.zeros((40, 40, 3), np.uint8)

    def read_camera() -> Iterator[np.ndarray]:
        for frame in frames:
            buffer[:] = frame
            yield buffer

    assert predictions_agree(classifier.predict(read_camera()), classifier.predict(frames))


def test_a_generator_may_use_its_bytes_again(
    build_artifact: ArtifactBuilder, image_files: list[Path]
) -> None:
    classifier = Classifier(build_artifact())
    buffer = bytearray()

    def read_socket() -> Iterator[bytearray]:
        for path in image_files:
            buffer[:] = path.read_bytes()
            yield buffer

    assert predictions_agree(classifier.predict(read_socket()), classifier.predict(image_files))


def test_errors_of_a_generator_are_raised(
    build_artifact: ArtifactBuilder, image_files: list[Path]
) -> None:
    def generate() -> Iterator[Path]:
        yield image_files[0]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Classifier(build_artifact()).predict(generate())


def test_a_rotated_photograph_is_upright_in_every_form(
    build_artifact: ArtifactBuilder, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = ROTATE_90_CLOCKWISE
    upright = Image.fromarray(RNG.integers(0, 256, (50, 40, 3), np.uint8))
    path = tmp_path / "a.png"
    rotated = upright.transpose(Image.Transpose.ROTATE_90)
    rotated.save(path, exif=exif)
    classifier = Classifier(build_artifact())
    for source in (path, Image.open(path), path.read_bytes()):
        assert np.array_equal(classifier.logits(source), classifier.logits(upright))
    as_stored = next(classifier.logits_each([path], exif=False))
    assert np.array_equal(as_stored, classifier.logits(rotated))


def test_threads_share_a_classifier(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str], image_files: list[Path]
) -> None:
    engine, suffix = engine_and_suffix
    classifier = Classifier(build_artifact(suffix), engine, threads=1)
    expected = classifier.logits(image_files)
    with ThreadPoolExecutor(4) as pool:
        for logits in pool.map(classifier.logits, [image_files] * 8):
            assert np.allclose(logits, expected, atol=1e-4)


def test_describe_and_close(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str], image_files: list[Path]
) -> None:
    engine, suffix = engine_and_suffix
    path = build_artifact(suffix, batch=4)
    classifier = Classifier(path, engine, threads=1)
    info = classifier.describe()
    runtime_info = open_runtime(path, engine, RuntimeOptions(threads=1)).describe()
    assert (runtime_info.engine, runtime_info.threads) == (engine, 1)
    assert info == ModelInfo(path.name, "host", 4, info.decoding_threads, 1, runtime_info)
    assert 1 <= info.decoding_threads <= 4
    assert classifier.manifest == read_artifact(path).manifest
    classifier.close()
    classifier.close()
    with pytest.raises(ArtifactError, match="closed"):
        classifier.predict(image_files[0])


def test_logits_that_are_not_finite_are_errors(
    build_artifact: ArtifactBuilder, image_files: list[Path], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(build_artifact())
    broken = onnx.numpy_helper.from_array(np.full((32, 10), np.nan, "f"), "matrix")
    next(x for x in model.graph.initializer if x.name == "matrix").CopyFrom(broken)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ArtifactError, match="not finite"):
        Classifier(tmp_path / "a.onnx").predict(image_files[0])


def test_decoding_runs_while_the_engine_runs_in_bounded_time(
    build_artifact: ArtifactBuilder,
) -> None:
    classifier = Classifier(build_artifact())
    start = time.perf_counter()
    assert len(classifier.predict([np.zeros((32, 32, 3), np.uint8)] * 500)) == 500
    assert time.perf_counter() - start < 10


def test_a_call_can_have_its_own_number_of_predictions(
    build_artifact: ArtifactBuilder, image_files: list[Path]
) -> None:
    classifier = Classifier(build_artifact(), top_k=3)
    assert len(classifier.predict(image_files[0])) == 3
    five = classifier.predict(image_files[0], top_k=5)
    assert len(five) == 5
    assert five[:3] == classifier.predict(image_files[0])
    assert [len(row) for row in classifier(image_files[:2], top_k=1)] == [1, 1]
    assert len(next(classifier.predict_each(image_files[:1], top_k=500))) == 10
    with pytest.raises(RequestError, match="top_k=0 is not allowed"):
        classifier.predict(image_files[0], top_k=0)


def test_the_representation_names_the_file_and_the_engine(build_artifact: ArtifactBuilder) -> None:
    classifier = Classifier(build_artifact(), "onnxruntime", threads=1)
    name = build_artifact().name
    expected = f"<Classifier {name}: 10 classes, onnxruntime on CPUExecutionProvider, float32>"
    assert repr(classifier) == expected
    classifier.close()
    assert repr(classifier) == expected
