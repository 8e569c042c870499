"""Small Core ML packages, built with coremltools, whose protobuf messages tests can change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.proto import Model_pb2

MODEL_FILE = Path("Data", "com.apple.CoreML", "model.mlmodel")
WEIGHTS_FILE = Path("Data", "com.apple.CoreML", "weights", "weight.bin")

SHAPE = (1, 3, 8, 8)
"""Shape of the input, in the layout NCHW."""
FEATURES = 192
"""Number of values of one input."""

# Weights and an input batch with random values, from which tests build networks.
rng = np.random.default_rng(0)
KERNEL = rng.normal(size=(5, 3, 3, 3)).astype(np.float32)
DEPTHWISE_KERNEL = rng.normal(size=(3, 1, 3, 3)).astype(np.float32)
MATRIX = rng.normal(size=(10, FEATURES)).astype(np.float32)
BIAS = rng.normal(size=10).astype(np.float32)
INT8_MATRIX = rng.integers(-128, 128, (10, FEATURES), np.int8)
SCALES = rng.uniform(0.01, 0.02, 10).astype(np.float32)
BATCH = rng.normal(size=SHAPE).astype(np.float32)


def build_package(
    folder: Path, build: Callable[[Any], Any], is_image: bool = False, float16: bool = False
) -> Path:
    """Build a package.

    Args:
        folder: Where to write a.mlpackage.
        build: A function that adds the network's operations with coremltools' Builder. It takes
            the input (1, 3, 8, 8); its result is flattened to the logits (1, n).
        is_image: Whether Core ML takes the input as an image.
        float16: Whether the program computes in float16.

    Returns:
        The path of the package.
    """

    @mb.program(
        input_specs=[mb.TensorSpec(shape=SHAPE, dtype=types.fp32)], opset_version=ct.target.iOS17
    )
    def program(x: Any) -> Any:
        result = build(x)
        return mb.reshape(x=result, shape=(1, int(np.prod(result.shape))), name="logits")

    image_type = ct.ImageType("x", SHAPE, color_layout=ct.colorlayout.RGB)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        inputs=[image_type] if is_image else None,
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT16 if float16 else ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.DEFAULT if float16 else ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    path = folder / "a.mlpackage"
    model.save(str(path))
    return path


def build_gelu_and_linear(x: Any) -> Any:
    """Build the smallest classifier: GELU, then a linear layer."""
    flat = mb.reshape(x=mb.gelu(x=x, mode="EXACT"), shape=(1, FEATURES))
    return mb.linear(x=flat, weight=MATRIX, bias=BIAS)


def edit_model(path: Path, edit: Callable[[Any], Any]) -> None:
    """Change the Model message of a package in place.

    Args:
        path: The package.
        edit: A function that changes the message; its result is ignored.
    """
    model = Model_pb2.Model.FromString((path / MODEL_FILE).read_bytes())
    edit(model)
    (path / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))


def get_main_block(model: Any) -> Any:
    """Return the block of a Model message that contains all its operations."""
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset]
