"""Hostile .onnx files that compute embeddings and feature maps, opened with `Encoder`."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.helpers.small_encoders import EMBEDDING, FEATURES, build_encoder
from tests.hostile.commands import parse_strict_json, run_command
from tests.hostile.crafting import EXTREME_VALUES, change_field, replace_at
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_lazy_file
from tests.hostile.loaders.onnx_files import forge
from tests.hostile.message_mutations import mutate_message
from tests.hostile.mutations import make_mutation
from tinyvit.errors import ArtifactError
from tinyvit.manifest import MANIFEST_KEY
from tinyvit.runtimes import cli
from tinyvit.runtimes.encoder import Encoder
from tinyvit.runtimes.verify import verify

_NAME = "encoder.onnx"
_KINDS = {"embedding": (EMBEDDING,), "features": FEATURES}
_FIELDS = ("name", "shape", "dtype", "layout", "kind", "stride")
_CHANGES = 60
_SHAPES: tuple[Any, ...] = (
    *(["batch"], ["batch", 3, 1], ["batch", 4], ["batch", "n"], [1, 3], [2, 3], ["batch", 0]),
    *(["batch", 2**31], ["batch", 3, 2**20, 2**20], ["batch", 3, 8], [3, 3, 8, 4], [0, 3, 8, 4]),
    *(["batch", 4, 2, 3], ["batch", 3, 4, 8], ["batch", 3, "h", "w"], ["batch"] * 4, [1] * 1000),
)
_PIXELS = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)


def embed(path: Path) -> None:
    """Compute embeddings or feature maps of images, and check what is returned."""
    images = [_PIXELS, _PIXELS[:30]]
    with Encoder(path) as encoder:
        repr(encoder)
        str(encoder.describe())
        if encoder.outputs[0].kind == "features":
            for name, maps in encoder.features(images).items():
                assert maps.dtype == np.float32, name
                assert maps.shape[0] == len(images), name
        else:
            vectors = encoder.embed(images, l2_normalize=True)
            assert vectors.shape == (len(images), encoder.size)
            assert encoder(_PIXELS).dtype == np.float32
    output = run_command(cli.inspect, [path, "--json"])
    parse_strict_json(output)


def verify_encoder(path: Path) -> None:
    """Verify an encoder; wrong outputs or a changed hash refuse it."""
    result = verify(path)
    if not result.passed:
        raise ArtifactError("; ".join(result.reasons), "export it again")


@cache
def _read_encoder(kind: str) -> bytes:
    """Return the bytes of an encoder with its manifest."""
    with tempfile.TemporaryDirectory() as folder:
        return build_encoder(Path(folder), _KINDS[kind]).read_bytes()


def make_samples(folder: Path) -> Sequence[Path]:
    """Make an encoder for an embedding, one for feature maps, and one without a manifest."""
    samples = []
    for kind in _KINDS:
        (folder / kind).mkdir()
        samples.append(folder / kind / _NAME)
        samples[-1].write_bytes(_read_encoder(kind))
    (folder / "foreign").mkdir()
    return [*samples, build_encoder(folder / "foreign", with_manifest=False)]


def make_samples_with_manifests(folder: Path) -> Sequence[Path]:
    """Make the samples that have a manifest."""
    return make_samples(folder)[:-1]


def mutate_sample(sample: Path, seed: str) -> HostileFile:
    """Change bytes, or a field of the network, with the right hash in the manifest."""
    if random.Random(seed).random() < 0.5:
        return make_mutation(sample, seed)
    kind = random.Random(seed).choice(tuple(_KINDS))
    return make_lazy_file(_NAME, f"{kind}, signed, {seed!r}", lambda: _change_model(kind, seed))


def _change_model(kind: str, seed: str) -> bytes:
    generator, (model, manifest) = random.Random(seed), _load(kind)
    before = model.SerializeToString()
    while model.SerializeToString() == before:
        mutate_message(model, generator)
    return forge(model, manifest, _NAME)


def _load(kind: str) -> tuple[Any, dict[str, Any]]:
    """Return the ONNX model of an encoder and the fields of its manifest."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    model = onnx.load_from_string(_read_encoder(kind))
    texts = [entry.value for entry in model.metadata_props if entry.key == MANIFEST_KEY]
    return model, json.loads(texts[0])


