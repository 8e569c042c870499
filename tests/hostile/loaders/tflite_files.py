"""Hostile .tflite files (LiteRT)."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.artifact_commands import check_operators, inspect, predict, verify_artifact
from tests.hostile.hostile_files import GIB, MIB, HostileFile, Loader, make_file, make_lazy_file
from tests.hostile.mutations import make_mutation
from tests.hostile.object_mutations import mutate_object
from tests.hostile.signed_samples import (
    make_archive_saver,
    make_golden_manifest,
    open_bare,
    save_signed,
)
from tests.hostile.trailer_attacks import craft_trailers
from tinyvit.runtimes.artifact import read_manifest
from tinyvit.runtimes.formats.trailer import MARKER

_KINDS = {"float32": False, "int8": True}
"""Name of a sample -> whether its linear layer computes in int8."""


def _build(name: str) -> Any:
    """Build the ModelT of a sample, the name of whose file starts with one of `_KINDS`."""
    from tests.helpers.tflite_model import build_model
    from tests.hostile.loaders.tflite_networks import build_network

    kind = name.split("-")[0]
    return build_network() if kind == "network" else build_model(int8=_KINDS[kind])


def _serialize(model: Any) -> bytes:
    from tests.helpers.tflite_model import serialize_model

    return serialize_model(model)


def make_samples(folder: Path) -> Sequence[Path]:
    """Make small classifiers in float32 and in int8, with and without a manifest."""
    pytest.importorskip("ai_edge_litert")
    samples = []
    for kind in (*_KINDS, "network"):
        bare = folder / f"{kind}-bare.tflite"
        bare.write_bytes(_serialize(_build(kind)))
        with open_bare(bare) as runtime:
            manifest = make_golden_manifest(runtime, target="litert")
        signed = folder / f"{kind}-signed.tflite"
        save_signed(signed, manifest, make_archive_saver(bare.read_bytes()))
        samples += [signed, bare]
    return samples


def make_signed_samples(folder: Path) -> Sequence[Path]:
    """Make the samples that have a manifest."""
    return make_samples(folder)[::2]


def mutate_sample(sample: Path, seed: str) -> HostileFile:
    """Change the bytes of a file, or values of its model with a valid hash in the manifest."""
    if random.Random(seed).random() < 0.3:
        return make_mutation(sample, seed)

    def write(folder: Path) -> Path:
        generator = random.Random(seed)
        while True:
            model = _build(sample.name)
            for _ in range(generator.choice((1, 1, 2, 3))):
                mutate_object(model, generator)
            try:
                data = _serialize(model)
            except (TypeError, ValueError, AttributeError, struct.error, OverflowError):
                continue  # The format cannot store this value.
            path, manifest = folder / sample.name, read_manifest(sample)
            if manifest is None:
                path.write_bytes(data)
            else:
                save_signed(path, manifest, make_archive_saver(data))
            return path

    return HostileFile(f"changed values of {sample.name} with the seed {seed!r}", write)


@cache
def _serialize_kind(kind: str) -> bytes:
    return _serialize(_build(kind))


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield crafted files: fields with extreme values, bombs, and archives."""
    from tests.hostile.loaders import tflite_networks

    for description, build in tflite_networks.list_crafted():
        yield make_lazy_file("a.tflite", description, build)
    yield from craft_trailers("a.tflite", lambda: _serialize_kind("float32"), generator)
    marked = MARKER.encode()
    yield make_file("a.tflite", "a marker only", b"\0\0\0\0TFL3" + struct.pack("<I", 12) + marked)


LOADERS = (
    Loader(
        "LiteRT: predict",
        predict,
        make_samples,
        craft,
        mutate_sample=mutate_sample,
        memory_bytes=4 * GIB + 512 * MIB,
    ),
    Loader("LiteRT: verify", verify_artifact, make_signed_samples, craft, must_refuse=True),
    Loader("LiteRT: inspect", inspect, make_samples, craft),
    Loader("LiteRT: coverage", check_operators, make_samples, craft, mutate_sample=mutate_sample),
)
