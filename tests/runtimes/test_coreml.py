"""Core ML packages: what their metadata say, the reference evaluator's operations one by one, and files that nobody made in good faith."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")
pytest.importorskip("torch")

import coremltools as ct
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.proto import Model_pb2

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.export.targets.coreml import writer as package_coreml
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime, RuntimeOptions
from tinyvit.runtimes.engines import coreml, coreml_reference
from tinyvit.runtimes.engines._mil_operations import RULES
from tinyvit.runtimes.engines._mil_program import read_program
from tinyvit.runtimes.engines.coreml_reference import Evaluator, products
from tinyvit.runtimes.formats import coreml as format_

MODEL = Path("Data", "com.apple.CoreML", "model.mlmodel")
WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")
SHAPE = (1, 3, 8, 8)
rng = np.random.default_rng(0)
KERNEL = rng.normal(size=(5, 3, 3, 3)).astype("f")
DEPTHWISE = rng.normal(size=(3, 1, 3, 3)).astype("f")
MATRIX = rng.normal(size=(10, 192)).astype("f")
BIAS = rng.normal(size=10).astype("f")
INTEGERS = rng.integers(-128, 128, (10, 192), np.int8)
SCALES = rng.uniform(0.01, 0.02, 10).astype("f")
PICTURE = rng.normal(size=SHAPE).astype("f")


def package(
    folder: Path, build: Callable[[Any], Any], image: bool = False, half: bool = False
) -> Path:
    """What `build` makes of the input, flattened to (1, n), as a package."""

    @mb.program(
        input_specs=[mb.TensorSpec(shape=SHAPE, dtype=types.fp32)], opset_version=ct.target.iOS17
    )
    def program(x: Any) -> Any:
        made = build(x)
        return mb.reshape(x=made, shape=(1, int(np.prod(made.shape))), name="logits")

    converted = ct.convert(
        program,
        convert_to="mlprogram",
        inputs=[ct.ImageType("x", SHAPE, color_layout=ct.colorlayout.RGB)] if image else None,
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY if not half else ct.PassPipeline.DEFAULT,
        skip_model_load=True,
    )
    path = folder / "a.mlpackage"
    data = Path(converted.weights_dir, "weight.bin")
    package_coreml.write(
        path,
        converted.get_spec().SerializeToString(deterministic=True),
        data.read_bytes() if data.is_file() else b"",
    )
    return path


def classifier(x: Any) -> Any:
    return mb.linear(
        x=mb.reshape(x=mb.gelu(x=x, mode="EXACT"), shape=(1, 192)), weight=MATRIX, bias=BIAS
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return package(tmp_path, classifier)


def reference(path: Path, options: RuntimeOptions | None = None) -> Runtime:
    return coreml_reference.open_runtime(Artifact(path, None), options or RuntimeOptions())


def change(path: Path, edit: Callable[[Any], None]) -> None:
    model = Model_pb2.Model.FromString((path / MODEL).read_bytes())
    edit(model)
    (path / MODEL).write_bytes(model.SerializeToString(deterministic=True))


def block(model: Any) -> Any:
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def t(array: Any) -> Any:
    return torch.from_numpy(np.asarray(array))


def q(x: Any, scale: float) -> Any:
    return (x / scale).round().clamp(-128, 127)


OPERATIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "add, sub, mul": (
        lambda x: mb.mul(x=mb.sub(x=mb.add(x=x, y=np.float32(2)), y=KERNEL[0, :, :1, :1]), y=x),
        lambda x: (x + 2 - t(KERNEL[0, :, :1, :1])) * x,
    ),
    "real_div, maximum, minimum": (
        lambda x: mb.minimum(x=mb.maximum(x=mb.real_div(x=x, y=np.float32(3)), y=np.float32(-0.1)), y=np.float32(0.2)),
        lambda x: (x / 3).clamp(-0.1, 0.2),
    ),
    "conv": (
        lambda x: mb.conv(x=x, weight=KERNEL, bias=BIAS[:5], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
        lambda x: F.conv2d(x, t(KERNEL), t(BIAS[:5]), 2, 1),
    ),
    "conv, uneven": (
        lambda x: mb.conv(x=x, weight=KERNEL, strides=[1, 2], pad_type="custom", pad=[0, 2, 1, 0]),
        lambda x: F.conv2d(F.pad(x, (1, 0, 0, 2)), t(KERNEL), None, (1, 2)),
    ),
    "conv, valid": (lambda x: mb.conv(x=x, weight=KERNEL, pad_type="valid"), lambda x: F.conv2d(x, t(KERNEL))),
    "conv, depthwise": (
        lambda x: mb.conv(x=x, weight=DEPTHWISE, strides=[2, 2], groups=3, pad_type="custom", pad=[1, 1, 1, 1]),
        lambda x: F.conv2d(x, t(DEPTHWISE), None, 2, 1, groups=3),
    ),
    "matmul": (lambda x: mb.matmul(x=x, y=x, transpose_x=True), lambda x: x.mT @ x),
    "matmul, y": (lambda x: mb.matmul(x=x, y=x, transpose_y=True), lambda x: x @ x.mT),
    "softmax": (lambda x: mb.softmax(x=mb.mul(x=x, y=np.float32(50)), axis=1), lambda x: (x * 50).softmax(1)),
    "gelu": (lambda x: mb.gelu(x=mb.mul(x=x, y=np.float32(4)), mode="EXACT"), lambda x: F.gelu(x * 4)),
    "relu, clip": (lambda x: mb.clip(x=mb.relu(x=x), alpha=0.1, beta=0.5), lambda x: x.clamp(0.1, 0.5)),
    "layer_norm": (
        lambda x: mb.layer_norm(x=x, axes=[-1], gamma=BIAS[:8], beta=SCALES[:8], epsilon=1e-3),
        lambda x: F.layer_norm(x, (8,), t(BIAS[:8]), t(SCALES[:8]), 1e-3),
    ),
    "transpose, reduce_mean": (
        lambda x: mb.reduce_mean(x=mb.transpose(x=x, perm=[0, 2, 3, 1]), axes=[1, 2], keep_dims=False),
        lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
    ),
    "gather": (lambda x: mb.gather(x=x, indices=[2, 0, 2], axis=3), lambda x: x[..., [2, 0, 2]]),
    "expand_dims, squeeze": (lambda x: mb.squeeze(x=mb.expand_dims(x=x, axes=[1]), axes=[0]), lambda x: x),
    "cast": (lambda x: mb.cast(x=mb.cast(x=mb.mul(x=x, y=np.float32(9)), dtype="int32"), dtype="fp32"), lambda x: (x * 9).trunc()),
    "quantize, dequantize": (
        lambda x: mb.dequantize(input=mb.quantize(input=x, scale=np.float32(0.01), output_dtype="int8"), scale=np.float32(0.01)),
        lambda x: q(x, 0.01) * 0.01,
    ),
    "quantize, axis and zero point": (
        lambda x: mb.dequantize(
            input=mb.quantize(input=x, scale=SCALES[:3], zero_point=np.uint8([128, 3, 9]), axis=1, output_dtype="uint8"),
            scale=SCALES[:3],
            zero_point=np.uint8([128, 3, 9]),
            axis=1,
        ),
        lambda x: (
            ((x / t(SCALES[:3, None, None])).round() + (z := torch.tensor([128, 3, 9]).reshape(3, 1, 1))).clamp(0, 255) - z
        ) * t(SCALES[:3, None, None]),
    ),
    "constexpr_affine_dequantize": (
        lambda x: mb.linear(
            x=mb.reshape(x=x, shape=(1, 192)),
            weight=mb.constexpr_affine_dequantize(quantized_data=INTEGERS, zero_point=np.int8(3), scale=SCALES, axis=0),
        ),
        lambda x: x.reshape(1, 192) @ ((t(INTEGERS).float() - 3) * t(SCALES[:, None])).T,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(tmp_path: Path, name: str) -> None:
    """Each against torch, whose formulas the network was trained with."""
    build, formula = OPERATIONS[name]
    wanted = formula(t(PICTURE)).numpy().reshape(1, -1)
    runtime = reference(package(tmp_path, build))
    got = runtime.run(PICTURE)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < 1e-5 * max(1, np.abs(wanted).max())


def test_every_operation_is_tested() -> None:
    tested = ", ".join(OPERATIONS).replace(",", "").split()
    assert set(RULES) - set(tested) == {
        "linear",
        "reshape",
        "identity",
        "constexpr_blockwise_shift_scale",
    }
    got = RULES["constexpr_blockwise_shift_scale"](
        {"data": INTEGERS, "scale": SCALES.reshape(5, 2), "offset": np.ones((5, 2), np.int8)}
    )
    spread = SCALES.reshape(5, 2).repeat(2, 0).repeat(96, 1)
    assert np.abs(got - (INTEGERS.astype("f") - 1) * spread).max() < 1e-6


def test_half_is_rounded_to_half(tmp_path: Path) -> None:
    path = package(tmp_path, classifier, half=True)
    runtime = reference(path)
    assert runtime.describe()["precision"] == "f16"
    exact = (F.gelu(t(PICTURE)).reshape(1, 192).double() @ t(MATRIX).double().T + t(BIAS)).numpy()
    assert 1e-4 < np.abs(runtime.run(PICTURE) - exact).max() < 0.1
    assert np.array_equal(runtime.run(PICTURE), runtime.run(PICTURE).astype(np.float16).astype("f"))


def test_images_are_levels_by_rows(tmp_path: Path) -> None:
    runtime = reference(
        package(tmp_path, lambda x: mb.transpose(x=x, perm=[0, 2, 3, 1]), image=True)
    )
    pixels = rng.integers(0, 256, (1, 8, 8, 3), np.uint8)
    assert (runtime.inputs[0].dtype, runtime.inputs[0].layout, runtime.inputs[0].shape) == (
        "uint8",
        "NHWC",
        (1, 8, 8, 3),
    )
    assert np.array_equal(runtime.run(pixels), pixels.reshape(1, -1).astype("f"))


def test_the_contract_of_an_engine(made: Path) -> None:
    runtime = reference(made)
    facts = runtime.describe()
    assert (facts["engine"], facts["device"], facts["precision"]) == (
        "coreml-reference",
        "cpu",
        "f32",
    )
    assert [one.name for one in (*runtime.inputs, *runtime.outputs)] == ["x", "logits"]
    first = runtime.run(PICTURE)
    kept = first.copy()
    runtime.run(PICTURE * 2)
    assert np.array_equal(first, kept)
    for wrong in (
        PICTURE[:, :, :7],
        PICTURE.astype(np.float64),
        np.zeros((2, 3, 8, 8), "f"),
        np.zeros((0, 3, 8, 8), "f"),
    ):
        with pytest.raises(ArtifactError, match="the file takes"):
            runtime.run(wrong)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(got, kept) for got in pool.map(runtime.run, [PICTURE] * 20))
    with runtime:
        pass
    runtime.close()
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(PICTURE)


@pytest.mark.parametrize(
    "options", [RuntimeOptions("gpu"), RuntimeOptions(threads=1), RuntimeOptions(precision="f16")]
)
def test_what_an_evaluator_does_not_have(made: Path, options: RuntimeOptions) -> None:
    with pytest.raises(RequestError):
        reference(made, options)


def test_the_integer_share(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        rounded = mb.dequantize(
            input=mb.quantize(input=x, scale=np.float32(0.1), output_dtype="int8"),
            scale=np.float32(0.1),
        )
        weight = mb.constexpr_affine_dequantize(
            quantized_data=INTEGERS, zero_point=np.int8(0), scale=SCALES, axis=0
        )
        integer = mb.linear(x=mb.reshape(x=x, shape=(1, 192)), weight=weight)
        kernel = mb.constexpr_affine_dequantize(
            quantized_data=INTEGERS[:, :3].reshape(10, 3, 1, 1),
            zero_point=np.int8(0),
            scale=SCALES,
            axis=0,
        )
        conv = mb.conv(x=rounded, weight=kernel, pad_type="valid")
        return mb.add(
            x=mb.matmul(x=integer, y=MATRIX[:, :10]),
            y=mb.reduce_mean(x=conv, axes=[2, 3], keep_dims=False),
        )

    found = products(read_program(package(tmp_path, build)))
    assert sorted(found) == [
        ("conv", 10 * 64 * 3, True),
        ("linear", 1920, False),
        ("matmul", 100, False),
    ]


# What a package says of itself.


def test_the_manifest_and_the_digest(made: Path) -> None:
    def digest() -> str:
        into = hashlib.sha256()
        format_.COREML.update_hash(made, into)
        return into.hexdigest()

    assert format_.COREML.recognizes(made, b"")
    assert not format_.COREML.recognizes(made / "Data", b"")
    assert not format_.COREML.recognizes(made / MODEL, b"")
    assert format_.COREML.manifests(made) == []
    change(made, lambda model: model.description.metadata.userDefined.clear())
    bare = digest()
    for text in ("{}", "x" * 10_000, "ä"):
        change(
            made,
            lambda model, text=text: model.description.metadata.userDefined.update(tinyvit=text),
        )
        assert format_.COREML.manifests(made) == [text]
        assert digest() == bare, "of all but the manifest"
    (made / ".DS_Store").write_bytes(b"the Finder's")
    assert digest() == bare
    seen = {bare}
    for edit in (
        lambda model: model.description.metadata.userDefined.update(other="x"),
        lambda model: setattr(model.description.metadata, "license", "x"),
        lambda model: setattr(model, "specificationVersion", 9),
        lambda model: setattr(block(model).operations[-1], "type", "x"),
    ):
        change(made, edit)
        assert digest() not in seen
        seen.add(digest())
    data = bytearray((made / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (made / WEIGHTS).write_bytes(data)
    assert digest() not in seen


def test_two_manifests_are_both_told(made: Path) -> None:
    """Protobuf joins what comes twice; a reader that takes the first, and one that takes the last, must not see different files."""
    both = Model_pb2.Model()
    both.description.metadata.userDefined["tinyvit"] = "two"
    change(made, lambda model: model.description.metadata.userDefined.update(tinyvit="one"))
    (made / MODEL).write_bytes((made / MODEL).read_bytes() + both.SerializeToString())
    assert format_.COREML.manifests(made) == ["one", "two"]


def _index(folder: Path, **changes: Any) -> None:
    index = json.loads((folder / "Manifest.json").read_text())
    index["itemInfoEntries"][index["rootModelIdentifier"]] |= changes
    (folder / "Manifest.json").write_text(json.dumps(index))


def _outside(path: Path) -> None:
    shutil.copy(path / MODEL, path.parent / "model.mlmodel")
    _index(path, path="../../model.mlmodel")


def _link(path: Path) -> None:
    (path / MODEL).rename(path.parent / "model.mlmodel")
    (path / MODEL).symlink_to(path.parent / "model.mlmodel")


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "no model": lambda path: (path / MODEL).unlink(),
    "empty model": lambda path: (path / MODEL).write_bytes(b""),
    "half a model": lambda path: (path / MODEL).write_bytes((path / MODEL).read_bytes()[:500]),
    "noise": lambda path: (path / MODEL).write_bytes(b"\xff" * 1000),
    "index is no JSON": lambda path: (path / "Manifest.json").write_text("{"),
    "index is a list": lambda path: (path / "Manifest.json").write_text("[]"),
    "index is deep": lambda path: (path / "Manifest.json").write_text("[" * 100_000),
    "index is large": lambda path: (path / "Manifest.json").write_text(" " * 2**21),
    "index names a number": lambda path: _index(path, path=3),
    "index names a folder": lambda path: _index(path, path="com.apple.CoreML"),
    "index names a file outside": _outside,
    "a link": _link,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_packages(made: Path, name: str) -> None:
    DAMAGES[name](made)
    calls: list[Callable[[], Any]] = [
        lambda: reference(made),
        lambda: format_.COREML.manifests(made),
        lambda: format_.COREML.update_hash(made, hashlib.sha256()),
    ]
    for call in calls:
        with pytest.raises(ArtifactError) as caught:
            call()
        assert "\n" not in str(caught.value)


def _size(model: Any, number: int, place: int = -1) -> None:
    block(model).operations[place].outputs[0].type.tensorType.dimensions[0].constant.size = number


def _blob(model: Any) -> Any:
    return (
        next(one for one in block(model).operations if one.attributes["val"].blobFileValue.fileName)
        .attributes["val"]
        .blobFileValue
    )


HOSTILE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an unknown operation": (
        lambda model: setattr(block(model).operations[-1], "type", "lstm"),
        "does not know the operation lstm",
    ),
    "another gelu": (lambda model: _text(model, "EXACT", "TANH_APPROXIMATION"), "TANH"),
    "too large": (lambda model: _size(model, 2**40), "too large"),
    "another shape": (lambda model: _size(model, 7), "declared"),
    "no shape": (
        lambda model: (
            block(model)
            .operations[-1]
            .outputs[0]
            .type.tensorType.dimensions[0]
            .unknown.SetInParent()
        ),
        "no fixed shape",
    ),
    "weights elsewhere": (
        lambda model: setattr(_blob(model), "fileName", "@model_path/../../../x"),
        "no weights",
    ),
    "weights anywhere": (
        lambda model: setattr(_blob(model), "fileName", "/etc/passwd"),
        "no weights",
    ),
    "weights beyond": (lambda model: setattr(_blob(model), "offset", 2**63), "ends before"),
    "weights between": (lambda model: setattr(_blob(model), "offset", 65), "has no float32"),
    "a cycle": (
        lambda model: block(model).operations.extend([block(model).operations[-1]]),
        "called logits",
    ),
    "no output": (
        lambda model: setattr(block(model).operations[-1].outputs[0], "name", "other"),
        "nothing makes logits",
    ),
    "no input": (lambda model: model.description.ClearField("input"), "one input"),
    "two logits": (
        lambda model: model.description.output.add().CopyFrom(model.description.output[0]),
        "array of logits",
    ),
    "no program": (lambda model: model.identity.SetInParent(), "no ML Program"),
    "no main": (lambda model: model.mlProgram.functions.clear(), "no main"),
}


def _text(model: Any, old: str, new: str) -> None:
    for operation in block(model).operations:
        strings = (
            operation.attributes["val"].immediateValue.tensor.strings.values
            if "val" in operation.attributes
            else []
        )
        if list(strings) == [old]:
            strings[0] = new


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_programs(made: Path, name: str) -> None:
    edit, said = HOSTILE[name]
    change(made, edit)
    with pytest.raises(ArtifactError, match=said) as caught:
        reference(made).run(PICTURE)
    assert "\n" not in str(caught.value)


def test_bytes_changed_at_random(made: Path) -> None:
    """An answer or an ArtifactError, whatever the bytes."""
    whole, noise = (made / MODEL).read_bytes(), np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for at in noise.integers(0, len(data), 3):
            data[at] = noise.integers(256)
        (made / MODEL).write_bytes(data)
        for call in (lambda: reference(made).run(PICTURE), lambda: format_.COREML.manifests(made)):
            try:
                call()
            except ArtifactError:
                refused += 1
    assert refused > 20


def test_a_missing_sdk(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingDependencyError, match=r"tinyvit-edge\[coreml\]"):
        reference(made)
    assert format_.COREML.manifests(made) == [], "which needs none"


@pytest.mark.skipif(sys.platform == "darwin", reason="there it runs")
def test_core_ml_is_refused_elsewhere(made: Path) -> None:
    with pytest.raises(RequestError, match="--runtime coreml-reference"):
        coreml.open_runtime(Artifact(made, None), RuntimeOptions())


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML is on Apple's systems only")
@pytest.mark.parametrize("device", ["cpu", "gpu", "npu"])
@pytest.mark.parametrize("image", [False, True])
def test_core_ml_computes_what_the_reference_does(tmp_path: Path, device: str, image: bool) -> None:
    path = package(tmp_path, classifier, image=image)
    batch = rng.integers(0, 256, (1, 8, 8, 3), np.uint8) if image else PICTURE
    with coreml.open_runtime(Artifact(path, None), RuntimeOptions(device)) as runtime:
        assert runtime.describe()["engine"] == "coreml"
        assert runtime.inputs == reference(path).inputs
        wanted = Evaluator(read_program(path)).logits(batch)
        assert np.abs(runtime.run(batch) - wanted).max() < 1e-2 * np.abs(wanted).max()
