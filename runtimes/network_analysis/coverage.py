"""Finds the operators of a file that accelerators such as NPUs refuse, without any engine.

Files of the formats .onnx, .ort and .tflite are checked. The other formats are compiled, or contain
operators that are read only by their engine.

An accelerator runs the part of a network that its compiler accepts, and the rest stays on the CPU,
often without a message. The rules here are those that most accelerators share: no tensor with more
than four dimensions, no size that is only known at run time, and only the operators of
`COMMON_OPERATORS`. In a quantized network, an operator whose input or output is not quantized is
also refused, because NPUs compute in integers. The vendor's own compiler has the last word.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tinyvit.errors import RequestError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.formats.network_graph import NetworkGraph, Node
from tinyvit.runtimes.formats.stated_operators import StatedNetwork, StatesOperators
from tinyvit.runtimes.network_analysis.inference_cost import CostWalk, InferenceCost
from tinyvit.runtimes.network_analysis.tensor_facts import Shape, UnknownCostError

MAX_RANK = 4
"""Largest number of dimensions of a tensor. Hexagon takes five for some operators, Rockchip's NPUs
four."""

_COMMON_NAMES = """
Add AveragePool BatchNormalization Cast Clip Concat Constant Conv DequantizeLinear Div Flatten
Gather Gelu Gemm GlobalAveragePool HardSigmoid HardSwish Identity LayerNormalization LeakyRelu
MatMul Max MaxPool Min Mul Pad QuantizeLinear ReduceMean Relu Reshape Resize Sigmoid Slice Softmax
Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze
"""
COMMON_OPERATORS = frozenset(_COMMON_NAMES.split())
"""ONNX operators that the NPUs of Qualcomm and Rockchip have, by their documentation
(onnxruntime's page of the QNN execution provider; the operator list of RKNN-Toolkit2)."""

_COMMON_TFLITE_NAMES = """
ADD AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEQUANTIZE DIV
EXPAND_DIMS FULLY_CONNECTED GATHER GELU HARD_SWISH LEAKY_RELU LOGISTIC MAXIMUM MAX_POOL_2D MEAN
MINIMUM MUL PAD PADV2 QUANTIZE RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPLIT SPLIT_V SQRT SQUEEZE STRIDED_SLICE SUB TANH
TRANSPOSE
"""
COMMON_TFLITE_OPERATORS = frozenset(_COMMON_TFLITE_NAMES.split())
"""The operators of TensorFlow Lite that compute what `COMMON_OPERATORS` do, and RSQRT, a part of
LayerNorm."""

_CONVERSIONS = frozenset(
    (
        *("QuantizeLinear", "DequantizeLinear", "Cast", "Constant", "Identity"),
        *("QUANTIZE", "DEQUANTIZE", "CAST"),
    )
)
"""Operators that may have float inputs in a quantized network."""


_FLOATS = "it computes in floats, in a quantized network"
_FLOATS_REMARK = (
    "  an int8 file for CPUs has integer layers whose results are floats; an NPU needs every tensor"
    " in integers, as in the files of --target qnn and --target rknn"
)


@dataclass(frozen=True)
class RefusedOperator:
    """An operator that accelerators refuse.

    Attributes:
        operator: Name of the operator.
        output: Name of its first output.
        reason: Why it is refused, as a clause.
    """

    operator: str
    output: str
    reason: str


@dataclass(frozen=True)
class Coverage:
    """The result of a static check of a file.

    Attributes:
        operator_count: Number of operators in the file.
        refused: The operators that accelerators refuse.
        refused_share: Their multiplications as a share of those of all operators, 0 to 1; None if
            sizes are unknown.
    """

    operator_count: int
    refused: tuple[RefusedOperator, ...]
    refused_share: float | None

    def describe(self) -> list[str]:
        """Return the lines of a text: a summary, then one line for each reason."""
        if not self.refused:
            return [f"coverage: accelerators accept all {self.operator_count} operators"]
        share = ""
        if self.refused_share is not None:
            share = f", with {self.refused_share:.1%} of the multiplications"
        counts = Counter((item.operator, item.reason) for item in self.refused)
        return [
            f"coverage: accelerators refuse {len(self.refused)} of {self.operator_count}"
            f" operators{share}",
            *(f"  {count} {name}: {reason}" for (name, reason), count in sorted(counts.items())),
            *([_FLOATS_REMARK] if any(item.reason == _FLOATS for item in self.refused) else []),
        ]


def check_coverage(artifact: Artifact) -> Coverage:
    """Check statically which operators of a file accelerators refuse.

    Args:
        artifact: The file.

    Returns:
        The operators that accelerators refuse.

    Raises:
        RequestError: The operators of files of this format are not read.
        ArtifactError: The file is damaged or hostile.
    """
    if isinstance(artifact.format, StatesOperators):
        return _check_stated(artifact.format.read_stated_network(artifact.path))
    graph = artifact.format.read_graph(artifact.path)
    if not graph.nodes:
        raise _make_refusal(artifact)
    walk = _RecordingWalk(graph, InferenceCost(artifact.path.name))
    try:
        walk.run()
    except UnknownCostError:
        walk.is_complete = False
    quantized = _find_quantized_tensors(graph)
    refused = []
    for node in graph.nodes:
        reason = _find_reason(node, graph, walk.shapes, quantized)
        if reason:
            refused.append(RefusedOperator(node.operator, _first_output(node), reason))
    share = None
    if walk.is_complete:
        total = sum(walk.operations.values())
        on_cpu = sum(walk.operations.get(item.output, 0) for item in refused)
        share = on_cpu / max(1, total)
    return Coverage(len(graph.nodes), tuple(refused), share)


def _check_stated(network: StatedNetwork) -> Coverage:
    """Check a network whose file states the sizes and types of all tensors."""
    refused, refused_multiplications = [], 0
    for operator in network.operators:
        reason = _explain(
            operator.name in COMMON_TFLITE_OPERATORS,
            network.has_open_sizes,
            operator.max_rank,
            network.is_quantized and operator.has_floats and operator.name not in _CONVERSIONS,
        )
        if reason:
            refused.append(RefusedOperator(operator.name, operator.output, reason))
            refused_multiplications += operator.multiplications
    total = sum(operator.multiplications for operator in network.operators)
    share = refused_multiplications / max(1, total)
    return Coverage(len(network.operators), tuple(refused), share)


def _make_refusal(artifact: Artifact) -> RequestError:
    """Return the error for a format whose operators are not read."""
    remedy = "give the .onnx or .tflite file of the same model"
    if artifact.manifest is not None and artifact.manifest.compilation is not None:
        remedy += "; without --coverage, this command shows what the compiler left to the CPU"
    return RequestError(
        f"the operators in files of the format {artifact.format.name} are not read by --coverage",
        remedy,
    )


class _RecordingWalk(CostWalk):
    """Visits the operators and records the sizes of their results and their multiplications.

    Attributes:
        shapes: Name of a tensor -> its sizes.
        operations: Name of the first output of an operator -> its multiplications.
        is_complete: Whether the sizes of all tensors are known.
    """

    def __init__(self, graph: NetworkGraph, cost: InferenceCost) -> None:
        """Prepare the walk; see `CostWalk`."""
        super().__init__(graph, cost)
        self.shapes: dict[str, Shape] = {}
        self.operations: dict[str, int] = {}
        self.is_complete = True

    def record(self, node: Node, shapes: list[Shape], operations: int) -> None:
        """Record an operator; see `CostWalk.record`."""
        self.shapes |= zip(node.outputs, shapes)
        self.operations[_first_output(node)] = operations


def _first_output(node: Node) -> str:
    """Return the name of the first output; "" for a damaged operator without any."""
    return node.outputs[0] if node.outputs else ""


def _find_reason(
    node: Node, graph: NetworkGraph, shapes: dict[str, Shape], quantized: set[str]
) -> str:
    """Return why an operator is refused, as a clause; "" if it is accepted."""
    is_float = False
    if quantized and node.operator not in _CONVERSIONS:
        tensors = [name for name in node.inputs[:1] if name not in graph.constants]
        is_float = not quantized.issuperset((*tensors, *node.outputs))
    ranks = [len(shapes[name]) for name in (*node.inputs, *node.outputs) if name in shapes]
    return _explain(
        node.domain in ("", "ai.onnx") and node.operator in COMMON_OPERATORS,
        any(None in sizes[1:] for sizes in graph.inputs.values()),
        max(ranks, default=0),
        is_float,
    )


def _explain(is_common: bool, has_open_sizes: bool, max_rank: int, is_float: bool) -> str:
    """Return the first reason why an operator is refused, as a clause; "" if it is accepted."""
    if not is_common:
        return "NPUs do not have this operator"
    if has_open_sizes:
        return "sizes are only known at run time"
    if max_rank > MAX_RANK:
        return f"a tensor has {max_rank} dimensions, more than {MAX_RANK}"
    if is_float:
        return _FLOATS
    return ""


def _find_quantized_tensors(graph: NetworkGraph) -> set[str]:
    """Return the tensors that are read from integers or converted to integers."""
    quantized: set[str] = set()
    for node in graph.nodes:
        if node.operator == "QuantizeLinear":
            quantized.add(node.inputs[0])
        elif node.operator == "DequantizeLinear":
            quantized.add(node.outputs[0])
    return quantized
