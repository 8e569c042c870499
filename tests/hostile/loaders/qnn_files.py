"""Hostile .qnn.onnx files with a network that is compiled for a Hexagon NPU, with a fake emulator.

The fake accepts one compiled network and refuses all others, as a device does that has another
chip. Qualcomm's library could crash on a changed one, so no file may reach it whose hash is wrong.
"""

from __future__ import annotations

import dataclasses
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.helpers.fake_tensorrt import CLASSES, SIZE, compute_expected_logits, make_manifest
from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile import artifact_commands
from tests.hostile.hostile_files import GIB, MIB, HostileFile, Loader, make_lazy_file
from tests.hostile.manifest_changes import change_manifest
from tests.hostile.message_mutations import mutate_message
from tests.hostile.mutations import make_mutation
from tests.hostile.signed_samples import save_signed
from tests.hostile.special_files import make_long_link, make_sparse_writer, yield_special_files
from tinyvit.errors import ArtifactError
from tinyvit.golden import CHIRP_FORMULA, CHIRP_PATTERNS
from tinyvit.manifest import MANIFEST_KEY, Compilation, GoldenVectors, Manifest, TensorSpec
from tinyvit.runtimes import qualcomm
from tinyvit.runtimes.artifact import content_sha256
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.engines import qnn
from tinyvit.runtimes.golden_comparison import make_golden_batch
from tinyvit.runtimes.verify import verify

_NAME = "a.sm8650.qnn.onnx"
_ENGINE = "qnn-emulator"
_COMPILED = b"a compiled network"
_SHAPE = (1, 3, SIZE, SIZE)
_CHIPS = ("sm8550", "sm8750", "x-elite", "qcs6490", "rk3588", "SM8650", "..", HOSTILE_TEXT)
_MUTATIONS, _MANIFESTS = 40, 40


class FakeSession:
    """A session of onnxruntime with the fake network."""

    def get_inputs(self) -> list[Any]:
        """Return the input."""
        return [SimpleNamespace(name="image", type="tensor(float)", shape=list(_SHAPE))]

    def get_outputs(self) -> list[Any]:
        """Return the output."""
        return [SimpleNamespace(name="logits", type="tensor(float)", shape=[1, CLASSES])]

    def run(self, names: list[str], inputs: dict[str, Any]) -> list[Any]:
        """Run the fake network."""
        return [compute_expected_logits(inputs["image"])]


def create_fake_session(
    model: bytes, chip: Any, context_path: Path | None = None, allows_cpu: bool = True
) -> FakeSession:
    """Create a session for a file that contains the compiled network, for any of the chips."""
    if _COMPILED not in model or chip not in qualcomm.CHIPS.values():
        raise RuntimeError("QNN_CONTEXT_ERROR_CREATE_FROM_BINARY")
    return FakeSession()


def install_fake(patch: pytest.MonkeyPatch) -> None:
    """Replace onnxruntime-qnn by the fake emulator."""
    patch.setattr(qualcomm, "create_session", create_fake_session)
    patch.setattr(qnn, "metadata", SimpleNamespace(version=lambda name: "2.7.0"))


def _with_fake(action: Callable[[Path], None], path: Path) -> None:
    """Act as on a machine with onnxruntime-qnn."""
    with pytest.MonkeyPatch.context() as patch:
        install_fake(patch)
        action(path)


def _predict(path: Path) -> None:
    with Classifier(path, _ENGINE) as classifier:
        classifier.predict([np.zeros((40, 48, 3), np.uint8)])
        str(classifier.describe())


def _verify(path: Path) -> None:
    result = verify(path, _ENGINE)
    if not result.passed:
        raise ArtifactError("; ".join(result.reasons), "export it again")


def predict(path: Path) -> None:
    """Predict in the fake emulator."""
    _with_fake(_predict, path)


def verify_artifact(path: Path) -> None:
    """Verify in the fake emulator."""
    _with_fake(_verify, path)


