"""`Encoder` computes embeddings and feature maps; tinyvit-predict writes them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")

from tests.helpers.small_classifiers import ArtifactBuilder
from tests.helpers.small_encoders import EMBEDDING, FEATURES, average, build_encoder
from tinyvit import Classifier, Encoder
from tinyvit.errors import ArtifactError, ImageError
from tinyvit.runtimes import cli
from tinyvit.runtimes.verify import verify

ORANGE, BLUE = (255, 51, 0), (0, 0, 255)


def solid(color: tuple[int, int, int]) -> np.ndarray:
    """Return an image of one color, of another size than the network's input."""
    return np.full((30, 40, 3), color, np.uint8)


@pytest.fixture
def embedding_file(tmp_path: Path) -> Path:
    return build_encoder(tmp_path)


@pytest.fixture
def feature_file(tmp_path: Path) -> Path:
    return build_encoder(tmp_path, FEATURES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two images, and a file that is only called one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(solid(BLUE)).save(folder / "a.png")
    Image.fromarray(solid(ORANGE)).save(folder / "b.png")
    return folder


def test_the_embedding_of_one_image(embedding_file: Path) -> None:
    with Encoder(embedding_file) as encoder:
        assert encoder.size == 3
        embedding = encoder.embed(solid(ORANGE))
        assert (embedding.shape, embedding.dtype) == ((3,), np.float32)
        assert embedding.tolist() == pytest.approx([1, 0.2, 0], abs=1e-6)
        assert encoder(solid(ORANGE), channels="bgr").tolist() == pytest.approx([0, 0.2, 1])
        unit = encoder.embed(solid(ORANGE), l2_normalize=True)
        assert unit.tolist() == pytest.approx([1 / 1.04**0.5, 0.2 / 1.04**0.5, 0], abs=1e-6)
        black = encoder.embed(solid((0, 0, 0)), l2_normalize=True)
        assert black.tolist() == [0, 0, 0]


@pytest.mark.parametrize("batch", [1, 2, "batch"])
def test_the_embeddings_of_many_images(tmp_path: Path, folder: Path, batch: int | str) -> None:
    with Encoder(build_encoder(tmp_path, batch=batch)) as encoder:
        rows = encoder.embed([solid(ORANGE), solid(BLUE), solid(ORANGE)])
        assert rows == pytest.approx(np.array([[1, 0.2, 0], [0, 0, 1], [1, 0.2, 0]]), abs=1e-6)
        assert encoder.embed(folder) == pytest.approx(np.array([[0, 0, 1], [1, 0.2, 0]]), abs=1e-6)
        assert encoder.embed([]).shape == (0, 3)


def test_the_representation_names_the_file_and_the_outputs(tmp_path: Path) -> None:
    with Encoder(build_encoder(tmp_path), "onnxruntime") as encoder:
        assert repr(encoder) == (
            "<Encoder encoder.onnx: embedding of 3 values, onnxruntime on CPUExecutionProvider,"
            " float32>"
        )
    with Encoder(build_encoder(tmp_path, FEATURES), "onnxruntime") as encoder:
        assert repr(encoder).startswith("<Encoder encoder.onnx: feature maps stage0, stage1, onnx")


def test_feature_maps_have_the_names_of_the_outputs(feature_file: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 8, 3), np.uint8)
    with Encoder(feature_file) as encoder:
        maps = encoder.features(pixels)
        assert {name: array.shape for name, array in maps.items()} == {
            "stage0": (3, 8, 4),
            "stage1": (3, 4, 2),
        }
        assert maps["stage1"] == pytest.approx(average(pixels / 255, 4), abs=1e-6)
        many = encoder.features([pixels, solid(BLUE)])
        assert many["stage0"].shape == (2, 3, 8, 4)
        assert many["stage0"][0] == pytest.approx(average(pixels / 255, 2), abs=1e-6)
        assert [spec.stride for spec in encoder.outputs] == [2, 4]


def test_an_unreadable_image_is_an_error_of_that_image(embedding_file: Path, folder: Path) -> None:
    (folder / "c.png").write_bytes(b"no image")
    images = sorted(folder.iterdir())
    with Encoder(embedding_file) as encoder:
        with pytest.raises(ImageError, match=r"^image 2: "):
            encoder.embed(images)
        *good, bad = encoder.embed_each(images)
        assert isinstance(bad, ImageError)
        assert all(isinstance(row, np.ndarray) for row in good)


def test_a_copy_opens_the_file_again(embedding_file: Path) -> None:
    copy = pickle.loads(pickle.dumps(Encoder(embedding_file)))
    assert copy.embed(solid(BLUE)).tolist() == pytest.approx([0, 0, 1])


def test_each_class_opens_its_own_kind_of_file(
    embedding_file: Path, build_artifact: ArtifactBuilder
) -> None:
    with pytest.raises(ArtifactError, match="not a classifier: it returns an embedding: open it w"):
        Classifier(embedding_file)
    with pytest.raises(ArtifactError, match="is a classifier: it returns logits: open it with Cla"):
        Encoder(build_artifact())


