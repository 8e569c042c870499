"""Classifier: every kind of input, in order, with the file's own preprocessing wherever that takes place."""

from __future__ import annotations

import dataclasses
import itertools
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tinyvit import Classifier, Prediction
from tinyvit.errors import ArtifactError, ImageError, RequestError
from tinyvit.labels import Label
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes import open_artifact, open_runtime

RNG = np.random.default_rng(3)
STAGES = [("host", "batch"), ("host", 4), ("normalize", "batch"), ("normalize", 1)]


def close_to(some: list[Any], others: list[Any]) -> bool:
    pairs = list(zip(some, others, strict=True))
    return all(
        [p.index for p in a] == [p.index for p in b]
        and np.allclose([p.score for p in a], [p.score for p in b])
        for a, b in pairs
    )


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(("stage", "batch"), STAGES)
def test_every_kind_of_input(
    build_artifact: Any,
    engine_and_suffix: tuple[str, str],
    image_files: list[Path],
    stage: str,
    batch: int | str,
) -> None:
    engine, suffix = engine_and_suffix
    with Classifier(build_artifact(suffix, stage, batch), engine, threads=1) as classifier:
        expected = [classifier.predict(path) for path in image_files]
        assert len({tuple(p.index for p in answer) for answer in expected}) > 1
        data = image_files[0].read_bytes()
        for one in (
            str(image_files[0]),
            data,
            bytearray(data),
            memoryview(data),
            Image.open(image_files[0]),
            pixels(image_files[0]),
        ):
            assert close_to([classifier.predict(one)], expected[:1])
        many = [
            image_files,
            tuple(image_files),
            iter(image_files),
            (path.read_bytes() for path in image_files),
            image_files[0].parent,
        ]
        for each in [*many, str(image_files[0].parent), [Image.open(path) for path in image_files]]:
            assert close_to(classifier.predict(each), expected)
        same_size = np.stack([np.resize(pixels(path), (40, 40, 3)) for path in image_files])
        assert close_to(classifier.predict(same_size), [classifier.predict(x) for x in same_size])
        bgr = classifier.predict(pixels(image_files[0])[:, :, ::-1], channels="bgr")
        assert close_to([bgr], expected[:1])
        assert classifier.predict([]) == []


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(("stage", "batch"), STAGES)
def test_logits_are_those_of_the_written_out_pipeline(
    build_artifact: Any, image_files: list[Path], suffix: str, stage: str, batch: int | str
) -> None:
    classifier = Classifier(build_artifact(suffix, stage, batch))
    pytest.importorskip("onnxruntime")
    reference = open_runtime(build_artifact(".onnx", "host", "batch"))
    expected = reference.run(
        np.stack([classifier.preprocess(Image.open(path)) for path in image_files])
    )
    got = classifier.logits(image_files)
    assert (got.shape, got.dtype) == ((9, 10), np.float32)
    assert np.abs(got - expected).max() < 2e-3
    assert np.abs(classifier.logits(image_files[4]) - expected[4]).max() < 2e-3
    assert classifier.logits(iter([])).shape == (0, 10)


def test_a_file_that_resizes_by_itself(build_artifact: Any, image_files: list[Path]) -> None:
    pytest.importorskip("onnxruntime")
    classifier = Classifier(build_artifact(stage="full"), "onnxruntime")
    host = open_runtime(build_artifact(".onnx", "host", "batch"), "onnxruntime")
    smooth = [
        Image.open(path).resize((90, 70), Image.Resampling.BICUBIC) for path in image_files[:3]
    ]
    expected = host.run(np.stack([classifier.preprocess(image) for image in smooth]))
    assert np.abs(classifier.logits(smooth) - expected).max() < 0.5
    with pytest.raises(RequestError, match="by itself"):
        Classifier(build_artifact(stage="full"), "onnxruntime", preprocess=Preprocess(32, 40))


