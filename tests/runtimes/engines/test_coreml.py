"""Core ML packages are recognized, hashed and checked; on a Mac, Core ML runs them."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")
pytest.importorskip("torch")

from coremltools.proto import Model_pb2

from tests.helpers.coreml_package import (
    BATCH,
    MODEL_FILE,
    WEIGHTS_FILE,
    build_gelu_and_linear,
    build_package,
    edit_model,
    get_main_block,
)
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines import coreml, coreml_reference
from tinyvit.runtimes.engines._mil_program import read_mil_program
from tinyvit.runtimes.formats.coreml import COREML


def content_hash(path: Path) -> str:
    digest = hashlib.sha256()
    COREML.update_hash(path, digest)
    return digest.hexdigest()


def set_manifest(path: Path, text: str) -> None:
    edit_model(path, lambda model: model.description.metadata.userDefined.update(tinyvit=text))


def test_packages_are_recognized_by_their_content(package: Path) -> None:
    assert COREML.recognizes(package, b"")
    assert not COREML.recognizes(package / "Data", b"")
    assert not COREML.recognizes(package / MODEL_FILE, b"")


def test_hash_is_independent_of_the_manifest(package: Path) -> None:
    assert COREML.read_manifests(package) == []
    edit_model(package, lambda model: model.description.metadata.userDefined.clear())
    hash_without_manifest = content_hash(package)
    for text in ("{}", "x" * 10_000, "ä"):
        set_manifest(package, text)
        assert COREML.read_manifests(package) == [text]
        assert content_hash(package) == hash_without_manifest
    (package / ".DS_Store").write_bytes(b"a file of the Finder")
    assert content_hash(package) == hash_without_manifest


def test_hash_depends_on_everything_else(package: Path) -> None:
    hashes = {content_hash(package)}
    edits: list[Callable[[Any], Any]] = [
        lambda model: model.description.metadata.userDefined.update(other="x"),
        lambda model: setattr(model.description.metadata, "license", "x"),
        lambda model: setattr(model, "specificationVersion", 9),
        lambda model: setattr(get_main_block(model).operations[-1], "type", "x"),
    ]
    for edit in edits:
        edit_model(package, edit)
        assert content_hash(package) not in hashes
        hashes.add(content_hash(package))
    data = bytearray((package / WEIGHTS_FILE).read_bytes())
    data[-1] ^= 1
    (package / WEIGHTS_FILE).write_bytes(data)
    assert content_hash(package) not in hashes


def test_two_manifests_are_both_returned(package: Path) -> None:
    """Protobuf merges repeated fields, so two readers might otherwise see different manifests."""
    second = Model_pb2.Model()
    second.description.metadata.userDefined["tinyvit"] = "two"
    set_manifest(package, "one")
    with (package / MODEL_FILE).open("ab") as file:
        file.write(second.SerializeToString())
    assert COREML.read_manifests(package) == ["one", "two"]


def set_model_path(package: Path, model_path: Any) -> None:
    """Change the path of the model in the package's index."""
    index = json.loads((package / "Manifest.json").read_text())
    index["itemInfoEntries"][index["rootModelIdentifier"]]["path"] = model_path
    (package / "Manifest.json").write_text(json.dumps(index))


def write_index(text: str) -> Callable[[Path], Any]:
    """Make a function that overwrites the package's index."""
    return lambda path: (path / "Manifest.json").write_text(text)


def write_model(change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    """Make a function that changes the bytes of the model file."""
    return lambda path: (path / MODEL_FILE).write_bytes(change((path / MODEL_FILE).read_bytes()))


def move_model_outside(path: Path) -> None:
    shutil.copy(path / MODEL_FILE, path.parent / "model.mlmodel")
    set_model_path(path, "../../model.mlmodel")


def link_model_outside(path: Path) -> None:
    (path / MODEL_FILE).rename(path.parent / "model.mlmodel")
    (path / MODEL_FILE).symlink_to(path.parent / "model.mlmodel")


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "no model": lambda path: (path / MODEL_FILE).unlink(),
    "empty model": write_model(lambda data: b""),
    "truncated model": write_model(lambda data: data[:500]),
    "noise": write_model(lambda data: b"\xff" * 1000),
    "index is not JSON": write_index("{"),
    "index is a list": write_index("[]"),
    "index is deep": write_index("[" * 100_000),
    "index is large": write_index(" " * 2**21),
    "index names a number": lambda path: set_model_path(path, 3),
    "index names a folder": lambda path: set_model_path(path, "com.apple.CoreML"),
    "index names a file outside": move_model_outside,
    "a link": link_model_outside,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_packages_are_refused(package: Path, name: str) -> None:
    DAMAGES[name](package)
    artifact = Artifact(package, None)
    calls: list[Callable[[], Any]] = [
        lambda: coreml_reference.ENGINE.open(artifact, RuntimeOptions()),
        lambda: COREML.read_manifests(package),
        lambda: COREML.update_hash(package, hashlib.sha256()),
    ]
    for call in calls:
        with pytest.raises(ArtifactError) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML works there")
def test_core_ml_is_refused_on_other_systems(package: Path) -> None:
    with pytest.raises(RequestError, match="--runtime coreml-reference"):
        coreml.ENGINE.open(Artifact(package, None), RuntimeOptions())


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML is only on Apple's systems")
@pytest.mark.parametrize("device", ["cpu", "gpu", "npu"])
@pytest.mark.parametrize("is_image", [False, True])
def test_core_ml_agrees_with_the_reference(tmp_path: Path, device: str, is_image: bool) -> None:
    path = build_package(tmp_path, build_gelu_and_linear, is_image=is_image)
    artifact = Artifact(path, None)
    pixels = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3), np.uint8)
    batch = pixels if is_image else BATCH
    reference = coreml_reference.ENGINE.open(artifact, RuntimeOptions())
    with coreml.ENGINE.open(artifact, RuntimeOptions(device)) as runtime:
        assert runtime.describe().engine == "coreml"
        assert runtime.inputs == reference.inputs
        expected = coreml_reference.Evaluator(read_mil_program(path)).compute_outputs(batch)[0]
        error = np.abs(runtime.run(batch) - expected).max()
        assert error < 1e-2 * np.abs(expected).max()
