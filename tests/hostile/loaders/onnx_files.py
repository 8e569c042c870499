"""Hostile .onnx files."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.small_classifiers import build_classifier
from tests.hostile.artifact_commands import (
    check_operators,
    inspect,
    predict,
    predict_batch,
    verify_artifact,
)
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_file, make_lazy_file
from tests.hostile.hostile_graphs import GraphBuilder, list_hostile_graphs
from tests.hostile.manifest_changes import change_manifest, sign_manifest
from tests.hostile.message_mutations import mutate_message
from tests.hostile.special_files import make_long_link, yield_special_files
from tinyvit.manifest import Manifest
from tinyvit.runtimes.artifact import content_sha256

_MUTATIONS, _MANIFESTS = 40, 40
"""Number of changed models, and of changed manifests, among the crafted files."""
_KEY = "tinyvit"

_make_lazy_file = partial(make_lazy_file, "a.onnx")
"""Makes a hostile file from a description and a function that makes its bytes."""


def make_samples(folder: Path) -> Sequence[Path]:
    """Make small classifiers: each kind of preprocessing, any batch, int8, without a manifest."""
    samples = []
    for preprocessing in ("host", "normalize", "full"):
        subfolder = folder / preprocessing
        subfolder.mkdir()
        path = build_classifier(subfolder, ".onnx", preprocessing, 1, with_manifest=True)
        samples.append(path)
    for name, data in (("int8", make_int8_model()), ("foreign", _make_foreign_model())):
        path = folder / f"{name}.onnx"
        path.write_bytes(data)
        samples.append(path)
    return samples


def make_samples_with_manifests(folder: Path) -> Sequence[Path]:
    """Make the samples that have a manifest."""
    return [path for path in make_samples(folder) if path.name != "foreign.onnx"]


def make_no_samples(folder: Path) -> Sequence[Path]:
    """Make nothing."""
    return ()


@cache
def read_sample() -> bytes:
    """Return a small classifier for any batch size, with a manifest."""
    with tempfile.TemporaryDirectory() as folder:
        return build_classifier(Path(folder), ".onnx", "host", "batch", True).read_bytes()


@cache
def make_int8_model() -> bytes:
    """Make a quantized classifier, whose manifest has the right hash."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    model = onnx.load_from_string(read_sample())
    scale = onnx.numpy_helper.from_array(np.float32(0.02), "input_scale")
    zero = onnx.numpy_helper.from_array(np.int8(0), "input_zero")
    model.graph.initializer.extend([scale, zero])
    make = onnx.helper.make_node
    parameters = ["input_scale", "input_zero"]
    model.graph.node[0].input[0] = "dequantized"
    model.graph.node.insert(
        0, make("DequantizeLinear", ["quantized", *parameters], ["dequantized"])
    )
    model.graph.node.insert(0, make("QuantizeLinear", ["image", *parameters], ["quantized"]))
    return forge(model, manifest=None, name="int8.onnx")


