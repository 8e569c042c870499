"""The image encoder of MobileSAM is exported to every target, with SAM's preprocessing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from PIL import Image

from tests.helpers.mobile_sam import name_as_released, save_mobile_sam
from tinyvit import Encoder
from tinyvit.errors import MissingDependencyError
from tinyvit.export import ExportConfig, export
from tinyvit.export.cli import main
from tinyvit.export.targets import get_target, target_names
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.outputs import IMAGE_EMBEDDINGS
from tinyvit.quant.config import QuantizationConfig
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.cli import predict
from tinyvit.runtimes.network_analysis.coverage import check_coverage
from tinyvit.runtimes.verify import verify
from tinyvit.studies.hard_checkpoints.rescaling import rescale_keys, rescale_norms, rescale_values

SIZE = 64


@pytest.fixture(scope="module")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_mobile_sam(tmp_path_factory.mktemp("checkpoint") / "mobile_sam.pt")


@pytest.fixture(scope="module")
def encoder_file(checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    config = ExportConfig(checkpoint=checkpoint_file, img_size=SIZE, output_path=f"{folder}/")
    return export(config).path


def make_photograph(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """Return a smooth image with some noise, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / rng.uniform(4, 30) + k) * np.cos(y / rng.uniform(4, 30)) for k in range(3)]
    noisy = 128 + 90 * np.stack(waves, 2) + rng.normal(0, 12, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def compute_in_torch(checkpoint_file: Path, image: np.ndarray) -> np.ndarray:
    """Compute the embeddings of an image whose longer side is the width, as SAM's code does."""
    height = int(image.shape[0] * SIZE / image.shape[1] + 0.5)
    resized = Image.fromarray(image).resize((SIZE, height), Image.Resampling.BILINEAR)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    values = np.zeros((1, 3, SIZE, SIZE), np.float32)
    values[0, :, :height] = ((np.asarray(resized) - mean) / std).transpose(2, 0, 1)
    checkpoint = load_checkpoint(checkpoint_file, requires_classifier=False).at_size(SIZE)
    with torch.inference_mode():
        embeddings = checkpoint.build(IMAGE_EMBEDDINGS)(torch.from_numpy(values))
    return np.asarray(embeddings)


def test_the_onnx_file_returns_the_image_embeddings(
    checkpoint_file: Path, encoder_file: Path
) -> None:
    assert encoder_file.name == "mobile_sam_64.onnx"
    manifest = read_artifact(encoder_file).manifest
    assert manifest is not None
    assert (manifest.model, manifest.variant) == ("mobile_sam", "mobile_sam_5m")
    (output,) = manifest.outputs
    assert (output.name, output.shape) == ("image_embeddings", (1, 256, 4, 4))
    assert (output.kind, output.stride) == ("features", 16)
    assert (manifest.preprocess.crop, manifest.preprocess.interpolation) == ("pad", "bilinear")
    assert (manifest.preprocess.size, manifest.labels) == (64, ())
    assert verify(encoder_file).passed
    image = make_photograph()
    with Encoder(encoder_file) as encoder:
        (name,) = features = encoder.features(image)
    assert name == "image_embeddings"
    expected = compute_in_torch(checkpoint_file, image)
    assert np.abs(features[name] - expected[0]).max() < 1e-4


def test_predict_writes_the_embeddings_of_many_images(encoder_file: Path, tmp_path: Path) -> None:
    for i in range(2):
        Image.fromarray(make_photograph(seed=i)).save(tmp_path / f"{i}.png")
    command = [str(encoder_file), str(tmp_path), "-o", str(tmp_path / "maps.npz")]
    assert predict(command) == 0
    embeddings = np.load(tmp_path / "maps.npz")["image_embeddings"]
    assert (embeddings.shape, embeddings.dtype) == ((2, 256, 4, 4), np.float32)
    with Encoder(encoder_file) as encoder:
        expected = encoder.features(make_photograph(seed=1))["image_embeddings"]
    assert np.array_equal(embeddings[1], expected)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "ort", "openvino"])
def test_a_file_that_resizes_pads_like_sam(
    target: str, checkpoint_file: Path, encoder_file: Path, tmp_path: Path
) -> None:
    config = ExportConfig(
        checkpoint=checkpoint_file,
        targets=(target,),
        img_size=SIZE,
        preprocess="full",
        output_path=tmp_path / f"full{get_target(target).suffix}",
    )
    artifact = export(config)
    assert artifact.manifest.input.shape == (1, "height", "width", 3)
    with Encoder(artifact.path) as full, Encoder(encoder_file) as host:
        for height, width in ((60, 80), (90, 40), (64, 64), (31, 500)):
            image = make_photograph(height, width)
            expected = host.features(image)["image_embeddings"]
            difference = np.abs(full.features(image)["image_embeddings"] - expected).max()
            assert difference < 0.02 * np.abs(expected).max(), (height, width)