def test_predictions(build_artifact: Any, image_files: list[Path]) -> None:
    classifier = Classifier(build_artifact(), top_k=3)
    logits, got = classifier.logits(image_files[1]), classifier.predict(image_files[1])
    assert [p.index for p in got] == np.argsort(-logits)[:3].tolist()
    assert got[0] == Prediction(
        got[0].index, f"thing {got[0].index}", f"n{got[0].index:08}", got[0].score
    )
    assert np.allclose(
        [p.score for p in got], sorted(np.exp(logits) / np.exp(logits).sum())[:-4:-1]
    )
    everything = Classifier(build_artifact(), top_k=500).predict(image_files[1])
    assert len(everything) == 10
    assert abs(sum(p.score for p in everything) - 1) < 1e-6
    for wrong in (0, -1, 2.5):
        with pytest.raises(RequestError, match="top_k"):
            Classifier(build_artifact(), top_k=wrong)


@pytest.mark.parametrize("batch", ["batch", 4])
def test_bad_pictures(
    build_artifact: Any, image_files: list[Path], tmp_path: Path, batch: int | str
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    mixed = [*image_files[:5], tmp_path / "bad.jpg", np.zeros((2, 2)), *image_files[5:]]
    classifier = Classifier(build_artifact(batch=batch))
    got = classifier.predict(mixed, on_error="skip")
    assert [answer is None for answer in got] == [False] * 5 + [True] * 2 + [False] * 4
    assert close_to([answer for answer in got if answer], classifier.predict(image_files))
    for call in (classifier.predict, classifier.logits):
        with pytest.raises(ImageError, match=r"picture 5: .*bad\.jpg"):
            call(mixed)
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        classifier.predict(tmp_path / "bad.jpg")
    assert classifier.predict(tmp_path / "bad.jpg", on_error="skip") is None
    kinds = [type(answer) for answer in classifier.predict_each(mixed)]
    assert kinds == [list] * 5 + [ImageError] * 2 + [list] * 4
    with pytest.raises(RequestError, match="on_error"):
        classifier.predict(mixed, on_error="ignore")


@pytest.mark.parametrize("x", [5, None, {"a": 1}, {"a"}, object()])
def test_what_is_no_picture(build_artifact: Any, x: object) -> None:
    with pytest.raises(RequestError, match="not a picture"):
        Classifier(build_artifact()).predict(x)


def test_an_open_file_is_not_taken_for_a_list_of_lines(
    build_artifact: Any, image_files: list[Path]
) -> None:
    with image_files[0].open("rb") as file, pytest.raises(RequestError, match=r"read\(\)"):
        Classifier(build_artifact()).predict(file)


def test_an_endless_generator_is_streamed(build_artifact: Any) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield RNG.integers(0, 256, (33, 33, 3), np.uint8)

    answers = list(itertools.islice(Classifier(build_artifact()).predict_each(endless()), 20))
    assert len(answers) == 20
    assert taken < 60


def test_a_generator_may_use_its_buffer_again(build_artifact: Any) -> None:
    classifier = Classifier(build_artifact())
    frames = [RNG.integers(0, 256, (40, 40, 3), np.uint8) for _ in range(20)]
    buffer = np.zeros((40, 40, 3), np.uint8)

    def camera() -> Iterator[np.ndarray]:
        for frame in frames:
            buffer[:] = frame
            yield buffer

    assert close_to(classifier.predict(camera()), classifier.predict(frames))


def test_a_generator_may_use_its_bytes_again(build_artifact: Any, image_files: list[Path]) -> None:
    buffer = bytearray()

    def socket() -> Iterator[bytearray]:
        for path in image_files:
            buffer[:] = path.read_bytes()
            yield buffer

    classifier = Classifier(build_artifact())
    assert close_to(classifier.predict(socket()), classifier.predict(image_files))


def test_errors_of_a_generator_come_through(build_artifact: Any, image_files: list[Path]) -> None:
    def broken() -> Iterator[Path]:
        yield image_files[0]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Classifier(build_artifact()).predict(broken())


def test_a_turned_photograph_is_upright_whatever_it_comes_as(
    build_artifact: Any, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = Image.fromarray(RNG.integers(0, 256, (50, 40, 3), np.uint8))
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    classifier = Classifier(build_artifact())
    expected = classifier.logits(upright)
    for source in (
        tmp_path / "a.png",
        Image.open(tmp_path / "a.png"),
        (tmp_path / "a.png").read_bytes(),
    ):
        assert np.array_equal(classifier.logits(source), expected)


def test_threads_share_a_classifier(
    build_artifact: Any, engine_and_suffix: tuple[str, str], image_files: list[Path]
) -> None:
    classifier = Classifier(build_artifact(engine_and_suffix[1]), engine_and_suffix[0], threads=1)
    expected = classifier.logits(image_files)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(classifier.logits, [image_files] * 8):
            assert np.allclose(got, expected, atol=1e-4)


def test_describe_and_close(
    build_artifact: Any, engine_and_suffix: tuple[str, str], image_files: list[Path]
) -> None:
    classifier = Classifier(
        build_artifact(engine_and_suffix[1], batch=4), engine_and_suffix[0], threads=1
    )
    facts = classifier.describe()
    assert (facts.runtime.engine, facts.runtime.threads, facts.batch, facts.stage) == (
        engine_and_suffix[0],
        1,
        4,
        "host",
    )
    assert (
        classifier.manifest == open_artifact(build_artifact(engine_and_suffix[1], batch=4)).manifest
    )
    classifier.close()
    classifier.close()
    with pytest.raises(ArtifactError, match="closed"):
        classifier.predict(image_files[0])


def test_a_foreign_file_runs_with_one_warning(
    build_artifact: Any, engine_and_suffix: tuple[str, str], image_files: list[Path]
) -> None:
    engine, suffix = engine_and_suffix
    path = build_artifact(suffix, manifest=False)
    with pytest.warns(
        UserWarning, match="ImageNet's preprocessing.*preprocess=.*labels="
    ) as caught:
        classifier = Classifier(path, engine)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert classifier.manifest is None
    assert classifier.preprocess.size == 32
    assert classifier.predict(image_files[0])[0].label.startswith("class ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = Classifier(
            path, engine, preprocess=Preprocess(32, 36), labels=[Label("a", "n1"), *"bcdefghij"]
        )
    assert told.labels[:2] == (Label("a", "n1"), Label("b"))
    assert close_to(
        [[dataclasses.replace(p) for p in told.predict(image_files[2])]],
        [Classifier(build_artifact(suffix), engine).predict(image_files[2])],
    )


@pytest.mark.parametrize("manifest", [True, False])
def test_arguments_that_do_not_fit(build_artifact: Any, manifest: bool) -> None:
    path = build_artifact(manifest=manifest)
    with pytest.raises(RequestError, match="3 labels"):
        Classifier(path, preprocess=Preprocess(32, 32), labels=["a", "b", "c"])
    with pytest.raises(RequestError, match="size 32"):
        Classifier(path, preprocess=Preprocess(64, 64))


def foreign(path: Path, inputs: list[Any], outputs: list[Any], kind: str = "FLOAT") -> Path:
    onnx = pytest.importorskip("onnx")
    make, types = onnx.helper, onnx.TensorProto
    nodes = [
        make.make_node("Identity", [f"i{min(i, len(inputs) - 1)}"], [f"o{i}"])
        for i in range(len(outputs))
    ]
    ends = [
        [
            make.make_tensor_value_info(f"{letter}{i}", getattr(types, kind), s)
            for i, s in enumerate(x)
        ]
        for letter, x in zip("io", (inputs, outputs))
    ]
    onnx.save(
        make.make_model(
            make.make_graph(nodes, "g", *ends),
            opset_imports=[make.make_opsetid("", 18)],
            ir_version=9,
        ),
        path,
    )
    return path


@pytest.mark.parametrize(
    ("inputs", "outputs", "kind"),
    [
        ([["n", 3, 8, 8], ["n", 4]], [["n", 3, 8, 8], ["n", 4]], "FLOAT"),
        ([["n", 3, 8, 9]], [["n", 3, 8, 9]], "FLOAT"),
        ([["n", 10]], [["n", 10]], "FLOAT"),
        ([["n", 1, 8, 8]], [["n", 1, 8, 8]], "FLOAT"),
        ([["n", 3, "h", "w"]], [["n", 3, "h", "w"]], "FLOAT"),
        ([["n", 3, 8, 8]], [["n", 3, 8, 8]], "FLOAT16"),
        ([["n", 3, 8, 8]], [["n", 3, 8, 8]], "BFLOAT16"),
        ([["n", 3, 8, 8]], [["n", 3, 8, 8]], "STRING"),
    ],
)
def test_networks_of_other_shapes_are_refused(
    tmp_path: Path, inputs: Any, outputs: Any, kind: str
) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ArtifactError, match=r"expected|cannot open"):
        Classifier(foreign(tmp_path / "a.onnx", inputs, outputs, kind), "onnxruntime")


@pytest.mark.parametrize(
    "shape", [("n", 3, "h", "w"), ("n", "h", "w", 3)], ids=["host", "normalize"]
)
def test_a_foreign_file_for_any_size_asks_for_its_size(
    build_artifact: Any, image_files: list[Path], shape: Any, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    stage, kind = ("host", "FLOAT") if shape[1] == 3 else ("normalize", "UINT8")
    model = onnx.load(build_artifact(stage=stage, manifest=False))
    ends = onnx.helper.make_tensor_value_info("image", getattr(onnx.TensorProto, kind), shape)
    model.graph.input[0].CopyFrom(ends)
    onnx.save(model, tmp_path / "free.onnx")
    with pytest.raises(
        ArtifactError,
        match=r"free\.onnx takes image_files of any size.*: from Python: Classifier\(path, preprocess=.*224",
    ):
        Classifier(tmp_path / "free.onnx")
    told = Classifier(
        tmp_path / "free.onnx",
        preprocess=Preprocess(32, 36),
        labels=[f"thing {i}" for i in range(10)],
    )
    assert close_to(
        [[dataclasses.replace(p, wnid=f"n{p.index:08}") for p in told.predict(image_files[0])]],
        [Classifier(build_artifact()).predict(image_files[0])],
    )


def test_a_manifest_that_contradicts_the_network(build_artifact: Any, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model, said = onnx.load(build_artifact()), open_artifact(build_artifact()).manifest
    assert said
    lies = [
        dataclasses.replace(said, stage="normalize"),
        dataclasses.replace(said, stage="full"),
        dataclasses.replace(said, labels=said.labels[:5]),
        dataclasses.replace(said, input=dataclasses.replace(said.input, shape=(10**12, 3, 32, 32))),
        dataclasses.replace(said, preprocess=Preprocess(64, 64)),
    ]
    for lie in lies:
        onnx.helper.set_model_props(model, {"tinyvit": lie.to_json()})
        onnx.save(model, tmp_path / "a.onnx")
        with pytest.raises(ArtifactError):
            Classifier(tmp_path / "a.onnx")


def test_answers_that_are_not_finite_are_errors(
    build_artifact: Any, image_files: list[Path], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(build_artifact())
    broken = onnx.numpy_helper.from_array(np.full((32, 10), np.nan, "f"), "matrix")
    next(x for x in model.graph.initializer if x.name == "matrix").CopyFrom(broken)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ArtifactError, match="not finite"):
        Classifier(tmp_path / "a.onnx").predict(image_files[0])


def test_decoding_runs_beside_the_engine_in_bounded_time(build_artifact: Any) -> None:
    start = time.perf_counter()
    assert len(Classifier(build_artifact()).predict([np.zeros((32, 32, 3), np.uint8)] * 500)) == 500
    assert time.perf_counter() - start < 10
