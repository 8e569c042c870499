"""Small image classifiers as real files: 32 x 32 pixels to 10 classes, with a manifest.

The network is a convolution, a pool and a linear layer with random weights.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyvit.golden import CHIRP_FORMULA, CHIRP_PATTERNS, make_golden_input
from tinyvit.labels import Label
from tinyvit.manifest import MANIFEST_KEY, Manifest
from tinyvit.manifest_parts import (
    GoldenVectors,
    OutputSpec,
    Quantization,
    SourceCheckpoint,
    TensorSpec,
)
from tinyvit.preprocess import Preprocess

SIZE, CLASSES = 32, 10
"""Image size in pixels, and number of classes."""

_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])

ArtifactBuilder = Callable[..., Path]
"""A function that makes an artifact and returns its path.

Its parameters are suffix=".onnx", embedded_preprocessing="host", batch="batch", manifest=True;
`manifest` states whether the artifact has one; `batch` is a number of images, or "batch" for any.
"""


QUANTIZATION = Quantization(
    method="torchao HistogramObserver",
    calibration_sha256="",
    calibration_count=256,
    recipe_sha256="",
    weight_bits=7,
    required_cpu_feature="any",
    float_units=(),
    evaluation_count=1000,
    agreement=98.7,
    top1=85.2,
    float_top1=85.4,
    measured_on="a processor",
)
"""The description of an int8 network that lost 0.2 of 85.4% and was measured on 1,000 images."""


def make_manifest(embedded_preprocessing: str, batch: int | str) -> Manifest:
    """Make the manifest of a small classifier, without golden vectors.

    Args:
        embedded_preprocessing: Part inside the file: "host" (none), "normalize" or "full".
        batch: Number of images per batch, or "batch" for any number.
    """
    shapes = {
        "host": (batch, 3, SIZE, SIZE),
        "normalize": (batch, SIZE, SIZE, 3),
        "full": (1, "height", "width", 3),
    }
    dtype, layout = ("float32", "NCHW") if embedded_preprocessing == "host" else ("uint8", "NHWC")
    return Manifest(
        model="test",
        variant="test",
        img_size=SIZE,
        target="onnx",
        precision="float32",
        embedded_preprocessing=embedded_preprocessing,
        input=TensorSpec("image", shapes[embedded_preprocessing], dtype, layout),
        outputs=(OutputSpec("logits", (batch, CLASSES), "float32", "NC"),),
        preprocess=Preprocess(SIZE, 36)
        if embedded_preprocessing != "full"
        else Preprocess(SIZE, SIZE, "squash"),
        labels=tuple(Label(f"thing {i}", f"n{i:08}") for i in range(CLASSES)),
        source=SourceCheckpoint("random weights", "0" * 64),
        license="mit",
        tools={"onnx": "1"},
    )


def make_network(embedded_preprocessing: str, batch: int | str) -> Any:
    """Make the ONNX model of a small classifier, without a manifest.

    The arguments are those of `make_manifest`.
    """
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    helper = onnx.helper
    rng = np.random.default_rng(0)
    constants = {
        "kernel": rng.normal(size=(8, 3, 5, 5)).astype("f"),
        "matrix": rng.normal(size=(32, CLASSES)).astype("f"),
        "scale": np.float32(1 / 255 / _STD).reshape(3, 1, 1),
        "shift": np.float32(_MEAN / _STD).reshape(3, 1, 1),
        "size": np.array([1, 3, SIZE, SIZE], np.int64),
    }
    nodes: list[Any] = []

    def add(op_type: str, *constant_inputs: str, **attributes: Any) -> None:
        """Add a node whose first input is the output of the node before it."""
        inputs = [nodes[-1].output[0] if nodes else "image", *constant_inputs]
        nodes.append(helper.make_node(op_type, inputs, [f"t{len(nodes)}"], **attributes))

    if embedded_preprocessing != "host":
        add("Cast", to=onnx.TensorProto.FLOAT)
        add("Transpose", perm=[0, 3, 1, 2])
        if embedded_preprocessing == "full":
            add("Resize", "", "", "size", mode="cubic", antialias=1, cubic_coeff_a=-0.5)
        add("Mul", "scale")
        add("Sub", "shift")
    add("Conv", "kernel", strides=[2, 2])
    add("Relu")
    add("AveragePool", kernel_shape=[7, 7], strides=[7, 7])
    add("Flatten")
    add("MatMul", "matrix")
    nodes[-1].output[0] = "logits"

    manifest = make_manifest(embedded_preprocessing, batch)
    types = {"float32": onnx.TensorProto.FLOAT, "uint8": onnx.TensorProto.UINT8}
    inputs, outputs = (
        [helper.make_tensor_value_info(spec.name, types[spec.dtype], spec.shape)]
        for spec in (manifest.input, *manifest.outputs)
    )
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


OTHER_ENTRY = b"r\n\n\x05other\x12\x01x"
"""The metadata entry of another tool that `save_onnx` adds, as it is in the file."""


def save_onnx(path: Path, model: Any, manifest: Manifest | None) -> Path:
    """Save an ONNX model; with a manifest, the file also gets a metadata entry of another tool."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    if manifest:
        onnx.helper.set_model_props(model, {"other": "x", MANIFEST_KEY: manifest.to_json()})
    onnx.save(model, path)
    return path