def test_each_method_needs_its_own_kind_of_output(tmp_path: Path, embedding_file: Path) -> None:
    with (
        Encoder(embedding_file) as encoder,
        pytest.raises(ArtifactError, match="returns an embedding, not feature maps"),
    ):
        encoder.features(solid(BLUE))
    with Encoder(build_encoder(tmp_path, FEATURES)) as encoder:
        for call in (encoder.embed, encoder.embed_each):
            with pytest.raises(ArtifactError, match=r"returns feature maps \(stage0, stage1\)"):
                call([solid(BLUE)])
        with pytest.raises(ArtifactError, match="feature maps"):
            _ = encoder.size


def test_a_file_of_another_tool_is_opened_with_a_warning(tmp_path: Path) -> None:
    path = build_encoder(tmp_path, with_manifest=False)
    with pytest.warns(UserWarning, match=r"encoder\.onnx has no manifest.*Encoder\(path, prepro"):
        encoder = Encoder(path)
    assert encoder.size == 3


def test_outputs_that_contradict_the_manifest_are_refused(feature_file: Path) -> None:
    # The same length, so that the ONNX file stays readable.
    content = feature_file.read_bytes()
    feature_file.write_bytes(
        content.replace(b'"shape":["batch",3,4,2]', b'"shape":["batch",3,4,3]')
    )
    with pytest.raises(ArtifactError, match="but the manifest states"):
        Encoder(feature_file)


@pytest.mark.parametrize("outputs", [(EMBEDDING,), FEATURES], ids=["embedding", "features"])
def test_golden_vectors_of_every_output_are_verified(
    tmp_path: Path, outputs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = build_encoder(tmp_path, outputs)
    result = verify(path)
    assert result.passed
    assert [output.name for output in result.outputs] == [spec.name for spec in outputs]
    assert result.golden_inputs[0].top1_agrees is None
    assert cli.verify([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "largest output difference" in printed
    assert f"output {outputs[-1].name}: difference" in printed
    assert "top-1" not in printed


def test_a_changed_golden_value_fails(tmp_path: Path) -> None:
    path = build_encoder(tmp_path, FEATURES)
    content = path.read_bytes()
    start = content.index(b'"outputs":[[') + len(b'"outputs":[[')
    changed = content[:start] + b"9" + content[start + 1 :]
    path.write_bytes(changed)
    result = verify(path)
    assert result.reasons[-1] == "the outputs differ from those stored at export"
    assert result.max_abs_diff == result.outputs[0].max_abs_diff > 8


def test_inspect_shows_each_output(feature_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.inspect([str(feature_file)]) == 0
    printed = capsys.readouterr().out
    assert "stage1: float32 (batch, 3, 4, 2) NCHW, one position for 4 x 4 pixels" in printed
    assert "16 x 8 pixels" in printed
    assert "labels" not in printed


def test_predict_writes_one_row_for_each_image(
    embedding_file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "c.png").write_bytes(b"no image")
    output = folder.parent / "rows.npy"
    command = [str(embedding_file), str(folder), "-o", str(output), "--l2-normalize"]
    assert cli.predict(command) == 1
    rows = np.load(output, allow_pickle=False)
    assert rows.dtype == np.float32
    assert rows[0].tolist() == pytest.approx([0, 0, 1])
    assert rows[1].tolist() == pytest.approx([1 / 1.04**0.5, 0.2 / 1.04**0.5, 0], abs=1e-6)
    assert np.isnan(rows[2]).all()
    printed = capsys.readouterr().out
    assert f"       1  {folder / 'b.png'}" in printed
    assert "c.png  (not readable: NaN)" in printed
    assert cli.predict(command) == 1
    assert "rows.npy exists" in capsys.readouterr().err
    assert cli.predict([*command, "--overwrite"]) == 1


def test_predict_prints_embeddings_as_json(
    embedding_file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.predict([str(embedding_file), str(folder / "b.png"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["results"][0]["image"] == str(folder / "b.png")
    assert record["results"][0]["embedding"] == pytest.approx([1, 0.2, 0], abs=1e-6)


def test_predict_writes_one_array_for_each_feature_map(
    feature_file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = folder.parent / "maps.npz"
    assert cli.predict([str(feature_file), str(folder), "-o", str(output)]) == 0
    arrays = np.load(output, allow_pickle=False)
    assert {name: arrays[name].shape for name in arrays} == {
        "stage0": (2, 3, 8, 4),
        "stage1": (2, 3, 4, 2),
    }
    assert arrays["stage1"][1, 1] == pytest.approx(np.full((4, 2), 0.2), abs=1e-6)


@pytest.mark.parametrize(
    ("outputs", "options", "message"),
    [
        ((EMBEDDING,), [], "give -o FILE.npy, or --json to print them"),
        ((EMBEDDING,), ["-o", "x.npz"], "does not end with .npy"),
        ((EMBEDDING,), ["--top-k", "3", "--json"], "--top-k has no effect, because encoder.onnx"),
        (FEATURES, [], "give -o FILE.npz"),
        (FEATURES, ["--json"], "--json has no effect"),
        (FEATURES, ["--l2-normalize", "-o", "x.npz"], "--l2-normalize has no effect"),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(
    tmp_path: Path,
    outputs: Any,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = build_encoder(tmp_path, outputs)
    assert cli.predict([str(path), "image.png", *options]) == 1
    assert message in capsys.readouterr().err


def test_a_classifier_has_no_vectors_to_write(
    build_artifact: ArtifactBuilder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.predict([str(build_artifact()), "image.png", "-o", "x.npy"]) == 1
    assert "-o has no effect, because test.onnx returns logits" in capsys.readouterr().err
