"""Images that are normalized on demand are those of a tensor."""

from __future__ import annotations

import numpy as np
import torch

from tinyvit.preprocess import timm_preprocess
from tinyvit.quant.images.normalized_images import NormalizedImages


def test_slices_are_those_of_a_tensor() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 48, 3), np.uint8)
    preprocess = timm_preprocess(32)
    images = NormalizedImages(pixels, preprocess)
    expected = torch.from_numpy(preprocess.normalize(pixels))
    assert (len(images), images.shape) == (7, tuple(expected.shape))
    for part in (slice(0, 4), slice(4, 8), slice(None, None, 3), slice(7, 9)):
        assert torch.equal(images[part], expected[part])
