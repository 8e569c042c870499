"""Attention for chips on which rknn-toolkit2 does not fuse it."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")

import onnx
import onnx_ir as ir

from tinyvit.export.targets.rknn.attention import transpose_scores
from tinyvit.runtimes.rockchip.chips import CHIPS, PYTHON_VARIABLE, Chip
from tinyvit.runtimes.rockchip.ranges import Range
from tinyvit.runtimes.rockchip.simulator import Simulator
from tinyvit.runtimes.rockchip.toolkit import ToolkitRequest

TOKENS, HEADS, CHANNELS = 196, 2, 32
IMAGE_SHAPE = (1, 64, 14, 14)
ATTENTION = """
<ir_version: 9, opset_import: ["": 19]>
attention (float[1,64,14,14] image) => (float[196,64] output)
<float[2,196,196] bias, float[64,64] wq, float[64,64] wk, float[64,64] wv, float[64,64] wo,
 int64[2] flat = {64, 196}, int64[3] heads = {196, 2, 32}, int64[2] merged = {196, 64}>
{
    [node_columns] columns = Reshape(image, flat)
    [node_tokens] tokens = Transpose<perm = [1, 0]>(columns)
    [node_q] q = Gemm(tokens, wq)
    [node_k] k = Gemm(tokens, wk)
    [node_v] v = Gemm(tokens, wv)
    [node_q_heads] q_heads = Reshape(q, heads)
    [node_k_heads] k_heads = Reshape(k, heads)
    [node_v_heads] v_heads = Reshape(v, heads)
    [node_queries] queries = Transpose<perm = [1, 0, 2]>(q_heads)
    [node_keys] keys = Transpose<perm = [1, 2, 0]>(k_heads)
    [node_values] values = Transpose<perm = [1, 0, 2]>(v_heads)
    [node_product] product = MatMul(queries, keys)
    [node_scores] scores = Add(product, bias)
    [node_softmax] softmax = Softmax<axis = -1>(scores)
    [node_sums] sums = MatMul(softmax, values)
    [node_sums_tokens] sums_tokens = Transpose<perm = [1, 0, 2]>(sums)
    [node_sums_merged] sums_merged = Reshape(sums_tokens, merged)
    [node_output] output = Gemm(sums_merged, wo)
}
"""
"""An attention as the network has it: 196 tokens, and two heads of 32 channels."""


@pytest.fixture
def attention() -> ir.Model:
    """The attention with random weights; its scores are in the range of -3 to 3."""
    proto = onnx.parser.parse_model(ATTENTION)
    random = np.random.default_rng(0)
    arrays = {name: random.standard_normal((64, 64)) / 8 for name in ("wq", "wk", "wv", "wo")}
    arrays["wq"] /= 5
    arrays["bias"] = random.standard_normal((HEADS, TOKENS, TOKENS)) / 4
    kept = [value for value in proto.graph.initializer if value.name not in arrays]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(array.astype(np.float32), name)
        for name, array in arrays.items()
    )
    return ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))


@pytest.fixture
def image() -> npt.NDArray[np.float32]:
    """An image of noise whose mean is not 0, so that the attention's output is no noise."""
    noise = np.random.default_rng(1).standard_normal(IMAGE_SHAPE)
    return (noise + np.random.default_rng(2).standard_normal((1, 64, 1, 1))).astype(np.float32)


def compute(model: ir.Model, image: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the values of all float tensors that onnxruntime computes."""
    import onnxruntime

    proto = ir.serde.serialize_model(model)
    onnx.checker.check_model(proto, full_check=True)
    names = [name for node in proto.graph.node for name in node.output]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return dict(zip(names, session.run(names, {"image": image})))


def test_transposed_scores_give_the_same_output(
    attention: ir.Model, image: npt.NDArray[np.float32]
) -> None:
    before = compute(attention, image)
    transpose_scores(attention)
    after = compute(attention, image)
    # The names stay, so that the tensors keep their ranges.
    for name in ("product", "scores", "softmax"):
        np.testing.assert_allclose(after[name], before[name].swapaxes(-1, -2), rtol=0, atol=1e-5)
    np.testing.assert_allclose(after["output"], before["output"], rtol=0, atol=1e-5)
    softmax = next(node for node in attention.graph if node.op_type == "Softmax")
    assert softmax.attributes.get_int("axis") == -2


def test_a_softmax_without_a_product_stays_as_it_is(image: npt.NDArray[np.float32]) -> None:
    text = """
    <ir_version: 9, opset_import: ["": 19]>
    other (float[1,64,14,14] image) => (float[1,64,14,14] output)
    { output = Softmax<axis = -1>(image) }
    """
    model = ir.serde.deserialize_model(onnx.parser.parse_model(text))
    before = ir.serde.serialize_model(model)
    transpose_scores(model)
    assert ir.serde.serialize_model(model) == before


def simulate(
    model: ir.Model, ranges: dict[str, Range], chip: Chip, image: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], dict[str, int]]:
    """Return the output of a network on a chip, and the number of layers of each operator."""
    network = ir.serde.serialize_model(model).SerializeToString()
    request = ToolkitRequest(network, chip, ranges=ranges, range_images=[image])
    simulator = Simulator(request, os.environ[PYTHON_VARIABLE])
    try:
        (output,) = simulator.run(image, [(TOKENS, HEADS * CHANNELS)])
    finally:
        simulator.close()
    operators = [layer.operator for layer in simulator.compiled.layers if layer.processor == "CPU"]
    return output, {name: operators.count(name) for name in operators}


@pytest.mark.skipif(
    PYTHON_VARIABLE not in os.environ,
    reason=f"{PYTHON_VARIABLE} does not name a Python with rknn-toolkit2",
)
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_softmax_keeps_its_numbers_on_chips_without_fused_attention(
    attention: ir.Model, image: npt.NDArray[np.float32]
) -> None:
    tensors = compute(attention, image)
    ranges = {name: make_range(values) for name, values in tensors.items()}
    ranges["image"] = make_range(image)
    # As for photographs, one token may have a large share, and most have one or two steps.
    ranges["softmax"] = (0.0, 0.64)
    plain, plain_layers = simulate(attention, ranges, CHIPS["rk3566"], image)
    transpose_scores(attention)
    transposed, layers = simulate(attention, ranges, CHIPS["rk3566"], image)
    expected = tensors["output"]
    for output in (plain, transposed):
        error = np.sqrt(np.mean(np.square(output - expected)) / np.mean(np.square(expected)))
        # 0.2 if the softmax is the second operand with its zero point.
        assert error < 0.06
    assert layers["exSoftmax13"] == plain_layers["exSoftmax13"] == 1
    # Otherwise, the CPU transposes the numbers from the softmax.
    assert layers["Transpose"] < plain_layers["Transpose"]


def make_range(values: npt.NDArray[np.float32]) -> Range:
    """Return the smallest range with zero point 0 that contains the values."""
    scale = float(np.abs(values).max()) / 127
    return -128 * scale, 127 * scale
