"""Small encoders as real ONNX files: they average the pixels of images of 16 x 8 (height x width).

The embedding of an image is its mean color, and its feature maps are smaller images.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.small_classifiers import hash_content, save_onnx
from tinyvit.golden import CHIRP_FORMULA, make_golden_input
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import GoldenVectors, OutputSpec, SourceCheckpoint, TensorSpec
from tinyvit.preprocess import Preprocess

HEIGHT, WIDTH = 16, 8

EMBEDDING = OutputSpec("embedding", ("batch", 3), "float32", "NC", "embedding")
FEATURES = (
    OutputSpec("stage0", ("batch", 3, 8, 4), "float32", "NCHW", "features", 2),
    OutputSpec("stage1", ("batch", 3, 4, 2), "float32", "NCHW", "features", 4),
)


def make_encoder_manifest(outputs: tuple[OutputSpec, ...], batch: int | str) -> Manifest:
    """Make a manifest whose preprocessing stretches images and does not normalize them."""
    return Manifest(
        model="averages",
        variant="test",
        img_size=(HEIGHT, WIDTH),
        target="onnx",
        precision="float32",
        embedded_preprocessing="host",
        input=TensorSpec("image", (batch, 3, HEIGHT, WIDTH), "float32", "NCHW"),
        outputs=tuple(
            dataclasses.replace(spec, shape=(batch, *spec.shape[1:])) for spec in outputs
        ),
        preprocess=Preprocess(
            (HEIGHT, WIDTH),
            (HEIGHT, WIDTH),
            "squash",
            "bilinear",
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        ),
        labels=(),
        source=SourceCheckpoint("averages", "0" * 64),
        license="mit",
        tools={"onnx": "1"},
    )


def make_encoder_network(manifest: Manifest) -> Any:
    """Make the ONNX model for the outputs of a manifest."""
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    nodes = []
    for spec in manifest.outputs:
        if spec.kind == "embedding":
            nodes.append(helper.make_node("GlobalAveragePool", ["image"], ["pooled"]))
            nodes.append(helper.make_node("Flatten", ["pooled"], [spec.name]))
        else:
            sides = [spec.stride, spec.stride]
            nodes.append(
                helper.make_node(
                    "AveragePool", ["image"], [spec.name], kernel_shape=sides, strides=sides
                )
            )
    tensors = [
        helper.make_tensor_value_info(spec.name, float32, spec.shape)
        for spec in (manifest.input, *manifest.outputs)
    ]
    graph = helper.make_graph(nodes, "averages", tensors[:1], tensors[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def average(image: Any, stride: int) -> Any:
    """Average squares of an image, float (height, width, 3), to (3, height / stride, ...)."""
    height, width = image.shape[0] // stride, image.shape[1] // stride
    squares = image.reshape(height, stride, width, stride, 3)
    return squares.mean((1, 3)).transpose(2, 0, 1)


def build_encoder(
    folder: Path,
    outputs: tuple[OutputSpec, ...] = (EMBEDDING,),
    batch: int | str = "batch",
    with_manifest: bool = True,
) -> Path:
    """Write an encoder with golden vectors.

    Args:
        folder: An existing folder for the artifact, which is called "encoder.onnx".
        outputs: `(EMBEDDING,)` or `FEATURES`.
        batch: Number of images per batch, or "batch" for any number.
        with_manifest: Whether the artifact gets a manifest.
    """
    manifest = make_encoder_manifest(outputs, batch)
    model = make_encoder_network(manifest)
    if not with_manifest:
        return save_onnx(folder / "encoder.onnx", model, None)
    image = make_golden_input(1, HEIGHT, WIDTH) / 255
    values = [
        image.mean((0, 1)) if spec.kind == "embedding" else average(image, spec.stride or 1)
        for spec in outputs
    ]
    row = tuple(float(value) for output in values for value in output.ravel())
    golden = GoldenVectors(CHIRP_FORMULA, (1,), HEIGHT, WIDTH, (row,), (1e-5,) * len(outputs))
    bare_file = save_onnx(folder / "bare.onnx", make_encoder_network(manifest), None)
    manifest = dataclasses.replace(manifest, golden=golden, content_sha256=hash_content(bare_file))
    return save_onnx(folder / "encoder.onnx", model, manifest)