def save_openvino_ir(path: Path, model: Any, manifest: Manifest | None) -> Path:
    """Convert an ONNX model to an OpenVINO IR (.xml and .bin) and store the manifest, if any."""
    openvino = pytest.importorskip("openvino", reason="an optional engine")
    converted = openvino.convert_model(save_onnx(path.with_suffix(".tmp.onnx"), model, None))
    openvino.save_model(converted, path, compress_to_fp16=False)
    if manifest:
        # The hash can only be computed now, because every conversion numbers its operations anew.
        converted.set_rt_info(manifest.to_json(), [MANIFEST_KEY, "manifest"])
        openvino.save_model(converted, path, compress_to_fp16=False)
        manifest = dataclasses.replace(
            manifest, target="openvino", content_sha256=hash_openvino_ir(path)
        )
        converted.set_rt_info(manifest.to_json(), [MANIFEST_KEY, "manifest"])
        openvino.save_model(converted, path, compress_to_fp16=False)
    return path


def hash_openvino_ir(path: Path) -> str:
    """Hash all bytes of an OpenVINO IR without the text of its manifest."""
    network = re.sub(rb'(<manifest value=")[^"]*', rb"\1", path.read_bytes())
    return hashlib.sha256(network + path.with_suffix(".bin").read_bytes()).hexdigest()


def hash_content(bare_file: Path) -> str:
    """Hash what `save_onnx` writes with a manifest, from a file without metadata."""
    return hashlib.sha256(bare_file.read_bytes() + OTHER_ENTRY).hexdigest()


def add_golden_vectors(
    manifest: Manifest, bare_file: Path, embedded_preprocessing: str, batch: int | str
) -> Manifest:
    """Return a copy of a manifest with golden vectors and a content hash.

    Args:
        manifest: The manifest.
        bare_file: The .onnx file without metadata, which computes the logits and is hashed.
        embedded_preprocessing: The preprocessing inside the file.
        batch: Number of images per batch, or "batch" for any number.
    """
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(bare_file))
    logits = []
    for pattern in CHIRP_PATTERNS:
        image = make_golden_input(pattern, SIZE, SIZE)
        if embedded_preprocessing == "host":
            image = np.float32((image / 255 - _MEAN) / _STD).transpose(2, 0, 1)
        images = np.stack([image] * (batch if isinstance(batch, int) else 1))
        logits.append(tuple(session.run(None, {"image": images})[0][0].tolist()))
    return dataclasses.replace(
        manifest,
        golden=GoldenVectors(CHIRP_FORMULA, CHIRP_PATTERNS, SIZE, SIZE, tuple(logits), (1e-3,)),
        content_sha256=hash_content(bare_file),
    )


def build_classifier(
    folder: Path, suffix: str, embedded_preprocessing: str, batch: int | str, with_manifest: bool
) -> Path:
    """Build a small classifier.

    Args:
        folder: An existing folder for the artifact, which is called "test".
        suffix: ".onnx" or ".xml" (OpenVINO).
        embedded_preprocessing: Part inside the file: "host" (none), "normalize" or "full".
        batch: Number of images per batch, or "batch" for any number.
        with_manifest: Whether the artifact gets a manifest.

    Returns:
        Path of the artifact.
    """
    manifest = None
    if with_manifest:
        bare_file = save_onnx(
            folder / "bare.onnx", make_network(embedded_preprocessing, batch), None
        )
        manifest = add_golden_vectors(
            make_manifest(embedded_preprocessing, batch), bare_file, embedded_preprocessing, batch
        )
    save = save_onnx if suffix == ".onnx" else save_openvino_ir
    return save(folder / f"test{suffix}", make_network(embedded_preprocessing, batch), manifest)
