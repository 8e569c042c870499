"""A Core ML program that would take too much memory or time is refused before it is evaluated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinyvit.errors import ArtifactError
from tinyvit.manifest_parts import TensorSpec
from tinyvit.runtimes.engines._mil_cost import check_cost
from tinyvit.runtimes.engines._mil_operations import compute_operation
from tinyvit.runtimes.engines._mil_types import MilProgram, ModelSignature, Operation


def make_program(operations: list[Operation], shape: tuple[int, ...]) -> MilProgram:
    image = TensorSpec("x", shape, "float32", "NCHW")
    logits = TensorSpec("logits", (1, 10), "float32", "NC")
    return MilProgram(ModelSignature(image, (logits,), False), tuple(operations))


def make_chain(kind: str, count: int, shape: tuple[int, ...], **constants: Any) -> list[Operation]:
    """Make operations that each read the output of the one before it."""
    names = ["x", *(f"t{number}" for number in range(count))]
    return [
        Operation(kind, {"x": names[i]}, constants, names[i + 1], shape, "float32")
        for i in range(count)
    ]


def test_a_program_within_the_limits_is_accepted() -> None:
    check_cost(make_program(make_chain("relu", 100, (1, 3, 1024, 1024)), (1, 3, 1024, 1024)))


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        (
            make_chain("relu", 400, (1, 3, 1024, 1024)),
            "its operations read and write 2,516,582,400 numbers",
        ),
        (
            make_chain("linear", 300, (1, 2**14), weight=np.broadcast_to(0, (1, 2**17))),
            "its operations need 644,245,094,400 multiply-accumulates",
        ),
        (
            [
                Operation("relu", {"x": "x"}, {}, f"t{i}", (1, 3, 1024, 1024), "float32")
                for i in range(90)
            ],
            "286,261,248 numbers are in memory at the same time",
        ),
        (
            make_chain("add", 40, (1, 10), y=np.broadcast_to(np.float16(0), (2**23,))),
            "338,690,058 numbers are in memory at the same time",
        ),
    ],
    ids=["time", "macs", "live", "constants"],
)
def test_the_cost_is_limited(operations: list[Operation], message: str) -> None:
    program = make_program(operations, (1, 3, 1024, 1024))
    with pytest.raises(ArtifactError, match=message):
        check_cost(program)


def broadcast(*shape: int) -> Any:
    """Make an array of zeros that takes no memory."""
    return np.broadcast_to(np.float32(0), shape)


@pytest.mark.parametrize(
    ("kind", "operands", "message"),
    [
        ("linear", {"x": broadcast(1, 4), "weight": broadcast(2**20, 4, 2**10)}, "weight has the"),
        (
            "linear",
            {"x": broadcast(1, 1), "weight": broadcast(2**14, 1), "bias": broadcast(2**14, 1)},
            "too large",
        ),
        ("matmul", {"x": np.ones((2, 2), np.int64), "y": np.ones((2, 2), np.int64)}, "not floats"),
        (
            "conv",
            {
                "x": broadcast(2**20, 1, 1, 1),
                "weight": broadcast(1, 1, 1, 1),
                "pad_type": "custom",
                "pad": [64] * 4,
            },
            "too large",
        ),
        (
            "clip",
            {"x": broadcast(2**14, 1), "alpha": broadcast(2**14), "beta": np.float32(1)},
            "too large",
        ),
        (
            "dequantize",
            {"input": np.ones((2**14, 1), np.int8), "scale": broadcast(2**14), "axis": 1},
            "too large",
        ),
        ("softmax", {"x": broadcast(1, 2), "axis": float("inf")}, "OverflowError"),
    ],
)
def test_operands_that_broadcast_to_a_huge_result_are_refused(
    kind: str, operands: dict[str, Any], message: str
) -> None:
    operation = Operation(kind, {}, {}, "t", (1, 1), "float32")
    with pytest.raises(ArtifactError, match=message):
        compute_operation(operation, operands, np.float32)


def test_gelu_in_blocks_computes_every_element() -> None:
    values = np.linspace(-3, 3, 2**18 + 5, dtype=np.float32).reshape(1, -1)
    operation = Operation("gelu", {}, {}, "t", values.shape, "float32")
    result = compute_operation(operation, {"x": values, "mode": "EXACT"}, np.float32)
    assert result.shape == values.shape
    assert np.allclose(result[0, [0, -1]], [-0.00404969, 2.9959503], atol=1e-6)
    assert np.allclose(result - result[:, ::-1], values, atol=1e-6), "gelu(x) - gelu(-x) = x"
