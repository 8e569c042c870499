"""Manifests for small networks: with golden vectors, and with the hash of the content."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers.fake_tensorrt import CLASSES, SIZE, make_manifest
from tests.hostile.artifact_commands import choose_engine
from tinyvit.errors import ArtifactError
from tinyvit.golden import CHIRP_FORMULA, CHIRP_PATTERNS
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import GoldenVectors, OutputSpec
from tinyvit.runtimes.artifact import Artifact, content_sha256
from tinyvit.runtimes.base import Runtime
from tinyvit.runtimes.formats.trailer import add_archive, archive_members
from tinyvit.runtimes.golden_comparison import make_golden_batch
from tinyvit.runtimes.registry import open_runtime

SaveWithManifest = Callable[[Path, Manifest], Any]
"""A function that writes an artifact with a manifest."""


def make_golden_manifest(runtime: Runtime, **changes: Any) -> Manifest:
    """Make the manifest of a network for 8 x 8 pixels and 10 classes, with golden vectors.

    Args:
        runtime: The network, opened.
        changes: Replace some fields of the manifest.
    """
    output = OutputSpec(**vars(runtime.outputs[0]))
    manifest = make_manifest(
        precision="float32", input=runtime.inputs[0], outputs=(output,), **changes
    )
    empty = GoldenVectors(CHIRP_FORMULA, CHIRP_PATTERNS[:2], SIZE, SIZE, (), (1e-3,))
    logits = tuple(
        tuple(map(float, runtime.run(make_golden_batch(manifest, empty, index))[0]))
        for index in range(len(empty.patterns))
    )
    assert len(logits[0]) == CLASSES
    return dataclasses.replace(manifest, golden=dataclasses.replace(empty, outputs=logits))


def open_bare(path: Path) -> Runtime:
    """Open a file without regard to a manifest in it."""
    return open_runtime(Artifact(path, None), choose_engine(path))


def make_archive_saver(data: bytes) -> SaveWithManifest:
    """Return a function that writes these bytes with the archive of a manifest behind them."""

    def save(path: Path, manifest: Manifest) -> None:
        path.write_bytes(add_archive(data, archive_members(manifest)))

    return save


def save_signed(path: Path, manifest: Manifest, save: SaveWithManifest) -> Path:
    """Write an artifact whose manifest states the hash of its content.

    A changed network whose format is not recognized anymore keeps the hash of the manifest.

    Args:
        path: Where to write it.
        manifest: The manifest, with any hash.
        save: Writes the artifact.
    """
    save(path, manifest)
    with contextlib.suppress(ArtifactError):
        save(path, dataclasses.replace(manifest, content_sha256=content_sha256(path)))
    return path
