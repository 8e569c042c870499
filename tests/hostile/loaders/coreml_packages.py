"""Hostile .mlpackage folders (the Core ML reference evaluator)."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_tensorrt import make_manifest
from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.artifact_commands import inspect, predict, verify_artifact
from tests.hostile.hostile_files import GIB, HostileFile, Loader
from tests.hostile.message_mutations import mutate_message
from tests.hostile.mutations import make_mutation
from tests.hostile.signed_samples import make_golden_manifest, open_bare, save_signed
from tests.hostile.special_files import make_sparse_writer, make_special
from tests.hostile.trailer_attacks import list_manifests
from tinyvit.manifest import MANIFEST_KEY, Manifest
from tinyvit.runtimes.artifact import read_manifest

_MODEL = "Data/com.apple.CoreML/model.mlmodel"
_WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
_INDEX = "Manifest.json"
_SIZES = (0, -1, 1, 2, 2**20, 2**27, 2**31 - 1, 2**31, 2**62, 2**63 - 1)


@cache
def _build(kind: str) -> Mapping[str, bytes]:
    """Build a package; return the content of each file.

    Args:
        kind: "float32" or "int8", the type of its weights.
    """
    pytest.importorskip("coremltools")
    import numpy as np
    from coremltools.converters.mil import Builder as mb

    from tests.helpers import coreml_package as helper

    def build_int8(x: Any) -> Any:
        shape = {"quantized_data": helper.INT8_MATRIX, "zero_point": np.int8(0)}
        weight = mb.constexpr_affine_dequantize(**shape, scale=np.float32(0.01), axis=np.int32(0))
        flat = mb.reshape(x=mb.gelu(x=x, mode="EXACT"), shape=(1, helper.FEATURES))
        return mb.linear(x=flat, weight=weight, bias=helper.BIAS)

    build = helper.build_gelu_and_linear if kind == "float32" else build_int8
    with tempfile.TemporaryDirectory() as folder:
        path = helper.build_package(Path(folder), build)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def _save(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


def _parse(files: Mapping[str, bytes]) -> Any:
    from coremltools.proto import Model_pb2

    return Model_pb2.Model.FromString(files[_MODEL])


def _save_model(files: Mapping[str, bytes], model: Any) -> Callable[[Path, Manifest], Any]:
    """Return a function that writes a package with this model and a manifest."""

    def save(path: Path, manifest: Manifest) -> None:
        model.description.metadata.userDefined[MANIFEST_KEY] = manifest.to_json()
        _save(path, {**files, _MODEL: model.SerializeToString(deterministic=True)})

    return save


def make_signed_samples(folder: Path) -> Sequence[Path]:
    """Make the samples that have a manifest."""
    return make_samples(folder)[::2]


def make_samples(folder: Path) -> Sequence[Path]:
    """Make small classifiers in float32 and with int8 weights, with and without a manifest."""
    samples = []
    for kind in ("float32", "int8"):
        files = _build(kind)
        bare = _save(folder / f"{kind}-bare.mlpackage", files)
        with open_bare(bare) as runtime:
            manifest = make_golden_manifest(runtime, target="coreml")
        signed = folder / f"{kind}-signed.mlpackage"
        samples += [save_signed(signed, manifest, _save_model(files, _parse(files))), bare]
    return samples


def mutate_sample(sample: Path, seed: str) -> HostileFile:
    """Change the bytes of a file, or fields of the model with a valid hash in the manifest."""
    if random.Random(seed).random() < 0.3:
        return make_mutation(sample, seed)

    def write(folder: Path) -> Path:
        generator = random.Random(seed)
        files = _build(sample.name.split("-")[0])
        model, manifest = _parse(files), read_manifest(sample)
        for _ in range(generator.choice((1, 1, 2, 3))):
            mutate_message(model, generator)
        path = folder / sample.name
        if manifest is None:
            return _save(path, {**files, _MODEL: model.SerializeToString(deterministic=True)})
        return save_signed(path, manifest, _save_model(files, model))

    return HostileFile(f"changed fields of {sample.name} with the seed {seed!r}", write)


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield packages with links, hostile indices, sizes, costs and manifests."""
    yield from _craft_folders()
    yield from _craft_programs()
    for description, make_text in list_manifests(make_manifest(target="coreml").to_json()):
        yield _package(description, partial(_set_manifest, make_text))


def _craft_folders() -> Iterator[HostileFile]:
    """Yield packages with special files, hostile indices, and many files."""
    for name in (_MODEL, _WEIGHTS, _INDEX):
        for kind in ("pipe", "/dev/zero", "../../../CANARY", "folder", "sparse", "nothing"):
            yield HostileFile(f"{name} is {kind}", partial(_replace_file, name, kind))
    for value in (None, 1, "", "../../CANARY", "/etc/passwd", HOSTILE_TEXT, "a\0b", "x" * 5000, []):
        yield _package(f"the model path {value!a:.60}", partial(_set_index, value))
    for text in (b"[" * 100_000, b"{}", b"null", b"\xff\xfe", b'{"a":' + b"9" * 5000 + b"}"):
        yield _package(f"the index {text[:20]!r}", lambda files, text=text: {**files, _INDEX: text})
    many = {f"Data/{number}": b"" for number in range(2000)}
    yield _package("2,000 files", lambda files: {**files, **many})
    deep = {"Data/" + "a/" * 900 + "b": b""}
    yield _package("900 nested folders", lambda files: {**files, **deep})


