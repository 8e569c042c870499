"""Images to calibrate with where there are none: made from the network itself.

They begin as 1/f noise, the spectrum of natural images (Field, JOSA A 1987), and are optimized until the activations before
every BatchNorm have the mean and deviation that it remembers of the training images: the idea of Yin et al., "Dreaming to
Distill" (CVPR 2020), and of Cai et al., "ZeroQ" (CVPR 2020). docs/int8.md compares them with photographs.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyvit.errors import RequestError
from tinyvit.files import publish_files, staging_folder
from tinyvit.nn.model import TinyViT
from tinyvit.preprocess import Preprocess
from tinyvit.quant.calibration_data import CalibrationSet
from tinyvit.quant.image_sources import Pixels, read_array

COUNT = 32
"""Enough to calibrate as well as photographs do (docs/int8.md); every one costs seconds."""
VERSION = 1
"""Of the method: what another one made is not taken from the cache."""
GRAY = 0.75
"""Share of the noise's variance that the three colors have in common; photographs' colors go together."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SyntheticConfig:
    """batch: images optimized together, at 224 x 224; larger ones are fewer, so that memory stays. steps, rate: Adam's.

    certainty: weight of the cross-entropy with a class for each image in turn (DeepInversion's): at 0 the network cannot
    tell what it sees, and int8 need not agree with float32 on it.
    """

    batch: int = 16
    steps: int = 20
    rate: float = 0.1
    certainty: float = 0.0


def synthesize_images(
    original: TinyViT,
    preprocess: Preprocess,
    count: int = COUNT,
    seed: int = 0,
    cache: Path | None = None,
    key: str = "",
    progress: Progress | None = None,
    settings: SyntheticConfig = SyntheticConfig(),
) -> CalibrationSet:
    """`count` images for the network before folding, the same for the same arguments on one machine.

    cache: a folder that keeps every finished batch, so that a call goes on where one like it was stopped; None keeps nothing.
    key: the checkpoint's hash. progress: called with (steps done, of). The network is left as it is.
    """
    network = copy.deepcopy(original).eval().requires_grad_(False)
    sizes = _batches(count, preprocess.size, settings)
    file = None if cache is None else cache / f"{_name(preprocess, count, seed, key, settings)}.npz"
    pixels = _kept(file, preprocess.size, sizes)
    done = int(np.searchsorted(np.cumsum(sizes), len(pixels), "right"))
    for number in range(done, len(sizes)):
        start = _noise(sizes[number], preprocess.size, np.random.default_rng([seed, number]))

        def report(step: int, before: int = number * settings.steps) -> None:
            if progress is not None:
                progress(before + step, len(sizes) * settings.steps)

        pixels = np.concatenate([pixels, _optimized(network, start, preprocess, settings, report)])
        if file is not None:
            _keep(pixels, file)
    source = f"{count} synthetic images, BatchNorm statistics matched in {settings.steps} steps, seed {seed}"
    return CalibrationSet.of(pixels, source, preprocess)


def _batches(count: int, size: int, settings: SyntheticConfig) -> list[int]:
    """Images in every batch, as even as can be."""
    largest = max(1, min(settings.batch, settings.batch * 224**2 // size**2))
    return [len(part) for part in np.array_split(np.empty(count), -(-count // largest))]


def _noise(count: int, size: int, rng: np.random.Generator) -> Tensor:
    """float32 (count, 3, size, size), mean 0 and deviation 1: amplitudes fall with frequency, colors go mostly together."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    real, imaginary = rng.standard_normal((2, count, 3, *frequency.shape))
    plane = np.fft.irfft2((real + 1j * imaginary) / frequency, s=(size, size))
    plane /= plane.std((2, 3), keepdims=True)
    mixed = GRAY**0.5 * plane[:, :1] + (1 - GRAY) ** 0.5 * plane
    return torch.from_numpy(mixed.astype(np.float32))


def _optimized(
    network: TinyViT,
    start: Tensor,
    preprocess: Preprocess,
    settings: SyntheticConfig,
    report: Callable[[int], None],
) -> Pixels:
    """Normalized images (B, 3, S, S) to begin with -> pixels (B, S, S, 3) whose statistics are the network's."""
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std)
    )
    black, white = -mean / std, (1 - mean) / std
    images = start.clamp(black, white).requires_grad_(True)
    optimizer = torch.optim.Adam([images], lr=settings.rate, betas=(0.5, 0.9))
    wanted = torch.arange(len(start)) % network.num_classes
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    with torch.enable_grad(), _distances(network) as distances:
        for step in range(settings.steps):
            distances.clear()
            logits = network(images)
            loss = torch.stack(distances).mean() + settings.certainty * F.cross_entropy(
                logits, wanted
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                images.clamp_(black, white)
            report(step + 1)
    pixels = ((images.detach() * std + mean) * 255).round().clamp(0, 255).byte()
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


@contextmanager
def _distances(network: TinyViT) -> Iterator[list[Tensor]]:
    """A list to which every BatchNorm adds, each time the network runs, how far its input is from what it remembers.

    Squares of the differences of means and of deviations, in units of the variance. A thousandth of the layer's mean variance
    is added to that, or dead channels, of next to none, would outweigh all others.
    """
    found: list[Tensor] = []

    def look(norm: nn.Module, given: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        floor = 1e-3 * norm.running_var.mean() + norm.eps
        variance = norm.running_var + floor
        mean, deviation = (
            given[0].mean((0, 2, 3)),
            (given[0].var((0, 2, 3), unbiased=False) + floor).sqrt(),
        )
        found.append(
            (
                ((mean - norm.running_mean) ** 2 + (deviation - variance.sqrt()) ** 2) / variance
            ).mean()
        )

    handles = [
        module.register_forward_pre_hook(look)
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _name(
    preprocess: Preprocess, count: int, seed: int, key: str, settings: SyntheticConfig
) -> str:
    said = json.dumps(
        [VERSION, key, count, seed, asdict(settings), asdict(preprocess)], sort_keys=True
    )
    return f"synthetic-{hashlib.sha256(said.encode()).hexdigest()[:32]}"


def _kept(file: Path | None, size: int, sizes: list[int]) -> Pixels:
    """The finished batches of an earlier call; none where the file is damaged: they are made anew."""
    if file is not None and file.is_file():
        with suppress(RequestError):
            pixels = read_array(file)
            if pixels.shape[1:] == (size, size, 3) and len(pixels) in np.cumsum(sizes):
                return pixels
    return np.empty((0, size, size, 3), np.uint8)


def _keep(pixels: Pixels, file: Path) -> None:
    with (
        suppress(OSError),
        staging_folder(file) as folder,
    ):  # a cache that cannot be written costs time, not the result
        np.savez(folder / file.name, pixels)
        publish_files([folder / file.name], file.parent)
