"""Each operation of the Core ML reference evaluator computes what torch computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")
pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb

from tests.helpers.coreml_package import (
    BATCH,
    BIAS,
    DEPTHWISE_KERNEL,
    FEATURES,
    INT8_MATRIX,
    KERNEL,
    SCALES,
    build_package,
)
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines._mil_operations import OPERATIONS, compute_operation
from tinyvit.runtimes.engines._mil_types import Operation
from tinyvit.runtimes.engines.coreml_reference import ENGINE

Build = Callable[[Any], Any]
Formula = Callable[[torch.Tensor], torch.Tensor]

ZERO_POINTS = np.uint8([128, 3, 9])


def tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array))


def per_channel(values: Any) -> torch.Tensor:
    """Shape one value for each of three channels so that it broadcasts to the input."""
    return tensor(values).reshape(3, 1, 1)


def build_binary_arithmetic(x: Any) -> Any:
    shifted = mb.sub(x=mb.add(x=x, y=np.float32(2)), y=KERNEL[0, :, :1, :1])
    return mb.mul(x=shifted, y=x)


def build_division_and_limits(x: Any) -> Any:
    third = mb.real_div(x=x, y=np.float32(3))
    return mb.minimum(x=mb.maximum(x=third, y=np.float32(-0.1)), y=np.float32(0.2))


def build_conv(x: Any) -> Any:
    return mb.conv(
        x=x,
        weight=KERNEL,
        bias=BIAS[:5],
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
    )


def build_uneven_conv(x: Any) -> Any:
    return mb.conv(x=x, weight=KERNEL, strides=[1, 2], pad_type="custom", pad=[0, 2, 1, 0])


def build_valid_conv(x: Any) -> Any:
    return mb.conv(x=x, weight=KERNEL, pad_type="valid")


def build_depthwise_conv(x: Any) -> Any:
    return mb.conv(
        x=x,
        weight=DEPTHWISE_KERNEL,
        strides=[2, 2],
        groups=3,
        pad_type="custom",
        pad=[1, 1, 1, 1],
    )


def build_layer_norm(x: Any) -> Any:
    return mb.layer_norm(x=x, axes=[-1], gamma=BIAS[:8], beta=SCALES[:8], epsilon=1e-3)


def build_mean_of_transposed(x: Any) -> Any:
    transposed = mb.transpose(x=x, perm=[0, 2, 3, 1])
    return mb.reduce_mean(x=transposed, axes=[1, 2], keep_dims=False)


def build_slices(x: Any) -> Any:
    return mb.slice_by_index(
        x=x,
        begin=[0, 1, 5, 2],
        end=[1, 1, 6, 7],
        stride=[1, 1, 1, 2],
        begin_mask=[False, False, True, False],
        end_mask=[True, True, False, False],
    )


def build_casts(x: Any) -> Any:
    integers = mb.cast(x=mb.mul(x=x, y=np.float32(9)), dtype="int32")
    return mb.cast(x=integers, dtype="fp32")


def build_quantization(x: Any) -> Any:
    integers = mb.quantize(input=x, scale=np.float32(0.01), output_dtype="int8")
    return mb.dequantize(input=integers, scale=np.float32(0.01))


def compute_quantization(x: torch.Tensor) -> torch.Tensor:
    return (x / 0.01).round().clamp(-128, 127) * 0.01


def build_quantization_per_channel(x: Any) -> Any:
    integers = mb.quantize(
        input=x, scale=SCALES[:3], zero_point=ZERO_POINTS, axis=1, output_dtype="uint8"
    )
    return mb.dequantize(input=integers, scale=SCALES[:3], zero_point=ZERO_POINTS, axis=1)


def compute_quantization_per_channel(x: torch.Tensor) -> torch.Tensor:
    scales, zero_points = per_channel(SCALES[:3]), per_channel(ZERO_POINTS.astype(np.int64))
    levels = ((x / scales).round() + zero_points).clamp(0, 255)
    return (levels - zero_points) * scales


def build_int8_weights(x: Any) -> Any:
    weight = mb.constexpr_affine_dequantize(
        quantized_data=INT8_MATRIX, zero_point=np.int8(3), scale=SCALES, axis=0
    )
    return mb.linear(x=mb.reshape(x=x, shape=(1, FEATURES)), weight=weight)


def compute_int8_weights(x: torch.Tensor) -> torch.Tensor:
    weight = (tensor(INT8_MATRIX).float() - 3) * tensor(SCALES[:, None])
    return x.reshape(1, FEATURES) @ weight.T


PROGRAMS: dict[str, tuple[Build, Formula]] = {
    "add, sub, mul": (
        build_binary_arithmetic,
        lambda x: (x + 2 - tensor(KERNEL[0, :, :1, :1])) * x,
    ),
    "real_div, maximum, minimum": (
        build_division_and_limits,
        lambda x: (x / 3).clamp(-0.1, 0.2),
    ),
    "conv": (build_conv, lambda x: F.conv2d(x, tensor(KERNEL), tensor(BIAS[:5]), 2, 1)),
    "conv, uneven": (
        build_uneven_conv,
        lambda x: F.conv2d(F.pad(x, (1, 0, 0, 2)), tensor(KERNEL), None, (1, 2)),
    ),
    "conv, valid": (build_valid_conv, lambda x: F.conv2d(x, tensor(KERNEL))),
    "conv, depthwise": (
        build_depthwise_conv,
        lambda x: F.conv2d(x, tensor(DEPTHWISE_KERNEL), None, 2, 1, groups=3),
    ),
    "matmul": (lambda x: mb.matmul(x=x, y=x, transpose_x=True), lambda x: x.mT @ x),
    "matmul, y": (lambda x: mb.matmul(x=x, y=x, transpose_y=True), lambda x: x @ x.mT),
    "softmax": (
        lambda x: mb.softmax(x=mb.mul(x=x, y=np.float32(50)), axis=1),
        lambda x: (x * 50).softmax(1),
    ),
    "gelu": (
        lambda x: mb.gelu(x=mb.mul(x=x, y=np.float32(4)), mode="EXACT"),
        lambda x: F.gelu(x * 4),
    ),
    "relu, clip": (
        lambda x: mb.clip(x=mb.relu(x=x), alpha=0.1, beta=0.5),
        lambda x: x.clamp(0.1, 0.5),
    ),
    "layer_norm": (
        build_layer_norm,
        lambda x: F.layer_norm(x, (8,), tensor(BIAS[:8]), tensor(SCALES[:8]), 1e-3),
    ),
    "transpose, reduce_mean": (
        build_mean_of_transposed,
        lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
    ),
    "gather": (
        lambda x: mb.gather(x=x, indices=[2, 0, 2], axis=3),
        lambda x: x[..., [2, 0, 2]],
    ),
    "pad": (
        lambda x: mb.pad(x=x, pad=[1, 2, 0, 3], mode="constant", constant_val=np.float32(0.5)),
        lambda x: F.pad(x, (0, 3, 1, 2), value=0.5),
    ),
    "slice_by_index": (build_slices, lambda x: x[:, 1:, :6, 2:7:2]),
    "expand_dims, squeeze": (
        lambda x: mb.squeeze(x=mb.expand_dims(x=x, axes=[1]), axes=[0]),
        lambda x: x,
    ),
    "cast": (build_casts, lambda x: (x * 9).trunc()),
    "quantize, dequantize": (build_quantization, compute_quantization),
    "quantize, axis and zero point": (
        build_quantization_per_channel,
        compute_quantization_per_channel,
    ),
    "constexpr_affine_dequantize": (build_int8_weights, compute_int8_weights),
}
"""Maps the name of a tested operation to a program and to the same computation in torch."""


@pytest.mark.parametrize("name", PROGRAMS)
def test_operations_compute_what_torch_does(tmp_path: Path, name: str) -> None:
    build, formula = PROGRAMS[name]
    expected = formula(tensor(BATCH)).numpy().reshape(1, -1)
    artifact = Artifact(build_package(tmp_path, build), None)
    logits = ENGINE.open(artifact, RuntimeOptions()).run(BATCH)
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() < 1e-5 * max(1, np.abs(expected).max())


def test_every_operation_is_tested() -> None:
    tested = ", ".join(PROGRAMS).replace(",", "").split()
    assert set(OPERATIONS) - set(tested) == {
        "linear",
        "reshape",
        "identity",
        "constexpr_blockwise_shift_scale",
    }


@pytest.mark.parametrize(
    ("operands", "message"),
    [
        ({"pad": [0, 1], "mode": "reflect"}, "pad with mode reflect"),
        ({"pad": [0, -1]}, "out of range"),
        ({"pad": [0, 2**40]}, "out of range"),
        ({"pad": [0, 2**26] * 2}, "is too large"),
        ({"pad": [0, 1] * 5}, "cannot be computed"),
        ({"pad": [1]}, "cannot be computed"),
    ],
)
def test_impossible_padding_is_refused(operands: dict[str, Any], message: str) -> None:
    operation = Operation("pad", {}, {}, "y", (1, 3, 8, 8), "float32")
    with pytest.raises(ArtifactError, match=message):
        compute_operation(operation, {"x": BATCH, **operands}, np.float32)


@pytest.mark.parametrize(
    ("kind", "operands", "expected"),
    [
        ("reduce_mean", {"keep_dims": True}, BATCH.mean(keepdims=True)),
        ("layer_norm", {"epsilon": np.float32(0)}, (BATCH - BATCH.mean()) / BATCH.std()),
        (
            "conv",
            {"weight": KERNEL},
            F.conv2d(torch.from_numpy(BATCH), torch.from_numpy(KERNEL)).numpy(),
        ),
        (
            "conv",
            {"weight": KERNEL, "pad_type": "custom"},
            F.conv2d(torch.from_numpy(BATCH), torch.from_numpy(KERNEL)).numpy(),
        ),
    ],
)
def test_optional_parameters_have_the_defaults_of_mil(
    kind: str, operands: dict[str, Any], expected: Any
) -> None:
    """Coremltools writes the defaults into a file, but other tools may leave the parameters out."""
    operation = Operation(kind, {}, {}, "y", expected.shape, "float32")
    result = compute_operation(operation, {"x": BATCH, **operands}, np.float32)
    assert np.abs(result - expected).max() < 1e-5


def test_layer_norm_over_an_inner_axis() -> None:
    """Gamma and beta have one value for each index of the axis that is normalized."""
    gamma, beta = BIAS[:3], SCALES[:3]
    channels_last = torch.from_numpy(BATCH).permute(0, 2, 3, 1)
    expected = F.layer_norm(channels_last, (3,), tensor(gamma), tensor(beta), 1e-3)
    operands = {"x": BATCH, "axes": [-3], "gamma": gamma, "beta": beta, "epsilon": 1e-3}
    operation = Operation("layer_norm", {}, {}, "y", BATCH.shape, "float32")
    result = compute_operation(operation, operands, np.float32)
    assert np.abs(result - expected.permute(0, 3, 1, 2).numpy()).max() < 1e-5


@pytest.mark.parametrize("kind", ["reduce_mean", "layer_norm"])
def test_an_axis_that_does_not_exist_is_refused(kind: str) -> None:
    operation = Operation(kind, {}, {}, "y", BATCH.shape, "float32")
    with pytest.raises(ArtifactError, match="cannot be computed"):
        compute_operation(operation, {"x": BATCH, "axes": [4]}, np.float32)


def test_a_slice_that_removes_an_axis_is_refused() -> None:
    operation = Operation("slice_by_index", {}, {}, "y", (3, 8, 8), "float32")
    operands = {"x": BATCH, "begin": [0] * 4, "end": [1] * 4, "squeeze_mask": [True] + [False] * 3}
    with pytest.raises(ArtifactError, match="squeeze_mask"):
        compute_operation(operation, operands, np.float32)


def test_blockwise_weights() -> None:
    """Coremltools' Builder for iOS 17 has no such operation, so its function is called directly."""
    scales, offsets = SCALES.reshape(5, 2), np.ones((5, 2), np.int8)
    weights = OPERATIONS["constexpr_blockwise_shift_scale"](
        {"data": INT8_MATRIX, "scale": scales, "offset": offsets}
    )
    scale_of_each_weight = scales.repeat(2, 0).repeat(96, 1)
    expected = (INT8_MATRIX.astype(np.float32) - 1) * scale_of_each_weight
    assert np.abs(weights - expected).max() < 1e-6
