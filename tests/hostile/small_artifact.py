"""A small classifier for loaders that read images: 32 x 32 pixels to 10 classes."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from tests.helpers.small_classifiers import CLASSES, make_manifest, make_network, save_onnx

WNIDS = tuple(f"n{number:08}" for number in range(CLASSES))
"""The WordNet ids of its classes. Their labels are "thing 0" to "thing 9"."""


@cache
def read_small_artifact() -> bytes:
    """Return the bytes of the classifier. `preloaded` calls this once for all children."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.onnx"
        save_onnx(path, make_network("host", "batch"), make_manifest("host", "batch"))
        return path.read_bytes()


def write_small_artifact() -> Path:
    """Write the classifier into the current folder, and return its path."""
    path = Path.cwd() / "a.onnx"
    path.write_bytes(read_small_artifact())
    return path
