"""Hostile .rknn files with their .json files, with a fake board and a fake of Rockchip's toolkit.

The fake board accepts one compiled network and raises an exception for all others. Rockchip's
library could crash on a changed one, so no file may reach it whose hash is wrong. The simulator
does not read the .rknn file, but the network beside it.
"""

from __future__ import annotations

import dataclasses
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.helpers.fake_rknn import write_fake_toolkit
from tests.helpers.fake_tensorrt import CLASSES, SIZE, make_manifest
from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile import artifact_commands
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_lazy_file
from tests.hostile.manifest_changes import change_manifest
from tests.hostile.mutations import make_mutation, mutate_bytes, mutate_json
from tests.hostile.signed_samples import save_signed
from tests.hostile.special_files import make_long_link, make_sparse_writer, make_special_writer
from tests.hostile.trailer_attacks import list_manifests
from tinyvit.errors import ArtifactError
from tinyvit.golden import CHIRP_FORMULA, CHIRP_PATTERNS
from tinyvit.manifest import Compilation, GoldenVectors, Manifest, TensorSpec
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.engines import rknn
from tinyvit.runtimes.engines.rknn_simulator import hash_sources
from tinyvit.runtimes.formats.rknn import EXPORTER_NAME, network_path, quantization_path
from tinyvit.runtimes.formats.sidecar import manifest_path
from tinyvit.runtimes.golden_comparison import make_golden_batch
from tinyvit.runtimes.rockchip.chips import PYTHON_VARIABLE
from tinyvit.runtimes.verify import verify

_NAME = "a.int8.rk3588.rknn"
_COMPILED = b"RKNN" + bytes(4) + EXPORTER_NAME.encode("ascii") + b"a compiled network"
_NETWORK = b"a network"
_RANGES = json.dumps({"quantize_parameters": {"image": {"min": [-128], "max": [127]}}})
_MAGICS = (b"RKNN", b"RKNN\1\0\0\0", b"rknn\0\0\0\0", b"CYPTRKNN", b"VPMN\0\0\0\0", b"\0RKNN\0\0\0")
_SPECIAL_KINDS = ("pipe", "socket", "/dev/zero", "/proc/self/mem", "folder", "loop", "nothing")
_MANIFESTS = 40
_PIXELS = np.zeros((40, 48, 3), np.uint8)


class FakeBoard:
    """A fake of the class RKNNLite, which computes the mean of the image for every class."""

    def load_rknn(self, path: str) -> int:
        """Load the compiled network, and raise an exception for any other file."""
        if Path(path).read_bytes() != _COMPILED:
            raise RuntimeError("E RKNN: failed to decode config data!")
        return 0

    def init_runtime(self) -> int:
        """Start nothing."""
        return 0

    def inference(self, inputs: list[Any], data_format: list[str]) -> list[Any]:
        """Compute the logits."""
        return [np.full((1, CLASSES), inputs[0].mean(), np.float32)]

    def release(self) -> None:
        """Release nothing."""


def install_fake(patch: pytest.MonkeyPatch) -> None:
    """Replace rknn-toolkit-lite2 by the fake board."""
    patch.setattr(rknn, "import_library", lambda *names: SimpleNamespace(RKNNLite=FakeBoard))
    patch.setattr(rknn, "metadata", SimpleNamespace(version=lambda name: "2.5.0"))


def _predict(path: Path, engine: str = "rknn") -> None:
    with Classifier(path, engine) as classifier:
        classifier.predict([_PIXELS] * 2)
        str(classifier.describe())


def predict(path: Path) -> None:
    """Predict on the fake board."""
    with pytest.MonkeyPatch.context() as patch:
        install_fake(patch)
        _predict(path)


def verify_artifact(path: Path) -> None:
    """Verify on the fake board."""
    with pytest.MonkeyPatch.context() as patch:
        install_fake(patch)
        result = verify(path, "rknn")
        if not result.passed:
            raise ArtifactError("; ".join(result.reasons), "export it again")


