"""Detects whether two machines make the same views, by comparing hashes of a few probe views."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import PIL
from PIL import features

from tinyvit.distill.augmentation.settings import VERSION
from tinyvit.distill.augmentation.views import ViewSource, compute_view_seed, make_view

PROBE_VIEW_COUNT = 8
"""Number of views that are hashed: few, because every command that uses a store makes them."""


def hash_probe_views(source: ViewSource, keys: Sequence[str], store_seed: int) -> str:
    """Hash the pixels of the probe views, which are views of images spread over the data set.

    Args:
        source: The images and the settings.
        keys: Keys of all images (paths relative to the data set), in order.
        store_seed: Seed of the store.

    Returns:
        Hex SHA-256 of the augmentation's version and settings, and of `PROBE_VIEW_COUNT` views.
    """
    digest = hashlib.sha256(f"{VERSION}:{source.augmentation}".encode())
    for probe_number in range(PROBE_VIEW_COUNT):
        index = probe_number * len(keys) // PROBE_VIEW_COUNT
        # Each view has the seed of another epoch, so that the views differ even if a small data
        # set has several probe views of one image.
        seed = compute_view_seed(store_seed, epoch=probe_number, key=keys[index], view_number=0)
        view = make_view(source, index, seed)
        digest.update(view.pixels.tobytes())
        if view.erasure is not None:
            digest.update(view.erasure.noise.tobytes())
    return digest.hexdigest()


def get_library_versions() -> dict[str, str]:
    """Return the versions of the code that determines the pixels of a view, by name.

    The names are "augmentation", for this package (`settings.VERSION`), and those of libraries.
    """
    return {
        "augmentation": str(VERSION),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "libjpeg": str(features.version_feature("libjpeg_turbo") or features.version_codec("jpg")),
    }
