"""The rules by which most accelerators, such as NPUs, refuse an operator.

An accelerator runs the part of a network that its compiler accepts, and the rest stays on the CPU,
often without a message. The rules here are those that most accelerators share: no tensor with more
than four dimensions, no size that is only known at run time, and only the operators of
`COMMON_OPERATORS`. In a quantized network, an operator whose input or output is not quantized is
also refused, because many NPUs compute in integers only. The vendor's own compiler has the last
word.
"""

from __future__ import annotations

MAX_RANK = 4
"""Largest number of dimensions of a tensor. Hexagon takes five for some operators, Rockchip's NPUs
four."""

_COMMON_ONNX_NAMES = """
Add AveragePool BatchNormalization Cast Clip Concat Constant Conv DequantizeLinear Div Flatten
Gather Gelu Gemm GlobalAveragePool HardSigmoid HardSwish Identity LayerNormalization LeakyRelu
MatMul Max MaxPool Min Mul Pad QuantizeLinear ReduceMean Relu Reshape Resize Sigmoid Slice Softmax
Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze
"""
COMMON_ONNX_OPERATORS = frozenset(_COMMON_ONNX_NAMES.split())
"""ONNX operators that the NPUs of Qualcomm and Rockchip have, by their documentation
(onnxruntime's page of the QNN execution provider; the operator list of RKNN-Toolkit2)."""

_COMMON_TFLITE_NAMES = """
ADD AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEQUANTIZE DIV
EXPAND_DIMS FULLY_CONNECTED GATHER GELU HARD_SWISH LEAKY_RELU LOGISTIC MAXIMUM MAX_POOL_2D MEAN
MINIMUM MUL PAD PADV2 QUANTIZE RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPLIT SPLIT_V SQRT SQUEEZE STRIDED_SLICE SUB TANH
TRANSPOSE
"""
_COMMON_OPENVINO_NAMES = """
Add AvgPool BatchNormInference Clamp Concat Convert Convolution Divide FakeQuantize Gather Gelu
GroupConvolution HSigmoid HSwish HardSigmoid Identity Interpolate MVN MatMul MaxPool Maximum Minimum
Multiply PReLU Pad ReLU ReduceMean Reshape Sigmoid Slice SoftMax Split Sqrt Squeeze StridedSlice
Subtract Swish Tanh Transpose Unsqueeze VariadicSplit
"""
_COMMON_MIL_NAMES = """
add avg_pool batch_norm cast clip concat conv dequantize expand_dims gather gelu identity layer_norm
leaky_relu linear matmul max_pool maximum minimum mul pad quantize real_div reduce_mean relu relu6
reshape resize_bilinear resize_nearest_neighbor rsqrt sigmoid sigmoid_hard silu slice_by_index
slice_by_size softmax split sqrt squeeze sub tanh transpose upsample_bilinear
upsample_nearest_neighbor
"""
_COMMON_XNNPACK_NAMES = """
Add AvgPooling2d BatchMatrixMultiply Clamp Concatenate2 Concatenate3 Concatenate4 Concatenate5
Conv2d Convert Copy DepthwiseConv2d Div FullyConnected Gelu GlobalAvgPooling2d Hardswish LeakyReLU
MaxPooling2d Maximum Minimum Multiply ReciprocalSquareRoot Sigmoid Softmax SquareRoot
StaticConstantPad StaticReshape StaticResizeBilinear2D StaticSlice StaticTranspose Subtract Tanh
"""

COMMON_OPERATORS = {
    "tflite": frozenset(_COMMON_TFLITE_NAMES.split()),
    "openvino": frozenset(_COMMON_OPENVINO_NAMES.split()),
    "mil": frozenset(_COMMON_MIL_NAMES.split()),
    "xnnpack": frozenset(_COMMON_XNNPACK_NAMES.split()),
}
"""Language of a file whose tensors are stated (`StatedNetwork.language`) -> the operators that
compute what `COMMON_ONNX_OPERATORS` do, and the reciprocal of a square root, a part of
LayerNorm."""

CONVERSIONS = frozenset(
    (
        *("QuantizeLinear", "DequantizeLinear", "Cast", "Constant", "Identity"),
        *("QUANTIZE", "DEQUANTIZE", "CAST"),
        *("FakeQuantize", "Convert"),
        *("quantize", "dequantize", "cast", "identity"),
        "Copy",
    )
)
"""Operators of all languages that may have float inputs in a quantized network."""

FLOATS = "it computes in floats, in a quantized network"
"""The reason for an operator whose input or output is not quantized."""


def explain_refusal(is_common: bool, has_open_sizes: bool, max_rank: int, is_float: bool) -> str:
    """Return the first reason why an operator is refused, as a clause; "" if it is accepted.

    Args:
        is_common: Whether the operator is one of those that most accelerators have.
        has_open_sizes: Whether a size of the network's inputs is only known at run time.
        max_rank: Largest number of dimensions of its tensors.
        is_float: Whether it computes in floats, in a quantized network.
    """
    if not is_common:
        return "NPUs do not have this operator"
    if has_open_sizes:
        return "sizes are only known at run time"
    if max_rank > MAX_RANK:
        return f"a tensor has {max_rank} dimensions, more than {MAX_RANK}"
    if is_float:
        return FLOATS
    return ""
