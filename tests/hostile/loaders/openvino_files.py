"""Hostile OpenVINO models: an .xml file, and a .bin file next to it."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.small_classifiers import build_classifier, hash_openvino_ir
from tests.hostile.artifact_commands import inspect, predict, predict_batch, verify_artifact
from tests.hostile.hostile_files import HostileFile, Loader
from tests.hostile.hostile_ir import IrBuilder, list_hostile_ir
from tests.hostile.loaders import onnx_files
from tests.hostile.manifest_changes import change_manifest
from tests.hostile.mutations import change_number, mutate_bytes
from tests.hostile.special_files import yield_special_files

_MUTATIONS, _MANIFESTS = 30, 20


@cache
def read_sample(preprocessing: str) -> tuple[bytes, bytes]:
    """Return the .xml and the .bin file of a small classifier with a manifest."""
    pytest.importorskip("openvino", reason="an optional engine")
    with tempfile.TemporaryDirectory() as folder:
        path = build_classifier(Path(folder), ".xml", preprocessing, 1, with_manifest=True)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


@cache
def _make_int8_sample() -> tuple[bytes, bytes]:
    """Return the .xml and the .bin file of an int8 classifier without a manifest."""
    openvino = pytest.importorskip("openvino", reason="an optional engine")
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder) / "a.onnx", Path(folder) / "a.xml"
        source.write_bytes(onnx_files.make_int8_model())
        openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def make_samples(folder: Path) -> Sequence[Path]:
    """Make small classifiers: each kind of preprocessing, and int8 without a manifest."""
    samples = make_samples_with_manifests(folder)
    return [*samples, _write(folder, "int8", _make_int8_sample())]


def make_samples_with_manifests(folder: Path) -> list[Path]:
    """Make the samples that have a manifest."""
    kinds = ("host", "normalize", "full")
    return [_write(folder, kind, read_sample(kind)) for kind in kinds]


def _write(folder: Path, name: str, files: tuple[bytes, bytes]) -> Path:
    """Write a model, and return the path of its .xml file."""
    path = folder / f"{name}.xml"
    path.write_bytes(files[0])
    path.with_suffix(".bin").write_bytes(files[1])
    return path


def _make_lazy_file(description: str, make: Callable[[], tuple[bytes, bytes]]) -> HostileFile:
    """Make a hostile model whose files are made when they are written."""
    return HostileFile(description, lambda folder: _write(folder, "a", make()))


def sign(xml: bytes, weights: bytes) -> tuple[bytes, bytes]:
    """Put the right hash and digest into the manifest of a model, if it still has one."""
    import html
    import json

    from tests.hostile.manifest_changes import sign_manifest

    place = re.search(rb'<manifest value="([^"]*)"', xml)
    if place is None:
        return xml, weights
    manifest = json.loads(html.unescape(place.group(1).decode()))
    with tempfile.TemporaryDirectory() as folder:
        manifest["content_sha256"] = hash_openvino_ir(_write(Path(folder), "a", (xml, weights)))
    text = html.escape(sign_manifest(manifest)).encode()
    return xml[: place.start(1)] + text + xml[place.end(1) :], weights


def _change(seed: str) -> tuple[bytes, bytes]:
    """Change a model, and sign it if that is possible."""
    generator = random.Random(seed)
    xml, weights = read_sample(generator.choice(("host", "normalize", "full")))
    if generator.random() < 0.8:
        xml = generator.choice((change_number, change_number, mutate_bytes))(xml, generator)
    else:
        weights = mutate_bytes(weights, generator)
    try:
        return sign(xml, weights)
    except ValueError:
        return xml, weights


def craft_signed(generator: random.Random) -> Iterator[HostileFile]:
    """Yield models that need much memory or time, and changed models with valid hashes."""
    for description, make in list_hostile_ir():
        yield _make_lazy_file(description, lambda make=make: _encode(make()))
    for number in range(_MUTATIONS):
        seed = f"{generator.random()} {number}"
        yield _make_lazy_file(f"a changed model {seed}", lambda seed=seed: _change(seed))


def _encode(files: tuple[str, bytes]) -> tuple[bytes, bytes]:
    return files[0].encode("utf-8", "surrogatepass"), files[1]


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield models with changed manifests, without weights, and odd paths."""
    import html

    xml, weights = read_sample("host")
    text = onnx_files.read_manifest_text()
    for description, changed in change_manifest(text, generator, _MANIFESTS):
        value = b'<manifest value="' + html.escape(changed).encode() + b'"'
        new = re.sub(rb'<manifest value="[^"]*"', lambda _match, value=value: value, xml)
        yield _make_lazy_file(description, lambda new=new: (new, weights))
    for name, data in {"no weights": b"", "a byte": b"x", "too many": weights * 100}.items():
        yield _make_lazy_file(f".bin: {name}", lambda data=data: (xml, data))
    yield from yield_special_files("a.xml", xml[:200])
    for file in yield_special_files("a.bin", weights[:200]):
        yield HostileFile(f".bin: {file.description}", _add_xml(file, xml))


def _add_xml(file: HostileFile, xml: bytes) -> Callable[[Path], Path]:
    """Return a function that writes an .xml file next to its odd weights."""

    def write(folder: Path) -> Path:
        path = file.write(folder).with_suffix(".xml")
        path.write_bytes(xml)
        return path

    return write


def craft_all(generator: random.Random) -> Iterator[HostileFile]:
    """Yield all crafted files, and a valid one."""
    builder = IrBuilder()
    valid = _encode(builder.finish(builder.add("ReLU", {}, [builder.image])))
    yield _make_lazy_file("a valid model", lambda: valid)
    yield from craft_signed(generator)
    yield from craft(generator)


_MEMORY = onnx_files.MEMORY_BYTES

LOADERS = (
    Loader("OpenVINO: predict", predict, make_samples, craft_all, memory_bytes=_MEMORY),
    Loader(
        "OpenVINO: batch",
        predict_batch,
        make_samples,
        craft_signed,
        memory_bytes=_MEMORY,
    ),
    Loader(
        "OpenVINO: verify",
        verify_artifact,
        make_samples_with_manifests,
        craft,
        must_refuse=True,
        memory_bytes=_MEMORY,
    ),
    Loader("OpenVINO: inspect", inspect, make_samples, craft_all),
)