def _craft_programs() -> Iterator[HostileFile]:
    """Yield programs with extreme sizes, offsets, names and costs."""
    for size in _SIZES:
        for place in ("input", "output", "const", "description"):
            yield _package(f"the size {size} in {place}", partial(_set_size, place, size))
    for offset in (0, 1, 63, 2**31, 2**63, 2**64 - 1):
        yield _package(f"the weights at {offset}", partial(_set_blob, "offset", offset))
    for name in ("/etc/passwd", "@model_path/../../../CANARY", HOSTILE_TEXT[:20], "a\0b", "@"):
        yield _package(f"the weights in {name!a}", partial(_set_blob, "fileName", name))
    for name in ("nul\0", "lstm", "while_loop", "x" * 100_000, "\x1b[2J"):
        yield _package(f"the operation {name!a:.40}", partial(_set_kind, name))
    for count, edge in ((300, 2**13), (2000, 2**10), (60_000, 1)):
        yield _package(f"{count} products of {edge}", partial(_add_products, count, edge))


def _package(
    description: str, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
) -> HostileFile:
    """Make a hostile package from a function that changes the files of a valid one."""
    return HostileFile(
        description, lambda folder: _save(folder / "a.mlpackage", change(_build("float32")))
    )


def _replace_file(name: str, kind: str, folder: Path) -> Path:
    path = _save(folder / "a.mlpackage", _build("float32"))
    file = path / name
    file.unlink()
    if kind == "sparse":
        make_sparse_writer(file.name, 2**40)(file.parent)
    else:
        make_special(file, kind)
    return path


def _set_index(value: Any, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    index = json.loads(files[_INDEX])
    index["itemInfoEntries"][index["rootModelIdentifier"]]["path"] = value
    return {**files, _INDEX: json.dumps(index).encode()}


def write_edited(folder: Path, edit: Callable[[Any], Any]) -> Path:
    """Write a package whose model was changed, and return its path."""
    return _save(folder / "a.mlpackage", _edit(_build("float32"), edit))


def _edit(files: Mapping[str, bytes], edit: Callable[[Any], Any]) -> Mapping[str, bytes]:
    model = _parse(files)
    edit(model)
    return {**files, _MODEL: model.SerializeToString(deterministic=True)}


def _get_block(model: Any) -> Any:
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def _set_size(place: str, size: int, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    def edit(model: Any) -> None:
        if place == "description":
            model.description.input[0].type.multiArrayType.shape[0] = size
            return
        function, block = model.mlProgram.functions["main"], _get_block(model)
        constant = next(operation for operation in block.operations if operation.type == "const")
        value_type = {
            "input": function.inputs[0].type,
            "output": block.operations[-1].outputs[0].type,
            "const": constant.outputs[0].type,
        }[place]
        dimensions = value_type.tensorType.dimensions
        dimension = dimensions[0] if dimensions else dimensions.add()
        dimension.constant.size = size % 2**64

    return _edit(files, edit)


def _set_blob(field: str, value: Any, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    def edit(model: Any) -> None:
        for operation in _get_block(model).operations:
            if operation.attributes["val"].WhichOneof("value") == "blobFileValue":
                setattr(operation.attributes["val"].blobFileValue, field, value)

    return _edit(files, edit)


def _set_kind(name: str, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    def edit(model: Any) -> None:
        for operation in _get_block(model).operations:
            operation.type = operation.type if operation.type == "const" else name

    return _edit(files, edit)


def _set_manifest(make_text: Callable[[], str], files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    def edit(model: Any) -> None:
        text = make_text().encode("utf-8", "replace").decode()
        model.description.metadata.userDefined[MANIFEST_KEY] = text

    return _edit(files, edit)


def _add_products(count: int, edge: int, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Declare the last operation as large, and repeat it with other names."""

    def edit(model: Any) -> None:
        operations = _get_block(model).operations
        last = operations[-1]
        for number in range(count):
            copy = operations.add()
            copy.CopyFrom(last)
            copy.outputs[0].name = f"copy{number}"
            for dimension in copy.outputs[0].type.tensorType.dimensions:
                dimension.constant.size = edge
            last.inputs[sorted(last.inputs)[0]].arguments[0].name = f"copy{number}"

    return _edit(files, edit)


LOADERS = (
    Loader(
        "Core ML: predict",
        predict,
        make_samples,
        craft,
        mutate_sample=mutate_sample,
        memory_bytes=3 * GIB,
    ),
    Loader("Core ML: verify", verify_artifact, make_signed_samples, craft, must_refuse=True),
    Loader("Core ML: inspect", inspect, make_samples, craft),
)
