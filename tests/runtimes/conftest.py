"""Small classifiers as real files: a convolution, a pool and a linear layer, 32 x 32 pixels to 10 classes, with a manifest."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tinyvit.golden import CHIRP_FORMULA, PATTERNS, make_pattern
from tinyvit.labels import Label
from tinyvit.manifest import MANIFEST_KEY, GoldenVectors, Manifest, SourceCheckpoint, TensorSpec
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import content_sha256

SIZE, CLASSES = 32, 10
ENGINE_AND_SUFFIX = [("onnxruntime", ".onnx"), ("openvino", ".onnx"), ("openvino", ".xml")]
Build = Callable[..., Path]


def manifest_of(stage: str, batch: int | str) -> Manifest:
    shapes = {
        "host": (batch, 3, SIZE, SIZE),
        "normalize": (batch, SIZE, SIZE, 3),
        "full": (1, "height", "width", 3),
    }
    dtype, layout = ("float32", "NCHW") if stage == "host" else ("uint8", "NHWC")
    return Manifest(
        model="test",
        variant="test",
        img_size=SIZE,
        target="onnx",
        precision="float32",
        stage=stage,
        input=TensorSpec("image", shapes[stage], dtype, layout),
        output=TensorSpec("logits", (batch, CLASSES), "float32", "NC"),
        preprocess=Preprocess(SIZE, 36) if stage != "full" else Preprocess(SIZE, SIZE, "squash"),
        labels=tuple(Label(f"thing {i}", f"n{i:08}") for i in range(CLASSES)),
        source=SourceCheckpoint("made up", "0" * 64),
        license="mit",
        tools={"onnx": "1"},
    )


def network(stage: str, batch: int | str, seed: int = 0) -> Any:
    """The onnx model, without a manifest."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    make, of = onnx.helper, onnx.numpy_helper.from_array
    rng = np.random.default_rng(seed)
    constants = {
        "kernel": rng.normal(size=(8, 3, 5, 5)).astype("f"),
        "matrix": rng.normal(size=(32, CLASSES)).astype("f"),
        "scale": np.float32(1 / 255 / np.array([0.229, 0.224, 0.225])).reshape(3, 1, 1),
        "shift": np.float32(
            np.array([0.485, 0.456, 0.406]) / np.array([0.229, 0.224, 0.225])
        ).reshape(3, 1, 1),
        "to": np.array([1, 3, SIZE, SIZE], np.int64),
    }
    nodes, last = [], "image"

    def add(op: str, *rest: str, **attributes: Any) -> None:
        nonlocal last
        nodes.append(make.make_node(op, [last, *rest], [f"t{len(nodes)}"], **attributes))
        last = f"t{len(nodes) - 1}"

    if stage != "host":
        add("Cast", to=onnx.TensorProto.FLOAT)
        add("Transpose", perm=[0, 3, 1, 2])
        if stage == "full":
            add("Resize", "", "", "to", mode="cubic", antialias=1, cubic_coeff_a=-0.5)
        add("Mul", "scale")
        add("Sub", "shift")
    add("Conv", "kernel", strides=[2, 2])
    add("Relu")
    add("AveragePool", kernel_shape=[7, 7], strides=[7, 7])
    add("Flatten")
    add("MatMul", "matrix")
    nodes[-1].output[0] = "logits"
    spec = manifest_of(stage, batch)
    types = {"float32": onnx.TensorProto.FLOAT, "uint8": onnx.TensorProto.UINT8}
    ends = [
        [make.make_tensor_value_info(x.name, types[x.dtype], x.shape)]
        for x in (spec.input, spec.output)
    ]
    graph = make.make_graph(
        nodes, "test", *ends, [of(value, name) for name, value in constants.items()]
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9)


def write(path: Path, model: Any, manifest: Manifest | None) -> Path:
    """The model as .onnx or .xml with .bin, the manifest inside it."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    if path.suffix == ".onnx":
        if manifest:
            onnx.helper.set_model_props(model, {"other": "x", MANIFEST_KEY: manifest.to_json()})
        onnx.save(model, path)
        return path
    openvino = pytest.importorskip("openvino", reason="an optional engine")
    onnx.save(model, path.with_suffix(".tmp.onnx"))
    converted = openvino.convert_model(path.with_suffix(".tmp.onnx"))
    openvino.save_model(converted, path, compress_to_fp16=False)
    if manifest:
        # Hashed here, not by the caller: every conversion numbers its operations anew.
        manifest = dataclasses.replace(
            manifest, target="openvino", content_sha256=content_sha256(path)
        )
        converted.set_rt_info(manifest.to_json(), [MANIFEST_KEY, "manifest"])
        openvino.save_model(converted, path, compress_to_fp16=False)
    return path


def golden_logits(
    path: Path, stage: str, batch: int | str, preprocess: Preprocess
) -> tuple[tuple[float, ...], ...]:
    ort = pytest.importorskip("onnxruntime")
    session, rows = ort.InferenceSession(str(path)), []
    for s in PATTERNS:
        picture = make_pattern(s, SIZE, SIZE)
        one = preprocess.normalize(picture) if stage == "host" else picture
        rows.append(
            session.run(
                None, {"image": np.stack([one] * (batch if isinstance(batch, int) else 1))}
            )[0][0].tolist()
        )
    return tuple(map(tuple, rows))


def with_golden(model: Any, manifest: Manifest, folder: Path, batch: int | str) -> Manifest:
    bare = write(folder / "bare.onnx", model, None)
    logits = golden_logits(bare, manifest.stage, batch, manifest.preprocess)
    return dataclasses.replace(
        manifest,
        golden=GoldenVectors(CHIRP_FORMULA, PATTERNS, SIZE, SIZE, logits, 1e-3),
        content_sha256=content_sha256(bare),
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Files by description, each made once; not to be changed."""
    known: dict[tuple[Any, ...], Path] = {}

    def build(
        suffix: str = ".onnx",
        stage: str = "host",
        batch: int | str = "batch",
        manifest: bool = True,
    ) -> Path:
        key = (suffix, stage, batch, manifest)
        if key not in known:
            folder = tmp_path_factory.mktemp("made")
            model = network(stage, batch)
            said = (
                with_golden(model, manifest_of(stage, batch), folder, batch) if manifest else None
            )
            known[key] = write(folder / f"test{suffix}", network(stage, batch), said)
        return known[key]

    return build


@pytest.fixture
def copied(made: Build, tmp_path: Path) -> Build:
    """A copy of a made file, to be changed."""

    def build(*args: Any, **options: Any) -> Path:
        source = made(*args, **options)
        for file in source.parent.glob(f"{source.stem}.*"):
            shutil.copy(file, tmp_path)
        return tmp_path / source.name

    return build


@pytest.fixture(params=ENGINE_AND_SUFFIX, ids=["onnxruntime", "openvino-onnx", "openvino-ir"])
def engine_and_suffix(request: pytest.FixtureRequest) -> tuple[str, str]:
    pytest.importorskip(request.param[0], reason="an optional engine")
    return request.param


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Nine picture files of different sizes and contents."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = []
    for i in range(9):
        paths.append(folder / f"{i}.png")
        Image.fromarray(
            np.random.default_rng(i).integers(0, 30 * i + 10, (40 + i, 50 - i, 3), np.uint8)
        ).save(paths[-1])
    return paths