def simulate(path: Path) -> None:
    """Predict in the simulator, with the fake toolkit."""
    values = f"[np.full((1, {CLASSES}), image.mean(), np.float32)]"
    python = write_fake_toolkit(Path.cwd(), f"def OUTPUTS(image): return {values}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PYTHON_VARIABLE, python)
        _predict(path, "rknn-simulator")


@cache
def _make_manifest() -> Manifest:
    """Make a manifest with the golden vectors of the fake board."""
    golden = GoldenVectors(CHIRP_FORMULA, CHIRP_PATTERNS[:2], SIZE, SIZE, (), (1e-3,))
    manifest = make_manifest(
        target="rknn",
        input=TensorSpec("image", (1, 3, SIZE, SIZE), "float32", "NCHW"),
        tools={"rknn-toolkit2": "2.5.0"},
        compilation=Compilation(
            *("rk3588", "rk3588", "rknn-toolkit2 2.5.0", "", 0.0),
            source_sha256=hash_sources(_NETWORK, _RANGES),
            quantizer="scales of this package",
        ),
    )
    outputs = (dataclasses.replace(manifest.outputs[0], shape=(1, CLASSES)),)
    manifest = dataclasses.replace(manifest, outputs=outputs)
    batches = (make_golden_batch(manifest, golden, index) for index in range(2))
    logits = tuple((float(batch.mean()),) * CLASSES for batch in batches)
    return dataclasses.replace(manifest, golden=dataclasses.replace(golden, outputs=logits))


def _save(path: Path, data: bytes, manifest: str | bytes) -> Path:
    """Write a file, its manifest, and what it was compiled from."""
    path.write_bytes(data)
    text = manifest if isinstance(manifest, bytes) else manifest.encode("utf-8", "replace")
    manifest_path(path).write_bytes(text)
    network_path(path).write_bytes(_NETWORK)
    quantization_path(path).write_text(_RANGES)
    return path


def _sign(path: Path, data: bytes, manifest: Manifest) -> Path:
    """Write a file with a manifest that states the right hash."""
    return save_signed(path, manifest, lambda file, signed: _save(file, data, signed.to_json()))


def make_samples(folder: Path) -> Sequence[Path]:
    """Make a compiled network with its manifest and with what it was compiled from."""
    return [_save_sample(folder)]


def _save_sample(folder: Path) -> Path:
    return _sign(folder / _NAME, _COMPILED, _make_manifest())


@cache
def _signed_text() -> str:
    """Return the manifest of the sample."""
    with tempfile.TemporaryDirectory() as folder:
        return manifest_path(make_samples(Path(folder))[0]).read_text()


def mutate_sample(sample: Path, seed: str) -> HostileFile:
    """Change bytes of the file, or the compiled network with the right hash, or another file."""
    kind = random.Random(seed).choice(("bytes", "network", "manifest", "source", "ranges"))
    if kind == "bytes":
        return make_mutation(sample, seed)

    def write(folder: Path) -> Path:
        generator, path = random.Random(seed), folder / _NAME
        if kind == "manifest":
            return _save(path, _COMPILED, mutate_json(_signed_text().encode(), generator))
        if kind == "network":
            changed = _COMPILED[:8] + mutate_bytes(_COMPILED, generator)[8:]
            return _sign(path, changed, _make_manifest())
        ranges = _RANGES.encode()
        network = mutate_bytes(_NETWORK, generator) if kind == "source" else _NETWORK
        if kind == "ranges":
            ranges = mutate_json(ranges, generator)
        # The manifest states the hash of the changed files.
        digest = hash_sources(network, ranges.decode("utf-8", "replace"))
        _sign(path, _COMPILED, _change_compilation(source_sha256=digest))
        network_path(path).write_bytes(network)
        quantization_path(path).write_bytes(ranges)
        return path

    return HostileFile(f"a changed {kind} with the seed {seed!r}", write)


def _change_compilation(**changes: Any) -> Manifest:
    manifest = _make_manifest()
    assert manifest.compilation is not None
    compilation = dataclasses.replace(manifest.compilation, **changes)
    return dataclasses.replace(manifest, compilation=compilation)


def craft_refused(generator: random.Random) -> Iterator[HostileFile]:
    """Yield files that must be refused: damaged, huge and special ones, and odd manifests."""
    for magic in _MAGICS:
        for size in (0, 1, 7, 8, 9, 64, len(_COMPILED)):
            data = magic.ljust(8, b"\0") + _COMPILED[8:]
            yield make_lazy_file(
                _NAME, f"{size} bytes, {magic!r}", lambda data=data, size=size: data[:size]
            )
    for description, make_text in list_manifests(make_manifest().to_json()):
        yield _make_saved(description, make_text)
    yield _make_saved("not UTF-8", lambda: b"\xff\xfe{}")
    for size_bytes in (3 * GIB, 2**40):
        writer = make_sparse_writer(_NAME, size_bytes, _COMPILED)
        yield HostileFile(f"a sparse file of {size_bytes} bytes", writer)
    for name in (_NAME, f"{_NAME}.json"):
        for kind in _SPECIAL_KINDS:
            yield HostileFile(f"{name} is {kind}", make_special_writer(_save_sample, name, kind))
    yield make_long_link(_NAME)


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield also signed files with other compilers, chips, and outputs, and changed manifests."""
    yield from _craft_signed()
    for description, text in change_manifest(_signed_text(), generator, _MANIFESTS):
        yield _make_saved(description, lambda text=text: text)
    yield from craft_refused(generator)


def _craft_signed() -> Iterator[HostileFile]:
    """Yield files with the right hash whose manifests lie, or are hostile."""
    changes: list[tuple[str, Any]] = [
        *(("chip", value) for value in ("rk3566", "sm8650", "..", "", HOSTILE_TEXT)),
        *(("compiler", value) for value in ("", HOSTILE_TEXT, "x" * 100_000)),
        *(("quantizer", value) for value in ("", HOSTILE_TEXT)),
        *(("source_sha256", value) for value in ("", "0" * 64, HOSTILE_TEXT)),
    ]
    for field, value in changes:
        yield _make_signed(f"{field} is {value[:20]!r}", field, value)
    for shape in ((1,), (1, 9), ("batch", CLASSES), (2, CLASSES), (1, CLASSES, 1, 1), (1, "n")):
        yield _make_signed(f"an output of the shape {shape}", "outputs", shape)
    for shape in ((1, 3), (4096, 3, SIZE, SIZE), ("batch", 3, SIZE, SIZE), (1, 3, "h", "w")):
        yield _make_signed(f"an input of the shape {shape}", "input", shape)
    for name in (network_path(Path(_NAME)).name, quantization_path(Path(_NAME)).name):
        for kind in _SPECIAL_KINDS:
            yield HostileFile(f"{name} is {kind}", make_special_writer(_save_sample, name, kind))
        yield HostileFile(
            f"{name} has 2^40 bytes", make_special_writer(_save_sample, name, "sparse")
        )


def _make_signed(description: str, field: str, value: Any) -> HostileFile:
    def write(folder: Path) -> Path:
        manifest = _make_manifest()
        if field == "input":
            changed = dataclasses.replace(
                manifest, input=dataclasses.replace(manifest.input, shape=value)
            )
        elif field == "outputs":
            output = dataclasses.replace(manifest.outputs[0], shape=value)
            changed = dataclasses.replace(manifest, outputs=(output,))
        else:
            changed = _change_compilation(**{field: value})
        return _sign(folder / _NAME, _COMPILED, changed)

    return HostileFile(description, write)


def _make_saved(description: str, make_text: Callable[[], str | bytes]) -> HostileFile:
    return HostileFile(description, lambda folder: _save(folder / _NAME, _COMPILED, make_text()))


LOADERS = (
    Loader("RKNN: predict", predict, make_samples, craft, mutate_sample=mutate_sample),
    Loader("RKNN: verify", verify_artifact, make_samples, craft_refused, must_refuse=True),
    Loader("RKNN: simulator", simulate, make_samples, craft, mutate_sample=mutate_sample),
    Loader(
        "RKNN: inspect",
        artifact_commands.inspect,
        make_samples,
        craft,
        mutate_sample=mutate_sample,
    ),
)