def _make_model(**attributes: Any) -> Any:
    """Make an ONNX model of one compiled network."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    helper = onnx.helper
    values = {"embed_mode": 1, "ep_cache_context": _COMPILED, "main_context": 1} | attributes
    node = helper.make_node("EPContext", ["image"], ["logits"], domain="com.microsoft", **values)
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("image", _SHAPE), ("logits", (1, CLASSES)))
    ]
    graph = helper.make_graph([node], "graph", ends[:1], ends[1:])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


@cache
def _make_manifest(chip: str = "sm8650") -> Manifest:
    """Make a manifest with the golden vectors of the fake network."""
    golden = GoldenVectors(CHIRP_FORMULA, CHIRP_PATTERNS[:2], SIZE, SIZE, (), (1e-3,))
    manifest = make_manifest(
        target="qnn",
        precision="float16",
        input=TensorSpec("image", _SHAPE, "float32", "NCHW"),
        tools={"onnxruntime-qnn": "2.7.0"},
        compilation=Compilation(chip, chip, "QAIRT 2.51.0", "", 0.0),
    )
    manifest = dataclasses.replace(
        manifest,
        outputs=tuple(dataclasses.replace(spec, shape=(1, CLASSES)) for spec in manifest.outputs),
    )
    logits = tuple(
        tuple(map(float, compute_expected_logits(make_golden_batch(manifest, golden, index))[0]))
        for index in range(len(golden.patterns))
    )
    return dataclasses.replace(manifest, golden=dataclasses.replace(golden, outputs=logits))


def _save(path: Path, model: Any, text: str) -> Path:
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    onnx.helper.set_model_props(model, {MANIFEST_KEY: text})
    path.write_bytes(model.SerializeToString())
    return path


def _sign(path: Path, model: Any, manifest: Manifest) -> Path:
    """Write a model with a manifest that states the right hash."""
    return save_signed(path, manifest, lambda file, signed: _save(file, model, signed.to_json()))


def make_samples(folder: Path) -> Sequence[Path]:
    """Make a compiled network with its manifest."""
    return [_sign(folder / _NAME, _make_model(), _make_manifest())]


def make_other_network(folder: Path) -> Path:
    """Make a file with the right hash whose compiled network the fake does not accept."""
    return _sign(folder / _NAME, _make_model(ep_cache_context=b"other"), _make_manifest())


def mutate_sample(sample: Path, seed: str) -> HostileFile:
    """Change bytes of the file, or a field of the model with the right hash in the manifest."""
    if random.Random(seed).random() < 0.5:
        return make_mutation(sample, seed)
    return _make_signed(f"a changed and signed model, seed {seed!r}", lambda: _change(seed))


def _change(seed: str) -> Any:
    generator, model = random.Random(seed), _make_model()
    before = model.SerializeToString()
    while model.SerializeToString() == before:
        mutate_message(model, generator)
    return model


def _make_signed(
    description: str, make: Callable[[], Any] = _make_model, chip: str = "sm8650"
) -> HostileFile:
    return HostileFile(
        description, lambda folder: _sign(folder / _NAME, make(), _make_manifest(chip))
    )


def craft_refused(generator: random.Random) -> Iterator[HostileFile]:
    """Yield files that must be refused: truncated, huge, without a hash, and odd files."""
    data = _make_model().SerializeToString()
    for size in (0, 1, 2, 10, len(data) // 2, len(data) - 1):
        yield make_lazy_file(_NAME, f"{size} bytes of a model", lambda size=size: data[:size])
    yield make_lazy_file(_NAME, "no manifest", lambda: data)
    for number in range(_MUTATIONS):
        seed = f"{generator.random()} {number}"
        yield HostileFile(
            f"changed and not signed {seed}",
            lambda folder, seed=seed: _save(
                _sign(folder / _NAME, _make_model(), _make_manifest()),
                _change(seed),
                _signed_text(),
            ),
        )
    for size_bytes in (3 * GIB, 2**40):
        writer = make_sparse_writer(_NAME, size_bytes, data)
        yield HostileFile(f"a sparse file of {size_bytes} bytes", writer)
    yield make_lazy_file(
        _NAME, "a compiled network of 2^40 bytes", lambda: data + b"\x3a" + b"\x80" * 5 + b"\x20"
    )
    yield from yield_special_files(_NAME, data[:200])
    yield make_long_link(_NAME)
    yield from _craft_signed()


def _craft_signed() -> Iterator[HostileFile]:
    """Yield files with the right hash that a device must not run."""
    for chip in ("rk3588", "SM8650", "..", HOSTILE_TEXT):
        yield _make_signed(f"compiled for {chip[:20]!r}", chip=chip)
    for context in (b"", b"\0" * 64 * MIB, b"damaged", b"/etc/passwd"):
        yield _make_signed(
            f"{len(context)} bytes of another network",
            lambda context=context: _make_model(ep_cache_context=context),
        )
    for mode in (0, 2, -1, 2**62, "1", 1.0, [1]):
        yield _make_signed(f"embed_mode {mode}", lambda mode=mode: _make_model(embed_mode=mode))
    for operator in ("MatMul", "Resize", "Expand", "Loop", "If", "Foreign"):
        yield _make_signed(f"with {operator}", lambda operator=operator: _add_nodes(operator, 1))
    yield _make_signed("5000 operators", lambda: _add_nodes("Identity", 5000))
    yield _make_signed("weights in another file", _add_external_weights)


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield also signed changes and manifests, which may be accepted."""
    yield from craft_refused(generator)
    for chip in _CHIPS[:4]:
        yield _make_signed(f"compiled for {chip}", chip=chip)
    for description, text in change_manifest(_signed_text(), generator, _MANIFESTS):
        yield HostileFile(
            description, lambda folder, text=text: _save(folder / _NAME, _make_model(), text)
        )


@cache
def _signed_text() -> str:
    """Return the manifest of the sample."""
    with tempfile.TemporaryDirectory() as folder:
        path = make_samples(Path(folder))[0]
        digest = content_sha256(path)
    return dataclasses.replace(_make_manifest(), content_sha256=digest).to_json()


def _add_nodes(operator: str, count: int) -> Any:
    """Make a model in which operators on the CPU follow the compiled network."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    model = _make_model()
    nodes = model.graph.node
    nodes[0].output[0] = "n0"
    nodes.extend(
        onnx.helper.make_node(operator, [f"n{number}"], [f"n{number + 1}"])
        for number in range(count)
    )
    nodes[-1].output[0] = "logits"
    return model


def _add_external_weights() -> Any:
    model = _make_model()
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    tensor = model.graph.initializer.add()
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ones(1000, np.float32), "weights"))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return model


LOADERS = (
    Loader("Hexagon: predict", predict, make_samples, craft, mutate_sample=mutate_sample),
    Loader("Hexagon: verify", verify_artifact, make_samples, craft_refused, must_refuse=True),
    Loader(
        "Hexagon: inspect",
        artifact_commands.inspect,
        make_samples,
        craft,
        mutate_sample=mutate_sample,
    ),
)
