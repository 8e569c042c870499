"""A shortened demo model, from which most export tests make artifacts.

It has 5 of the 12 blocks of the demo model, so that exports take half the time.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tinyvit.export.manifest_builder import build_manifest
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.preprocess_settings import PreprocessSource
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.quantized_network import with_exact_arithmetic
from tinyvit.quant.recipe import Recipe

SIZE = 64
"""Image size in pixels."""

DEPTHS = (1, 1, 2, 1)
"""Number of blocks of each stage."""
ATTENTION_BLOCKS = sum(DEPTHS[1:])
"""Number of blocks with attention, which the first stage does not have."""

CALIBRATION_COUNT = 8
"""Number of noise images from which the scales are calibrated."""

Logits = npt.NDArray[np.float64]


def shorten(checkpoint: Checkpoint) -> Checkpoint:
    """Remove the last blocks of each stage, so that `DEPTHS` are left."""
    state_dict = {
        key: value for key, value in checkpoint.state_dict.items() if not _is_in_removed_block(key)
    }
    variant = replace(checkpoint.variant, depths=DEPTHS)
    return replace(checkpoint, variant=variant, state_dict=state_dict)


def load_demo(name: str = "demo", options: PreprocessSource | None = None) -> Checkpoint:
    """Return the shortened demo model at 224 pixels.

    Args:
        name: The name that the code under test requests, which must be "demo".
        options: Settings of the preprocessing that the code under test requests.
    """
    return shorten(load_released(name, options))


def load_small_demo() -> Checkpoint:
    """Return the shortened demo model at `SIZE` pixels."""
    return load_demo().at_size(SIZE, "scaled")


def calibrate_on_noise(network: Any) -> Recipe:
    """Return a recipe with 7-bit weights whose scales were calibrated on normal noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(CALIBRATION_COUNT, 3, SIZE, SIZE, generator=generator)
    return Recipe(
        checkpoint_sha256="abc",
        img_size=SIZE,
        scales=calibrate(network, noise),
        weight_bits=7,
        float_units=(),
        method="",
        calibration_sha256="",
        calibration_count=CALIBRATION_COUNT,
    )


def make_demo_manifest(
    target: str,
    precision: Precision = "float32",
    embedded_preprocessing: EmbeddedPreprocessing = "host",
    batch: int | None = 1,
) -> Manifest:
    """Return a manifest of the demo without golden vectors and tool versions."""
    checkpoint = load_small_demo()
    manifest = build_manifest(
        checkpoint, checkpoint.labels, batch, embedded_preprocessing, precision
    )
    return replace(manifest, target=target)


def make_noise_input(seed: int = 0) -> npt.NDArray[np.float32]:
    """Make one normalized image of noise, float32 (1, 3, SIZE, SIZE)."""
    return np.random.default_rng(seed).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)


def make_noise_pixels(seed: int = 0) -> npt.NDArray[np.uint8]:
    """Make one image of noise, uint8 (1, SIZE, SIZE, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)


def compute_exact_logits(network: Any, images: npt.NDArray[np.floating[Any]]) -> Logits:
    """Compute the logits of a network in float64, where the rounding of sums is negligible."""
    with torch.no_grad():
        logits = with_exact_arithmetic(network)(torch.from_numpy(images).double())
    return np.asarray(logits.numpy())


def compute_relative_error(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Compute the largest difference as a fraction of the largest expected value."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def _is_in_removed_block(key: str) -> bool:
    match = re.match(r"stages\.(\d)\.blocks\.(\d+)\.", key)
    return match is not None and int(match[2]) >= DEPTHS[int(match[1])]
