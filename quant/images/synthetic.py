"""Makes calibration images from the network itself, for exports without photographs.

An image starts as 1/f noise, which has the spectrum of natural images (Field, "Relations between
the statistics of natural images and the response properties of cortical cells", JOSA A, 1987). It
is then optimized until the activations before every BatchNorm have the mean and the standard
deviation that the BatchNorm recorded on the training images, as in Yin et al., "Dreaming to
Distill" (CVPR 2020), and Cai et al., "ZeroQ" (CVPR 2020). Such images have no hard edges, so that
the largest activations of the first layers are half as large as with photographs. Therefore the
contrast of every second image is raised at the end. docs/lab-notes/int8.md compares such images
with photographs.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyvit.data.calibration_images import Pixels, read_image_array
from tinyvit.errors import RequestError
from tinyvit.files.file_io import publish_files
from tinyvit.files.staging import staging_folder
from tinyvit.nn.model import TinyViT
from tinyvit.preprocess import Preprocess
from tinyvit.progress import NullProgress, Progress
from tinyvit.quant.images.calibration_data import CalibrationSet

DEFAULT_COUNT = 32
"""Default number of images. With it, int8 is as accurate as after calibration on photographs
(docs/lab-notes/int8.md)."""
EVERY_TENSOR_COUNT = 64
"""Number of images for calibration if every tensor gets a range (`QuantScheme.every_tensor`). With
32, Rockchip's simulator differs too much from the int8 network of the demo at 224 pixels (0.57 of
0.57 that is allowed); with 64, by 0.41."""
SHARED_COLOR_VARIANCE = 0.75
"""Share of the variance of each color channel of the initial noise that comes from noise that all
three channels share, 0 to 1. It is also the correlation of two channels; the color channels of
photographs are correlated too."""

_METHOD_VERSION = 4
"""Part of the cache key. This number is increased when the method changes, so that cached images of
an older method are not used."""
_REFERENCE_SIZE = 224
"""Largest image size in pixels for which `SyntheticConfig.batch` is not reduced."""


@dataclass(frozen=True)
class SyntheticConfig:
    """Options for making synthetic images.

    Attributes:
        count: Number of images.
        seed: Another seed gives other images.
        batch: Largest number of images that are optimized together. It is reduced for images larger
            than 224 x 224, so that a batch does not need more memory.
        steps: Number of optimization steps of each batch.
        learning_rate: Initial learning rate of Adam.
        class_weight: Weight of a cross-entropy loss, as in Yin et al., that makes the network
            predict class i (modulo the number of classes) for image i of each batch. With 0, the
            largest logits of an image are close together, so that int8 may predict another class
            than float32.
        contrast: Factor by which the contrast of every second image is raised at the end.
    """

    count: int = DEFAULT_COUNT
    seed: int = 0
    batch: int = 16
    steps: int = 20
    learning_rate: float = 0.1
    class_weight: float = 0.0
    contrast: float = 2.0


@dataclass(frozen=True)
class ImageCache:
    """A cache of synthetic images, which is updated after every finished batch.

    Attributes:
        folder: The folder of the cache. It is created if it does not exist.
        checkpoint_sha256: Hex digest of the checkpoint file of the network.
        feature_stages: `TinyViT.feature_stages` of the network, which has the statistics of these
            stages only; empty for a whole network.
    """

    folder: Path
    checkpoint_sha256: str
    feature_stages: tuple[int, ...] = ()

    def locate_file(self, preprocess: Preprocess, config: SyntheticConfig) -> Path:
        """Return the path of the .npz file for images that are made with these settings.

        Args:
            preprocess: The preprocessing of the model.
            config: Options for making synthetic images.
        """
        key = json.dumps(
            [
                _METHOD_VERSION,
                self.checkpoint_sha256,
                asdict(config),
                asdict(preprocess),
                *self.feature_stages[-1:],
            ],
            sort_keys=True,
        )
        return self.folder / f"synthetic-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


def synthesize_images(
    original: TinyViT,
    preprocess: Preprocess,
    config: SyntheticConfig = SyntheticConfig(),
    cache: ImageCache | None = None,
    progress: Progress = NullProgress(),
) -> CalibrationSet:
    """Make calibration images from a network.

    On one machine the same arguments always give the same images, even if a call is interrupted
    and the next call continues from the cache.

    Args:
        original: The network with its BatchNorms, before folding (`tinyvit.nn.fold`). It is not
            changed.
        preprocess: The preprocessing of the model, which states the image size and the
            normalization.
        config: Options for making synthetic images.
        cache: The cache for finished batches. If None, nothing is cached.
        progress: Receives the number of optimization steps that are done.

    Returns:
        The images.
    """
    network = copy.deepcopy(original).eval().requires_grad_(False)
    height, width = preprocess.height, preprocess.width
    batch_sizes = _choose_batch_sizes(config, height * width)
    cache_file = None if cache is None else cache.locate_file(preprocess, config)
    pixels = _load_batches(cache_file, (height, width), batch_sizes)
    # An earlier call saved only complete batches, so `len(pixels)` is a sum of the first sizes.
    finished_batches = int(np.searchsorted(np.cumsum(batch_sizes), len(pixels), "right"))
    for batch_index in range(finished_batches, len(batch_sizes)):
        rng = np.random.default_rng([config.seed, batch_index])
        images = _make_noise(batch_sizes[batch_index], (height, width), rng)
        optimizer = _ImageOptimizer(network, preprocess, config, images)
        for step in range(config.steps):
            optimizer.step()
            finished_steps = batch_index * config.steps + step + 1
            total_steps = len(batch_sizes) * config.steps
            progress.advance("making synthetic images, steps", finished_steps, total_steps)
        made = optimizer.pixels()
        made[1::2] = _raise_contrast(made[1::2], config.contrast)
        pixels = np.concatenate([pixels, made])
        if cache_file is not None:
            _save_batches(pixels, cache_file)
    source = (
        f"{config.count} synthetic images, BatchNorm statistics matched in {config.steps} steps,"
        f" seed {config.seed}"
    )
    return CalibrationSet.from_pixels(pixels, source, preprocess)


class _ImageOptimizer:
    """Optimizes a batch of images so that activations get the statistics in the BatchNorms."""

    def __init__(
        self, network: TinyViT, preprocess: Preprocess, config: SyntheticConfig, images: Tensor
    ) -> None:
        """Start from normalized images, float32 (B, 3, H, W)."""
        self._network = network
        self._class_weight = config.class_weight
        # Without a class weight, the classes are not used, and the network may have none.
        self._classes = torch.arange(len(images)) % max(1, network.num_classes)
        self._mean, self._std = (
            torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std)
        )
        # The smallest and the largest normalized value of a pixel, in each color channel.
        self._black, self._white = -self._mean / self._std, (1 - self._mean) / self._std
        self._images = images.clamp(self._black, self._white).requires_grad_(True)
        # The betas are those of the code of Yin et al. (NVlabs/DeepInversion).
        self._adam = torch.optim.Adam([self._images], lr=config.learning_rate, betas=(0.5, 0.9))
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._adam, config.steps)

    def step(self) -> None:
        """Take one optimization step."""
        with torch.enable_grad(), record_batch_norm_distances(self._network) as distances:
            outputs = self._network(self._images)
            loss = torch.stack(distances).mean()
            if self._network.num_classes:
                loss = loss + self._class_weight * F.cross_entropy(outputs, self._classes)
            self._adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        self._schedule.step()
        with torch.no_grad():
            self._images.clamp_(self._black, self._white)

    def pixels(self) -> Pixels:
        """Return the images as RGB pixels, uint8 (B, H, W, 3)."""
        scaled = (self._images.detach() * self._std + self._mean) * 255
        return scaled.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def _raise_contrast(pixels: Pixels, factor: float) -> Pixels:
    """Move the pixels of each image away from its mean color, uint8 (N, H, W, 3)."""
    means = pixels.mean((1, 2), keepdims=True)
    raised: Pixels = ((pixels - means) * factor + means).round().clip(0, 255).astype(np.uint8)
    return raised


@contextmanager
def record_batch_norm_distances(network: nn.Module) -> Iterator[list[Tensor]]:
    """Record how far activations are from the statistics that the BatchNorms contain.

    For one channel of a BatchNorm, the squared difference of the means and the squared difference
    of the standard deviations are added and divided by the running variance. The distance of the
    BatchNorm is the mean over its channels. A thousandth of the mean running variance of all
    channels, and the BatchNorm's epsilon, are first added to every variance, because otherwise the
    distance would be dominated by channels whose variance is almost 0.

    Args:
        network: The network. Its BatchNorms have forward hooks inside the context.

    Yields:
        A list. Each run of the network appends one scalar tensor for each BatchNorm.
    """
    distances: list[Tensor] = []

    def measure(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        floor = 1e-3 * norm.running_var.mean() + norm.eps
        recorded_variance = norm.running_var + floor
        mean = inputs[0].mean((0, 2, 3))
        deviation = (inputs[0].var((0, 2, 3), unbiased=False) + floor).sqrt()
        squares = (mean - norm.running_mean) ** 2 + (deviation - recorded_variance.sqrt()) ** 2
        distances.append((squares / recorded_variance).mean())

    handles = [
        module.register_forward_pre_hook(measure)
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    try:
        yield distances
    finally:
        for handle in handles:
            handle.remove()


def _choose_batch_sizes(config: SyntheticConfig, pixel_count: int) -> list[int]:
    """Divide images of a number of pixels into nearly equal batches that fit into memory."""
    fitting_batch = config.batch * _REFERENCE_SIZE**2 // pixel_count
    largest_batch = max(1, min(config.batch, fitting_batch))
    batch_count = math.ceil(config.count / largest_batch)
    smaller_size, larger_count = divmod(config.count, batch_count)
    return [smaller_size + 1] * larger_count + [smaller_size] * (batch_count - larger_count)


def _make_noise(count: int, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Make 1/f noise whose color channels are correlated.

    Args:
        count: Number of images.
        size: Height and width in pixels.
        rng: Source of random numbers.

    Returns:
        float32 (count, 3, height, width); each channel of an image has mean 0, and on average over
        many images variance 1.
    """
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf  # instead of 0, so that the noise has mean 0
    # Four independent planes of noise: one that all channels share, then one for each channel.
    real, imaginary = rng.standard_normal((2, count, 4, *frequency.shape))
    noise = np.fft.irfft2((real + 1j * imaginary) / frequency, s=size)
    noise /= noise.std((2, 3), keepdims=True)
    shared_noise, channel_noise = noise[:, :1], noise[:, 1:]
    shared_variance = SHARED_COLOR_VARIANCE
    colored = shared_variance**0.5 * shared_noise + (1 - shared_variance) ** 0.5 * channel_noise
    return torch.from_numpy(colored.astype(np.float32))


def _load_batches(cache_file: Path | None, size: tuple[int, int], batch_sizes: list[int]) -> Pixels:
    """Load the images of the batches that an earlier call finished, uint8 (N, height, width, 3).

    N is 0 if the cache file does not exist, is damaged, or contains other images.
    """
    if cache_file is not None and cache_file.is_file():
        with suppress(RequestError):
            pixels = read_image_array(cache_file)
            if pixels.shape[1:] == (*size, 3) and len(pixels) in np.cumsum(batch_sizes):
                return pixels
    return np.empty((0, *size, 3), np.uint8)


def _save_batches(pixels: Pixels, cache_file: Path) -> None:
    """Write the finished batches. Errors are ignored, because the cache only saves time."""
    with suppress(OSError), staging_folder(cache_file) as folder:
        np.savez(folder / cache_file.name, pixels)
        publish_files([folder / cache_file.name], cache_file.parent)
