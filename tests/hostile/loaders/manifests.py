"""Manifests with extreme fields and the right digests, inside a small .onnx file."""

from __future__ import annotations

import functools
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.helpers.small_classifiers import build_classifier
from tests.hostile.commands import parse_strict_json, run_command
from tests.hostile.crafting import (
    EXTREME_VALUES,
    change_field,
    craft_json_texts,
    list_places,
    replace_at,
)
from tests.hostile.hostile_files import GIB, HostileFile, Loader
from tests.hostile.manifest_changes import format_manifest, sign_manifest
from tinyvit.bench import cli as bench_cli
from tinyvit.manifest import MANIFEST_KEY
from tinyvit.processes.output_capture import silence_file_descriptors
from tinyvit.runtimes import cli

_PREPROCESSING = ("host", "normalize", "full")
_NAME = "test.onnx"


def make_samples(folder: Path) -> Sequence[Path]:
    """Make small classifiers with each kind of preprocessing."""
    samples = []
    for preprocessing in _PREPROCESSING:
        (folder / preprocessing).mkdir()
        (folder / preprocessing / _NAME).write_bytes(_read_classifier(preprocessing))
        samples.append(folder / preprocessing / _NAME)
    return samples


@functools.cache
def _read_classifier(preprocessing: str) -> bytes:
    """Return the bytes of a small classifier."""
    with tempfile.TemporaryDirectory() as folder, silence_file_descriptors():
        path = build_classifier(Path(folder), ".onnx", preprocessing, 1, with_manifest=True)
        return path.read_bytes()


def use_artifact(path: Path) -> None:
    """Inspect, predict, verify and measure an artifact."""
    Image.new("RGB", (48, 40)).save("image.png")
    outputs = [
        run_command(cli.inspect, [path, "--json"]),
        run_command(cli.predict, [path, "image.png", "--json"]),
        run_command(cli.verify, [path, "--json"]),
    ]
    for output in outputs:
        for line in output.splitlines():
            parse_strict_json(line)
    run_command(cli.inspect, [path])
    options = ["--runs", "2", "--threads", "1", "--cold", "0", "--json"]
    record = run_command(bench_cli.main, ["latency", path, *options])
    Path("record.json").write_text(record)
    run_command(bench_cli.main, ["report", "record.json", "-o", "report.md"])


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield manifests in which one field is extreme, and the digests match."""
    documents = {name: _extract_manifest(_read_classifier(name)) for name in _PREPROCESSING}
    pairs = [
        (preprocessing, place, value)
        for preprocessing, document in documents.items()
        for place in list_places(document)[1:]
        for value in EXTREME_VALUES
    ]
    for preprocessing, place, value in generator.sample(pairs, 120):
        changed = replace_at(documents[preprocessing], place, value)
        yield _make_artifact(f"{place} is {value!a:.40}", preprocessing, changed)
    for _ in range(40):
        preprocessing = generator.choice(_PREPROCESSING)
        description, changed = change_field(documents[preprocessing], generator)
        yield _make_artifact(description, preprocessing, changed)
    for file in craft_json_texts("manifest", documents["host"]):
        yield _make_artifact_of_text(f"the manifest: {file.description}", file)


def _extract_manifest(data: bytes) -> Any:
    import onnx

    return {
        entry.key: json.loads(entry.value)
        for entry in onnx.load_from_string(data).metadata_props
        if entry.key == MANIFEST_KEY
    }[MANIFEST_KEY]


def _make_artifact(description: str, preprocessing: str, manifest: Any) -> HostileFile:
    """Make a small classifier with another manifest, whose own digest is correct."""

    def write(folder: Path) -> Path:
        has_digest = isinstance(manifest, dict) and "manifest_sha256" in manifest
        text = sign_manifest(manifest) if has_digest else format_manifest(manifest)
        return _save(folder, preprocessing, text.encode())

    return HostileFile(f"{preprocessing}: {description}", write)


def _make_artifact_of_text(description: str, file: HostileFile) -> HostileFile:
    def write(folder: Path) -> Path:
        text = file.write(folder)
        data = text.read_bytes()
        text.unlink()
        return _save(folder, "host", data)

    return HostileFile(description, write)


def _save(folder: Path, preprocessing: str, manifest: bytes) -> Path:
    """Save a small classifier with the bytes of a manifest, which need not be text."""
    import onnx

    model = onnx.load_from_string(_read_classifier(preprocessing))
    for entry in model.metadata_props:
        if entry.key == MANIFEST_KEY:
            entry.value = "X" * len(manifest)
    path = folder / _NAME
    path.write_bytes(model.SerializeToString().replace(b"X" * len(manifest), manifest, 1))
    return path


LOADERS = (Loader("manifests: commands", use_artifact, make_samples, craft, memory_bytes=2 * GIB),)
