"""Lists the types of layers that an OpenVINO model for images may contain.

A network for images is a fixed sequence of layers. A model may also contain loops, variables that
remain between inferences, and layers of other libraries; OpenVINO crashes while it reads some of
them.
"""

from __future__ import annotations

_ALLOWED_NAMES = """
Abs Acos Acosh AdaptiveAvgPool AdaptiveMaxPool Add Asin Asinh Atan Atanh AvgPool
BatchNormInference BatchToSpace BinaryConvolution Broadcast Ceiling Clamp Concat Const Convert
ConvertLike Convolution ConvolutionBackpropData Cos Cosh CumSum DepthToSpace Divide Einsum Elu
Equal Erf Exp FakeConvert FakeQuantize Floor FloorMod Gather GatherElements GatherND Gelu Greater
GreaterEqual GroupConvolution GroupConvolutionBackpropData GroupNormalization HardSigmoid HSigmoid
HSwish Identity Interpolate LRN Less LessEqual Log LogSoftmax LogicalAnd LogicalNot LogicalOr
LogicalXor MVN MatMul MaxPool Maximum Minimum Mish Mod Multiply Negative NormalizeL2 NotEqual
PReLU Pad Parameter Power RMS Range ReLU ReduceL1 ReduceL2 ReduceLogicalAnd ReduceLogicalOr
ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Reshape Result Reverse Roll Round
ScaledDotProductAttention Select Selu ShapeOf ShuffleChannels Sigmoid Sign Sin Sinh Slice SoftMax
SoftPlus SoftSign SpaceToBatch SpaceToDepth Split Sqrt SquaredDifference Squeeze StridedSlice
Subtract Swish Tan Tanh Tile TopK Transpose Unsqueeze VariadicSplit
"""

ALLOWED_LAYERS = frozenset(_ALLOWED_NAMES.split())
"""Types of layers that a file may contain without the option --allow-foreign-operators: those of
OpenVINO's operation sets that networks for images use, as an .xml file spells them. Broadcast,
Range and Tile can make large tensors; OpenVINO states their sizes, which are checked before it runs
them."""

_MAX_NAME_LENGTH = 80
"""Number of characters of a type that are shown."""


def name_if_foreign(layer_type: str) -> str:
    """Name a type of layer for a message if it is not one of `ALLOWED_LAYERS`.

    Args:
        layer_type: The type, as in the file.

    Returns:
        At most 80 characters of the type; "" for one of `ALLOWED_LAYERS`.
    """
    if layer_type in ALLOWED_LAYERS:
        return ""
    return layer_type[:_MAX_NAME_LENGTH] or "a layer without a type"
