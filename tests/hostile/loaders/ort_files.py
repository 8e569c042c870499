"""Hostile .ort files."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.artifact_commands import inspect, predict, predict_batch, verify_artifact
from tests.hostile.hostile_files import HostileFile, Loader, make_file, make_lazy_file
from tests.hostile.hostile_graphs import list_hostile_graphs
from tests.hostile.loaders import onnx_files
from tests.hostile.manifest_changes import change_manifest
from tests.hostile.mutations import mutate_bytes, overwrite_integer
from tests.hostile.signed_samples import make_archive_saver, save_signed
from tests.hostile.special_files import make_long_link, yield_special_files
from tinyvit.manifest import Manifest
from tinyvit.runtimes.formats.trailer import MANIFEST_FILE, add_archive

_MUTATIONS, _MANIFESTS = 30, 20
_CONVERTED = ("of two vectors", " times ", "size from", "Conv: pads", "Conv: cost", "products")
"""Parts of the descriptions of the ONNX models that onnxruntime converts without computing them."""
_NOT_CONVERTED = ("10,000 times", "3000 times", "Concat of many", "2^62", "times Add")

_make_lazy_file = partial(make_lazy_file, "a.ort")
"""Makes a hostile file from a description and a function that makes its bytes."""


def convert(model: Any, optimize: bool) -> bytes:
    """Convert an ONNX model to the ORT format.

    Args:
        model: The ONNX model.
        optimize: Whether onnxruntime computes constants and combines operators.
    """
    ort = pytest.importorskip("onnxruntime")
    levels = ort.GraphOptimizationLevel
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ort"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(path)
        options.graph_optimization_level = (
            levels.ORT_ENABLE_EXTENDED if optimize else levels.ORT_DISABLE_ALL
        )
        options.add_session_config_entry("session.save_model_format", "ORT")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return path.read_bytes()


def sign(network: bytes) -> bytes:
    """Append the valid sample's manifest, with the right hash of a network."""
    manifest = Manifest.from_json(onnx_files.read_manifest_text())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ort"
        return save_signed(path, manifest, make_archive_saver(network)).read_bytes()


@cache
def _make_network(quantized: bool) -> bytes:
    """Make a small classifier without a manifest."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    data = onnx_files.make_int8_model() if quantized else onnx_files.read_sample()
    return convert(onnx.load_from_string(data), optimize=True)


def make_samples(folder: Path) -> Sequence[Path]:
    """Make small classifiers: float32 and int8 with a manifest, and float32 without one."""
    files = {
        "float32.ort": sign(_make_network(False)),
        "int8.ort": sign(_make_network(True)),
        "foreign.ort": _make_network(False),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def make_samples_with_manifests(folder: Path) -> Sequence[Path]:
    """Make the samples that have a manifest."""
    return make_samples(folder)[:2]


def craft_signed(generator: random.Random) -> Iterator[HostileFile]:
    """Yield files with valid hashes: networks that need much, and changed networks."""
    for description, make in list_hostile_graphs():
        is_converted = any(part in description for part in _CONVERTED)
        if is_converted and not any(part in description for part in _NOT_CONVERTED):
            yield _make_lazy_file(description, lambda make=make: sign(convert(make(), False)))
    for number in range(_MUTATIONS):
        seed = f"{generator.random()} {number}"
        yield _make_lazy_file(f"a changed network {seed}", lambda seed=seed: _change(seed))


def _change(seed: str) -> bytes:
    """Change a network after its magic number, and sign it."""
    generator = random.Random(seed)
    network = _make_network(generator.random() < 0.3)
    for _ in range(generator.choice((1, 1, 2, 4))):
        mutation = generator.choice((overwrite_integer, overwrite_integer, mutate_bytes))
        network = network[:8] + mutation(network[8:], generator)
    return sign(network)


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield files with changed manifests and archives, and odd paths."""
    network = _make_network(False)
    text = onnx_files.read_manifest_text()
    for description, changed in change_manifest(text, generator, _MANIFESTS):
        members = {MANIFEST_FILE: changed, "labels.txt": ""}
        yield _make_lazy_file(description, lambda members=members: add_archive(network, members))
    members = {f"{number}.txt": "x" for number in range(1000)}
    yield _make_lazy_file("1000 members", lambda: add_archive(network, members))
    yield make_file("a.ort", "only the magic number", b"\0\0\0\0ORTM")
    yield make_file("a.ort", "the magic number and 0xff", b"\xff\xff\xff\xffORTM" + b"\xff" * 1000)
    yield make_file("a.ort", "an offset to itself", b"\0\0\0\0ORTM" + bytes(1000))
    yield make_file("a.ort", "a vtable of 2^16 bytes", b"\x08\0\0\0ORTM\xf8\xff\xff\xff" * 1000)
    for count in (4, 8, 100, len(network) // 2):
        yield make_file("a.ort", f"the first {count} bytes", network[:count])
    yield from yield_special_files("a.ort", network[:200])
    yield make_long_link("a.ort")


def craft_all(generator: random.Random) -> Iterator[HostileFile]:
    """Yield all crafted files."""
    yield from craft_signed(generator)
    yield from craft(generator)


MEMORY = onnx_files.MEMORY_BYTES

LOADERS = (
    Loader("ORT: predict", predict, make_samples, craft_all, memory_bytes=MEMORY),
    Loader(
        "ORT: batch",
        predict_batch,
        make_samples,
        craft_signed,
        memory_bytes=MEMORY,
    ),
    Loader(
        "ORT: verify",
        verify_artifact,
        make_samples_with_manifests,
        craft,
        must_refuse=True,
        memory_bytes=MEMORY,
    ),
    Loader("ORT: inspect", inspect, make_samples, craft_all, memory_bytes=MEMORY),
)