def _make_signed(description: str, kind: str, change: Callable[[Any], Any]) -> HostileFile:
    """Make an encoder whose manifest is changed, with the right digest and hash."""

    def make() -> bytes:
        model, manifest = _load(kind)
        return forge(model, change(manifest), _NAME)

    return make_lazy_file(_NAME, f"{kind}: {description}", make)


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield encoders whose manifests lie about the outputs, the input and the golden values."""
    for kind in _KINDS:
        for shape in _SHAPES:
            yield _make_signed(
                f"the last output has the shape {shape!r:.60}",
                kind,
                lambda data, shape=shape: replace_at(data, ("outputs", -1, "shape"), shape),
            )
        for count in (0, 1, 3, 16, 17, 5000):
            yield _make_signed(
                f"{count} outputs",
                kind,
                lambda data, count=count: {**data, "outputs": (data["outputs"] * count)[:count]},
            )
        yield _make_signed("outputs in another order", kind, _reverse_outputs)
        yield _make_signed("outputs of the other kind", kind, _exchange_outputs)
        yield _make_signed("outputs of one name", kind, _rename_outputs)
        yield _make_signed("labels", kind, _add_labels)
        for number in range(_CHANGES // 2):
            seed = f"{generator.random()} {number}"
            yield _make_signed(
                f"a changed field, {seed}",
                kind,
                lambda data, seed=seed: change_field(data, random.Random(seed))[1],
            )
        for field in _FIELDS:
            for value in generator.sample(EXTREME_VALUES, 5):
                yield _make_signed(
                    f"{field} is {value!a:.40}",
                    kind,
                    lambda data, field=field, value=value: replace_at(
                        data, ("outputs", -1, field), value
                    ),
                )


def craft_refused(generator: random.Random) -> Iterator[HostileFile]:
    """Yield encoders that must be refused: golden values of wrong numbers, and changed networks."""
    for kind in _KINDS:
        for values in ([], [0.0], [0.0] * 3, [1e38] * 120, [0.0] * 65_537, [HOSTILE_TEXT]):
            yield _make_signed(
                f"{len(values)} golden values, {values[:1]}",
                kind,
                lambda data, values=values: replace_at(data, ("golden", "outputs", 0), values),
            )
        for tolerances in ([], [1e-5] * 3, [-1.0, -1.0], [HOSTILE_TEXT], [1e-5] * 5000):
            yield _make_signed(
                f"{len(tolerances)} tolerances, {tolerances[:1]}",
                kind,
                lambda data, changed=tolerances: replace_at(
                    data, ("golden", "tolerances"), changed
                ),
            )


def _reverse_outputs(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "outputs": manifest["outputs"][::-1]}


def _exchange_outputs(manifest: dict[str, Any]) -> dict[str, Any]:
    other = next(kind for kind in _KINDS if kind != manifest["outputs"][0]["kind"])
    return {**manifest, "outputs": _load(other)[1]["outputs"]}


def _rename_outputs(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "outputs": [{**output, "name": "a"} for output in manifest["outputs"]]}


def _add_labels(manifest: dict[str, Any]) -> dict[str, Any]:
    labels = {"names": [HOSTILE_TEXT] * 3, "wnids": [""] * 3}
    return {**manifest, "labels": labels}


LOADERS = (
    Loader(
        "ONNX: embed", embed, make_samples, craft, mutate_sample=mutate_sample, memory_bytes=4 * GIB
    ),
    Loader(
        "ONNX: verify embeddings",
        verify_encoder,
        make_samples_with_manifests,
        craft_refused,
        must_refuse=True,
        memory_bytes=4 * GIB,
    ),
)
