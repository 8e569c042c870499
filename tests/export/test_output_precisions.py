"""Every target exports embeddings and feature maps in int8 and float16, close to float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from PIL import Image

from tinyvit import Encoder
from tinyvit.errors import MissingDependencyError
from tinyvit.export import ExportConfig, ExportedArtifact, export
from tinyvit.export.targets import get_target, target_names
from tinyvit.metrics import compare_similarity
from tinyvit.quant.config import QuantizationConfig
from tinyvit.runtimes.verify import verify

HEIGHT, WIDTH = 64, 32
PHOTO_COUNT = 48
QUICK = ("onnx", "embedding")
"""The combination that is not marked as slow."""

COMBINATIONS = [
    pytest.param(target, kind, marks=[] if (target, kind) == QUICK else pytest.mark.slow)
    for target in target_names()
    for kind in ("embedding", "features")
]


def make_photo(seed: int) -> Image.Image:
    """Return a smooth image of a color of its own, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:100, 0:80] / rng.uniform(5, 40)
    shade = 60 * np.sin(x + rng.uniform(0, 6)) * np.cos(y)
    pixels = rng.uniform(40, 215, 3) + shade[..., None] + rng.normal(0, 12, (100, 80, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(PHOTO_COUNT):
        make_photo(seed).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[np.ndarray]]:
    """Kind of output -> the float32 outputs of a few images in onnxruntime."""
    folder = tmp_path_factory.mktemp("float32")
    return {
        kind: compute_outputs(export(make_config("onnx", kind, folder)).path, "onnxruntime", kind)
        for kind in ("embedding", "features")
    }


def make_config(target: str, kind: str, folder: Path, **options: Any) -> ExportConfig:
    """Make the options of an export of the shortened demo."""
    return ExportConfig(
        model="demo",
        targets=(target,),
        img_size=(HEIGHT, WIDTH),
        output=kind,  # type: ignore[arg-type]  # the parameters are strings
        output_path=folder / f"{kind}{get_target(target).suffix}",
        **options,
    )


def compute_outputs(path: Path, engine: str, kind: str) -> list[np.ndarray]:
    """Compute each output of an artifact for images that were not used for calibration."""
    images = [make_photo(seed) for seed in range(1000, 1008)]
    with Encoder(path, engine) as encoder:
        if kind == "embedding":
            return [np.stack([encoder.embed(image) for image in images])]
        maps = [encoder.features(image) for image in images]
    return [np.stack([outputs[name].ravel() for outputs in maps]) for name in maps[0]]


@contextmanager
def skip_missing_tools() -> Iterator[None]:
    """Skip the test if a tool of the target is not installed."""
    try:
        yield
    except MissingDependencyError as error:
        pytest.skip(str(error))


def check_similarity(
    artifact: ExportedArtifact, kind: str, reference: list[np.ndarray], min_cosine: float
) -> None:
    """Verify an artifact, and compare its outputs with those of float32, where it runs here."""
    target = get_target(artifact.manifest.target)
    if target.parity_method == "graph":
        return  # The export itself has compared the ONNX graph that the file was built from.
    engine = target.reference_engine
    assert verify(artifact.path, engine).passed
    outputs = compute_outputs(artifact.path, engine, kind)
    comparison = compare_similarity(
        tuple(outputs), tuple(reference), finds_neighbors=kind == "embedding"
    )
    assert comparison.cosine >= min_cosine


@pytest.mark.parametrize(("target", "kind"), COMBINATIONS)
def test_int8_outputs_stay_similar_to_float32(
    target: str,
    kind: str,
    photos: Path,
    references: dict[str, list[np.ndarray]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # The recipe for NPUs has more scales than that of the other targets, which share one.
    recipe_kind = f"{kind}-{'npu' if get_target(target).scheme.every_tensor else 'cpu'}"
    recipe = photos.parent / f"{recipe_kind}.json"
    quantization = QuantizationConfig(calib_data=photos, calib_count=32, recipe=recipe)
    folder = tmp_path_factory.mktemp(f"{target}-{kind}")
    with skip_missing_tools():
        artifact = export(make_config(target, kind, folder, quantization=quantization))
    record = artifact.manifest.quantization
    assert record is not None
    assert record.cosine is not None
    assert record.cosine >= 0.99
    assert (record.neighbor_agreement is not None) == (kind == "embedding")
    assert (record.evaluation_count, record.forced) == (PHOTO_COUNT - 32, False)
    check_similarity(artifact, kind, references[kind], 0.985)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embedding", "features"])
@pytest.mark.parametrize(
    "target", [name for name in target_names() if "float16" not in get_target(name).unsupported]
)
def test_float16_outputs_stay_similar_to_float32(
    target: str, kind: str, references: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    with skip_missing_tools():
        artifact = export(make_config(target, kind, tmp_path, float16=True))
    assert artifact.manifest.precision == "float16"
    check_similarity(artifact, kind, references[kind], 0.9999)
