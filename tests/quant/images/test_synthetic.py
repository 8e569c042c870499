"""Synthetic images match the statistics of the network, and do not depend on interruptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tests.helpers.recorded_progress import InterruptingProgress, RecordedProgress
from tinyvit.data.calibration_images import Pixels
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.preprocess import Preprocess
from tinyvit.quant.images import synthetic
from tinyvit.quant.images.calibration_data import CalibrationSet
from tinyvit.quant.images.synthetic import (
    ImageCache,
    SyntheticConfig,
    record_batch_norm_distances,
    synthesize_images,
)

CONFIG = SyntheticConfig(count=10, batch=4, steps=3)
"""Ten images in three batches."""
TWO_IMAGES = SyntheticConfig(count=2, batch=4, steps=3)


@pytest.fixture(scope="module")
def network(small_checkpoint: Checkpoint) -> TinyViT:
    """The network before folding."""
    return small_checkpoint.build()


@pytest.fixture(scope="module")
def preprocess(small_checkpoint: Checkpoint) -> Preprocess:
    """The preprocessing of `network`."""
    return small_checkpoint.preprocess


@pytest.fixture(scope="module")
def synthetic_set(network: TinyViT, preprocess: Preprocess) -> CalibrationSet:
    """The images of `CONFIG`, made without a cache."""
    return synthesize_images(network, preprocess, CONFIG)


def mean_distance(network: TinyViT, preprocess: Preprocess, pixels: Pixels) -> float:
    with torch.no_grad(), record_batch_norm_distances(network) as distances:
        network(torch.from_numpy(preprocess.normalize(pixels)))
    return float(torch.stack(distances).mean())


def test_every_seed_gives_other_images(
    network: TinyViT, preprocess: Preprocess, synthetic_set: CalibrationSet
) -> None:
    again = synthesize_images(network, preprocess, CONFIG)
    assert again.pixels.shape == (CONFIG.count, 64, 64, 3)
    assert again.pixels.dtype == np.uint8
    assert len({image.tobytes() for image in again.pixels}) == CONFIG.count
    assert np.array_equal(again.pixels, synthetic_set.pixels)
    assert again.source == "10 synthetic images, BatchNorm statistics matched in 3 steps, seed 0"
    other_seed = synthesize_images(
        network, preprocess, SyntheticConfig(count=10, seed=1, batch=4, steps=3)
    )
    assert not np.array_equal(other_seed.pixels, synthetic_set.pixels)
    assert other_seed.sha256 != synthetic_set.sha256


def test_optimization_approaches_the_recorded_statistics(
    network: TinyViT, preprocess: Preprocess
) -> None:
    noise, optimized = (
        synthesize_images(
            network, preprocess, SyntheticConfig(count=4, batch=4, steps=steps, contrast=1)
        ).pixels
        for steps in (0, 8)
    )
    distance_of_noise = mean_distance(network, preprocess, noise)
    assert mean_distance(network, preprocess, optimized) < distance_of_noise / 2


def test_every_second_image_has_more_contrast(network: TinyViT, preprocess: Preprocess) -> None:
    """Photographs have hard edges, which the first layers answer with large values."""
    even, raised = (
        synthesize_images(
            network, preprocess, SyntheticConfig(count=4, batch=4, steps=1, contrast=contrast)
        ).pixels.astype(float)
        for contrast in (1, 2)
    )
    assert np.array_equal(even[::2], raised[::2])
    means = even[1::2].mean((1, 2), keepdims=True)
    expected = np.clip(2 * even[1::2] - means, 0, 255)
    assert np.abs(raised[1::2] - expected).max() <= 0.5
    assert (raised[1::2].std((1, 2)) > 1.5 * even[1::2].std((1, 2))).all()


def test_color_channels_of_the_noise_are_alike_and_correlated() -> None:
    noise = synthetic._make_noise(500, (32, 32), np.random.default_rng(0)).numpy()
    covariance = np.cov(noise.transpose(1, 0, 2, 3).reshape(3, -1))
    correlated = np.full((3, 3), synthetic.SHARED_COLOR_VARIANCE)
    np.fill_diagonal(correlated, 1)
    np.testing.assert_allclose(covariance, correlated, atol=0.05)


def test_the_network_is_not_changed(network: TinyViT, preprocess: Preprocess) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    synthesize_images(network, preprocess, TWO_IMAGES)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(
        parameter.requires_grad and parameter.grad is None for parameter in network.parameters()
    )
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_finished_images_come_from_the_cache(
    network: TinyViT, preprocess: Preprocess, synthetic_set: CalibrationSet, tmp_path: Path
) -> None:
    progress = RecordedProgress()
    cache = ImageCache(tmp_path / "new" / "cache", "checkpoint")
    for _ in range(2):
        images = synthesize_images(network, preprocess, CONFIG, cache, progress)
        assert np.array_equal(images.pixels, synthetic_set.pixels)
    assert [step[1:] for step in progress.steps] == [(i + 1, 9) for i in range(9)]


@pytest.mark.parametrize(
    ("checkpoint_sha256", "config"),
    [
        ("other", TWO_IMAGES),
        ("checkpoint", SyntheticConfig(count=2, seed=1, batch=4, steps=3)),
        ("checkpoint", SyntheticConfig(count=1, batch=4, steps=3)),
        ("checkpoint", SyntheticConfig(count=2, batch=4, steps=1)),
    ],
)
def test_other_images_do_not_come_from_the_cache(
    network: TinyViT,
    preprocess: Preprocess,
    tmp_path: Path,
    checkpoint_sha256: str,
    config: SyntheticConfig,
) -> None:
    synthesize_images(network, preprocess, TWO_IMAGES, ImageCache(tmp_path, "checkpoint"))
    progress = RecordedProgress()
    cache = ImageCache(tmp_path, checkpoint_sha256)
    synthesize_images(network, preprocess, config, cache, progress)
    assert progress.steps
    assert len(list(tmp_path.iterdir())) == 2


def test_interrupted_synthesis_continues(
    network: TinyViT, preprocess: Preprocess, synthetic_set: CalibrationSet, tmp_path: Path
) -> None:
    """Every batch has three steps. The second and the third batch are interrupted and repeated."""
    progress = InterruptingProgress(4, 8)
    cache = ImageCache(tmp_path, "checkpoint")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            synthesize_images(network, preprocess, CONFIG, cache, progress)
    images = synthesize_images(network, preprocess, CONFIG, cache, progress)
    assert progress.done == [1, 2, 3, 4, 4, 5, 6, 7, 8, 7, 8, 9]
    assert np.array_equal(images.pixels, synthetic_set.pixels)


@pytest.mark.parametrize("damage", [b"", b"PK no zip", None])
def test_a_damaged_cache_is_replaced(
    network: TinyViT, preprocess: Preprocess, tmp_path: Path, damage: bytes | None
) -> None:
    cache = ImageCache(tmp_path, "checkpoint")
    expected = synthesize_images(network, preprocess, TWO_IMAGES, cache)
    (file,) = tmp_path.iterdir()
    intact = file.read_bytes()
    file.write_bytes(intact[:5000] + bytes(50) + intact[5050:] if damage is None else damage)
    again = synthesize_images(network, preprocess, TWO_IMAGES, cache)
    assert again.sha256 == expected.sha256
    assert file.read_bytes()[:5050] == intact[:5050]


@pytest.mark.parametrize("shape", [(3, 64, 64, 3), (2, 32, 32, 3)])
def test_a_cache_of_another_shape_is_replaced(
    network: TinyViT, preprocess: Preprocess, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    cache = ImageCache(tmp_path, "checkpoint")
    expected = synthesize_images(network, preprocess, TWO_IMAGES, cache)
    (file,) = tmp_path.iterdir()
    np.savez(file, np.ones(shape, np.uint8))
    again = synthesize_images(network, preprocess, TWO_IMAGES, cache)
    assert again.sha256 == expected.sha256


def test_a_cache_that_cannot_be_written_is_ignored(
    network: TinyViT, preprocess: Preprocess, synthetic_set: CalibrationSet, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("this is not a folder")
    cache = ImageCache(tmp_path / "file" / "cache", "checkpoint")
    images = synthesize_images(network, preprocess, CONFIG, cache)
    assert np.array_equal(images.pixels, synthetic_set.pixels)


@pytest.mark.parametrize(
    ("count", "size", "expected_sizes"),
    [(32, 224, [16, 16]), (33, 224, [11, 11, 11]), (32, 64, [16, 16]), (6, 512, [3, 3])],
)
def test_batches_of_large_images_are_smaller(
    count: int, size: int, expected_sizes: list[int]
) -> None:
    assert synthetic._choose_batch_sizes(SyntheticConfig(count), size**2) == expected_sizes


def test_noise_has_the_height_and_the_width_of_the_input() -> None:
    noise = synthetic._make_noise(2, (48, 32), np.random.default_rng(0)).numpy()
    assert noise.shape == (2, 3, 48, 32)
    assert noise.mean((2, 3)) == pytest.approx(np.zeros((2, 3)), abs=1e-6)