@pytest.mark.slow
@pytest.mark.parametrize("target", [name for name in target_names() if name != "onnx"])
def test_every_target_returns_the_image_embeddings(
    target: str, checkpoint_file: Path, tmp_path: Path
) -> None:
    """The export itself compares the golden vectors; this is another image."""
    config = ExportConfig(
        checkpoint=checkpoint_file,
        targets=(target,),
        img_size=SIZE,
        output_path=tmp_path / f"m{get_target(target).suffix}",
        float16="float32" in get_target(target).unsupported,
    )
    try:
        artifact = export(config)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    (output,) = artifact.manifest.outputs
    assert (output.name, output.shape) == ("image_embeddings", (1, 256, 4, 4))
    coverage = check_coverage(read_artifact(artifact.path))
    assert coverage.refused_share is not None
    if get_target(target).parity_method == "graph":
        return  # Its engine does not run here.
    image = make_photograph()
    expected = compute_in_torch(checkpoint_file, image)[0]
    with Encoder(artifact.path, get_target(target).reference_engine) as encoder:
        embeddings = encoder.features(image)["image_embeddings"]
    allowed = 1e-3 if artifact.manifest.precision == "float32" else 5e-3
    assert np.abs(embeddings - expected).max() < allowed * np.abs(expected).max()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(64):
        Image.fromarray(make_photograph(seed=i)).save(folder / f"{i}.png")
    return folder


def save_hard_weights(checkpoint_file: Path, path: Path) -> Path:
    """Write weights that compute the same and whose activations have outlier channels."""
    checkpoint = load_checkpoint(checkpoint_file, requires_classifier=False)
    network = checkpoint.build(IMAGE_EMBEDDINGS)
    generator = torch.Generator().manual_seed(0)
    for rescale in (rescale_values, rescale_keys, rescale_norms):
        rescale(network, generator)
    torch.save({name_as_released(k): v for k, v in network.state_dict().items()}, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "weights"),
    [
        ("onnx", "usual"),
        ("onnx", "hard"),
        ("openvino", "usual"),
        ("litert", "usual"),
        ("executorch", "usual"),
    ],
)
def test_int8_embeddings_stay_similar_to_float32(
    target: str, weights: str, checkpoint_file: Path, photographs: Path, tmp_path: Path
) -> None:
    if weights == "hard":
        checkpoint_file = save_hard_weights(checkpoint_file, tmp_path / "hard.pt")
    config = ExportConfig(
        checkpoint=checkpoint_file,
        targets=(target,),
        img_size=SIZE,
        output_path=tmp_path / f"m.int8{get_target(target).suffix}",
        quantization=QuantizationConfig(calib_data=photographs, calib_count=32),
    )
    record = export(config).manifest.quantization
    assert record is not None
    assert record.cosine is not None
    assert record.cosine >= 0.99
    assert (record.calibration_count, record.agreement) == (32, None)


@pytest.mark.slow
@pytest.mark.parametrize("preprocess", ["host", "full"])
def test_a_whole_encoder_is_exported_at_1024_pixels(
    checkpoint_file: Path, preprocess: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--checkpoint", str(checkpoint_file), "-o", str(tmp_path / "m.onnx"), "--json"]
    assert main([*command, "--preprocess", preprocess]) == 0
    (record,) = json.loads(capsys.readouterr().out)["artifacts"]
    assert record["outputs"][0]["shape"] == [1, 256, 64, 64]
    with Encoder(tmp_path / "m.onnx") as encoder:
        assert encoder.features(make_photograph())["image_embeddings"].shape == (256, 64, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preprocess", "normalize"], "no uint8 pixel is exactly 0 after it"),
        (["--output", "embedding"], "returns image embeddings, not embedding"),
        (["--output", "features", "--stages", "1"], "not feature maps of stages 1"),
        (["--windows", "scaled"], "a MobileSAM was trained with padded feature maps"),
        (["--int8", "--min-agreement", "90"], "give --min-cosine"),
    ],
)
def test_what_an_encoder_does_not_offer_is_refused(
    options: list[str],
    message: str,
    checkpoint_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["--checkpoint", str(checkpoint_file), "--img-size", "64", *options]
    assert main([*command, "-o", str(tmp_path / "m.onnx")]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_summary_describes_the_padding(
    checkpoint_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--checkpoint", str(checkpoint_file), "--img-size", "64", "--output", "features"]
    assert main([*command, "-o", str(tmp_path / "m.onnx")]) == 0
    captured = capsys.readouterr()
    assert "resize to fit into 64 x 64, padding at the bottom or right, bilinear" in captured.out
    assert "from: the preprocessing of SAM" in captured.out
    assert "tracing mobile_sam_5m, image embeddings, 64 x 64" in captured.err