@cache
def _make_foreign_model() -> bytes:
    """Make a classifier without a manifest."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    model = onnx.load_from_string(read_sample())
    del model.metadata_props[:]
    data: bytes = model.SerializeToString()
    return data


def forge(model: Any, manifest: dict[str, Any] | None, name: str = "a.onnx") -> bytes:
    """Serialize a model, with a manifest whose digest and hash of the content are right.

    Args:
        model: An ONNX model; its own manifest is replaced.
        manifest: The manifest's fields; None for those of the valid sample.
        name: Name of a temporary file, which is hashed.
    """
    import json

    onnx = pytest.importorskip("onnx", reason="makes the test files")
    if manifest is None:
        manifest = json.loads(read_manifest_text())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        onnx.helper.set_model_props(model, {_KEY: sign_manifest(manifest)})
        path.write_bytes(model.SerializeToString())
        manifest["content_sha256"] = content_sha256(path)
        onnx.helper.set_model_props(model, {_KEY: sign_manifest(manifest)})
        data: bytes = model.SerializeToString()
        return data


@cache
def read_manifest_text() -> str:
    """Return the manifest of the valid sample."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    model = onnx.load_from_string(read_sample())
    texts = [entry.value for entry in model.metadata_props if entry.key == _KEY]
    assert Manifest.from_json(texts[0]).is_intact
    return str(texts[0])


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield models that need much memory or time, changed models and manifests, and odd files."""
    for description, make in list_hostile_graphs():
        yield _make_lazy_file(description, lambda make=make: make().SerializeToString())
    for number in range(_MUTATIONS):
        seed = f"{generator.random()} {number}"
        yield _make_lazy_file(f"changed model {seed}", lambda seed=seed: _change_model(seed, False))
    for number in range(_MUTATIONS):
        seed = f"{generator.random()} {number}"
        yield _make_lazy_file(
            f"changed and signed {seed}", lambda seed=seed: _change_model(seed, True)
        )
    for description, text in change_manifest(read_manifest_text(), generator, _MANIFESTS):
        yield _make_lazy_file(description, lambda text=text: _replace_manifest(text))
    yield from yield_special_files("a.onnx", read_sample()[:200])
    yield make_long_link("a.onnx")
    yield from _craft_bytes(generator)


def craft_refused(generator: random.Random) -> Iterator[HostileFile]:
    """Yield the crafted files that have no valid digest."""
    for file in craft(generator):
        if not file.description.startswith("changed and signed"):
            yield file


def craft_bombs(generator: random.Random) -> Iterator[HostileFile]:
    """Yield models with a valid manifest that need much memory or time."""
    for description, make in list_hostile_graphs():
        yield _make_lazy_file(f"signed: {description}", lambda make=make: forge(make(), None))


def _change_model(seed: str, signed: bool) -> bytes:
    """Change one field of a valid model, and sign the result or not."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    generator = random.Random(seed)
    model = onnx.load_from_string(generator.choice((read_sample(), make_int8_model())))
    before = model.SerializeToString()
    while model.SerializeToString() == before:
        mutate_message(model, generator)
    data: bytes = forge(model, None) if signed else model.SerializeToString()
    return data


def _replace_manifest(text: str) -> bytes:
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    model = onnx.load_from_string(read_sample())
    onnx.helper.set_model_props(model, {_KEY: text})
    data: bytes = model.SerializeToString()
    return data


def _craft_bytes(generator: random.Random) -> Iterator[HostileFile]:
    """Yield messages that protobuf would not write."""
    for length in (1, 100, 10_000):
        yield make_file("a.onnx", f"{length} random bytes", generator.randbytes(length))
        yield make_file("a.onnx", f"{length} zeros", bytes(length))
    sample = read_sample()
    huge = b"\xff" * 9 + b"\x01"
    yield make_file("a.onnx", "a graph of 2^64 bytes", sample + b"\x3a" + huge)
    yield make_file("a.onnx", "a number without an end", sample + b"\x08" + b"\xff" * 1000)
    yield make_file("a.onnx", "field 0", sample + b"\x00\x00")
    yield make_file("a.onnx", "the sample twice", sample + sample)
    yield make_file("a.onnx", "a group", sample + b"\x0b\x0c")
    yield make_file("a.onnx", "nested groups", sample + b"\x0b" * 100_000)
    yield make_file("a.onnx", "a million empty fields", sample + b"\x72\x00" * 1_000_000)
    yield make_file("a.onnx", "metadata that is no message", sample + b"\x72\x03\xff\xff\xff")
    nested = b""
    for _ in range(2000):
        nested = b"\x3a" + _encode_length(len(nested)) + nested
    yield make_file("a.onnx", "2000 nested messages", sample + nested)
    model = GraphBuilder().finish("image").SerializeToString()
    yield make_file("a.onnx", "a graph twice", model + model[2:])


def _encode_length(length: int) -> bytes:
    """Encode a length as protobuf does."""
    encoded = b""
    while length >= 0x80:
        encoded += bytes([length & 0x7F | 0x80])
        length >>= 7
    return encoded + bytes([length])


MEMORY_BYTES = 3 * GIB + GIB
"""docs/reference/limits.md states 3 GiB for the results of operators in one run. The rest is for
weights, images and the engine itself."""

LOADERS = (
    Loader("ONNX: predict", predict, make_samples, craft, memory_bytes=MEMORY_BYTES),
    Loader("ONNX: batch", predict_batch, make_samples, craft, memory_bytes=MEMORY_BYTES),
    Loader(
        "ONNX: signed", verify_artifact, make_no_samples, craft_bombs, memory_bytes=MEMORY_BYTES
    ),
    Loader(
        "ONNX: verify",
        verify_artifact,
        make_samples_with_manifests,
        craft_refused,
        must_refuse=True,
        memory_bytes=MEMORY_BYTES,
    ),
    Loader("ONNX: inspect", inspect, make_samples, craft),
    Loader("ONNX: coverage", check_operators, make_samples, craft),
)
