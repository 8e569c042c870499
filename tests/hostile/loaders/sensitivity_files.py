"""Hostile int8 .onnx files, and their float32 references, for tinyvit-bench sensitivity."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.helpers.small_classifiers import CLASSES, QUANTIZATION, SIZE, make_manifest, make_network
from tests.hostile.commands import parse_strict_json, run_command
from tests.hostile.hostile_files import GIB, HostileFile, Loader
from tests.hostile.loaders.onnx_files import forge
from tests.hostile.message_mutations import mutate_message
from tests.hostile.mutations import make_mutation
from tests.hostile.special_files import make_special_writer
from tinyvit.bench import cli
from tinyvit.errors import ArtifactError
from tinyvit.golden import CHIRP_FORMULA, CHIRP_PATTERNS
from tinyvit.manifest import GoldenVectors

_FOLDER = "pair"
_FILES = ("int8.onnx", "float32.onnx")
_LAYER = "stem"
_MUTATIONS = 50
_HOSTILE_NAME = HOSTILE_TEXT.encode("utf-8", "replace").decode()
_SHAPES = ([0], [-1, -1], [2**62], [8, 3, 5], [2**31] * 4, [1] * 1000, [8, 3, 5, 5, 0])


def measure(folder: Path) -> None:
    """Measure the sensitivity of the int8 file in a folder, as a command."""
    int8, float32 = (folder / name for name in _FILES)
    arguments = ["sensitivity", int8, "--reference", float32, "--threads", "1", "--json"]
    for line in run_command(cli.main, arguments).splitlines():
        parse_strict_json(line)


@cache
def _make_float_model() -> Any:
    """Make the ONNX model with the float32 weights."""
    model = make_network("host", 1)
    for tensor in model.graph.initializer:
        if tensor.name == "kernel":
            tensor.name = f"{_LAYER}.weight"
    model.graph.node[0].input[1] = f"{_LAYER}.weight"
    return model


@cache
def _make_int8_model() -> Any:
    """Make the same ONNX model with int8 weights and an int8 input."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    model = type(_make_float_model())()
    model.CopyFrom(_make_float_model())
    graph, make = model.graph, onnx.helper.make_node
    kernel = next(tensor for tensor in graph.initializer if tensor.name == f"{_LAYER}.weight")
    weights = onnx.numpy_helper.to_array(kernel)
    steps = (np.abs(weights).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    integers = np.rint(weights / steps[:, None, None, None]).astype(np.int8)
    constants = {
        "steps": steps,
        "zeros": np.zeros(8, np.int8),
        "step": np.float32(0.02),
        "zero": np.int8(0),
    }
    kernel.CopyFrom(onnx.numpy_helper.from_array(integers, kernel.name))
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    graph.node[0].input[:] = ["dequantized", "weight"]
    weight_inputs = [kernel.name, "steps", "zeros"]
    for node in (
        make("DequantizeLinear", weight_inputs, ["weight"], axis=0),
        make("DequantizeLinear", ["quantized", "step", "zero"], ["dequantized"]),
        make("QuantizeLinear", ["image", "step", "zero"], ["quantized"]),
    ):
        graph.node.insert(0, node)
    return model


@cache
def _make_manifest_text(is_int8: bool) -> str:
    manifest = make_manifest("host", 1)
    rows = ((0.0,) * CLASSES,) * 2
    golden = GoldenVectors(CHIRP_FORMULA, CHIRP_PATTERNS[:2], SIZE, SIZE, rows, (1e-3,))
    manifest = dataclasses.replace(manifest, golden=golden)
    if is_int8:
        manifest = dataclasses.replace(manifest, precision="int8", quantization=QUANTIZATION)
    return manifest.to_json()


def _save(folder: Path, int8: Any = None, float32: Any = None) -> Path:
    """Write both files with the right hashes; None stands for the valid model."""
    folder = folder / _FOLDER
    folder.mkdir(exist_ok=True)
    models = (int8 or _make_int8_model(), float32 or _make_float_model())
    for name, model in zip(_FILES, models):
        manifest = json.loads(_make_manifest_text(name == _FILES[0]))
        try:
            data = forge(model, manifest, name)
        except ArtifactError:  # the change is such that no hash can be computed
            data = model.SerializeToString()
        (folder / name).write_bytes(data)
    return folder


def make_samples(folder: Path) -> Sequence[Path]:
    """Make a folder with an int8 file and its reference."""
    return [_save(folder)]


def mutate_sample(sample: Path, seed: str) -> HostileFile:
    """Change bytes of a file, or a field of a model with the right hash in the manifest."""
    if random.Random(seed).random() < 0.3:
        return make_mutation(sample, seed)
    is_int8 = random.Random(seed).random() < 0.7
    return _make_changed(f"a field, {seed!r}", is_int8, lambda model: _mutate(model, seed))


def _mutate(model: Any, seed: str) -> None:
    generator, before = random.Random(seed), model.SerializeToString()
    while model.SerializeToString() == before:
        mutate_message(model, generator)


def _make_changed(description: str, is_int8: bool, change: Callable[[Any], object]) -> HostileFile:
    def write(folder: Path) -> Path:
        source = _make_int8_model() if is_int8 else _make_float_model()
        model = type(source)()
        model.CopyFrom(source)
        change(model)
        return _save(folder, model, None) if is_int8 else _save(folder, None, model)

    return HostileFile(f"{_FILES[0] if is_int8 else _FILES[1]}: {description}", write)


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield models whose layers and weights are not those of the other file, and odd files."""
    for is_int8 in (True, False):
        for shape in _SHAPES:
            yield _make_changed(
                f"weights of the shape {shape!s:.40}",
                is_int8,
                lambda model, shape=shape: _find_weights(model).dims.__setitem__(
                    slice(None), shape
                ),
            )
        for size in (0, 1, 3, 2400, 10**7):
            yield _make_changed(
                f"weights of {size} bytes",
                is_int8,
                lambda model, size=size: setattr(_find_weights(model), "raw_data", bytes(size)),
            )
        for name in ("", ".weight", _HOSTILE_NAME, "other.weight", "logits", "x" * 10**6):
            yield _make_changed(
                f"weights with the name {name[:20]!a}",
                is_int8,
                lambda model, name=name: setattr(_find_weights(model), "name", name),
            )
        for number in range(_MUTATIONS // 2):
            seed = f"{generator.random()} {number}"
            yield _make_changed(
                f"a field, {seed}", is_int8, lambda model, seed=seed: _mutate(model, seed)
            )
    for part in ("input", "output"):
        for index in range(4):
            yield _make_changed(
                f"node {index} without an {part}",
                True,
                lambda model, part=part, index=index: getattr(
                    model.graph.node[index], part
                ).__delitem__(slice(None)),
            )
    for name in _FILES:
        for kind in ("pipe", "/dev/zero", "folder", "loop", "nothing"):
            yield HostileFile(
                f"{name} is {kind}", make_special_writer(_save, f"{_FOLDER}/{name}", kind)
            )


def _find_weights(model: Any) -> Any:
    return next(item for item in model.graph.initializer if item.name == f"{_LAYER}.weight")


LOADERS = (
    Loader(
        "sensitivity: int8 and reference",
        measure,
        make_samples,
        craft,
        mutate_sample=mutate_sample,
        memory_bytes=4 * GIB,
    ),
)
