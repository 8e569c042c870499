"""Checks how much memory and time a model that OpenVINO has read needs, before it is compiled.

OpenVINO computes the sizes of all tensors when it reads a model.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from tinyvit.runtimes.network_analysis.inference_cost import (
    ASSUMED_BATCH_SIZE,
    ASSUMED_SIDE,
    InferenceCost,
    check_operator_count,
    cost_error,
)
from tinyvit.runtimes.network_analysis.tensor_facts import Shape, UnknownCostError

_MAX_CHAIN = 128
"""Largest number of element-by-element operators in a row. OpenVINO takes a time that grows with
the square or the cube of this number to combine them: up to 6 s for 300, minutes for 2,000. In
artifacts there are at most 15, and in a ViT of timm 25."""

_CHAIN_END_NAMES = """
Concat Convolution Gather Interpolate MVN MatMul Pad Pool Reduce Reshape ShapeOf Slice SoftMax Split
Squeeze Transpose Unsqueeze
"""

_CHAIN_ENDS = tuple(_CHAIN_END_NAMES.split())
"""Parts of the types of operators that end such a row; operators of other types continue it."""


def check_model_cost(model: Any, file_name: str) -> bool:
    """Check that a model needs no more memory and time than networks for images do.

    Args:
        model: An openvino.Model.
        file_name: Name of the file for messages.

    Returns:
        Whether the cost could be computed; see `inference_cost.check_inference_cost`.

    Raises:
        ArtifactError: If the model needs more than the limits of `inference_cost`.
    """
    try:
        fixed_model = _fix_sizes(model)
        cost = InferenceCost(file_name)
        if fixed_model is model and model.inputs:
            cost.batch_size = max([1, *list(model.inputs[0].shape)[:1]])
        _add_operations(fixed_model, cost)
    except UnknownCostError:
        return False
    return True


def _fix_sizes(model: Any) -> Any:
    """Return the model with the assumed sizes for those that the caller of the network chooses."""
    if not any(port.partial_shape.is_dynamic for port in model.inputs):
        return model
    shapes = {}
    for index, port in enumerate(model.inputs):
        if port.partial_shape.rank.is_dynamic:
            raise UnknownCostError(f"input {index}")
        shapes[index] = [
            (ASSUMED_SIDE if axis else ASSUMED_BATCH_SIZE) if size.is_dynamic else size.get_length()
            for axis, size in enumerate(port.partial_shape)
        ]
    fixed_model = model.clone()
    try:
        fixed_model.reshape(shapes)
    except RuntimeError as error:
        raise UnknownCostError("an operator") from error
    return fixed_model


class _Result(NamedTuple):
    """A result of an operator.

    Attributes:
        shape: Its sizes.
        element_bytes: Size of one element, in bytes; 0 for an input of the network.
        is_constant: Whether it does not depend on the image.
        chain: Number of element-by-element operators in a row that lead to it.
    """

    shape: Shape
    element_bytes: int
    is_constant: bool
    chain: int


def _add_operations(model: Any, cost: InferenceCost) -> None:
    """Add the results of all operators, in the order in which OpenVINO computes them."""
    operators = [
        (operator, operator_type)
        for operator in model.get_ordered_ops()
        if (operator_type := operator.get_type_name()) not in ("Constant", "Result")
    ]
    check_operator_count(len(operators), cost.file_name)
    sources = [
        [(value.get_node().get_name(), value.get_index()) for value in operator.input_values()]
        for operator, _operator_type in operators
    ]
    last_uses = {source: step for step, names in enumerate(sources) for source in names}
    # Constants are not among the results.
    results: dict[tuple[str, int], _Result] = {}
    for step, (operator, operator_type) in enumerate(operators):
        inputs = {source: results[source] for source in sources[step] if source in results}
        is_input = operator_type == "Parameter"
        is_constant = not is_input and all(result.is_constant for result in inputs.values())
        chain = _measure_chain(operator_type, list(inputs.values()))
        if chain > _MAX_CHAIN:
            raise cost_error(cost.file_name, f"it has more than {_MAX_CHAIN} operators in a row")
        name = operator.get_name()
        for index, output in enumerate(operator.outputs()):
            element_bytes = 0 if is_input else -(-output.get_element_type().bitwidth // 8)
            result = _Result(_read_shape(output), element_bytes, is_constant, chain)
            results[name, index] = result
            if not is_input:
                cost.add_result(result.shape, result.element_bytes)
        if operator_type == "MatMul" or "Convolution" in operator_type:
            cost.add_operations(_count(operator, operator_type, results[name, 0].shape))
        for source, result in inputs.items():
            if last_uses[source] == step and not result.is_constant:
                cost.release(result.shape, result.element_bytes)


def _measure_chain(operator_type: str, inputs: list[_Result]) -> int:
    """Return the number of element-by-element operators in a row that end with an operator."""
    if operator_type == "Parameter" or any(part in operator_type for part in _CHAIN_ENDS):
        return 0
    return 1 + max((result.chain for result in inputs), default=0)


def _read_shape(output: Any) -> Shape:
    """Return the sizes of a result; where only the largest possible size is known, this one."""
    partial_shape = output.partial_shape
    if partial_shape.rank.is_dynamic:
        raise UnknownCostError("an operator")
    sizes = [size.get_max_length() for size in partial_shape]
    if any(size < 0 for size in sizes):
        raise UnknownCostError("an operator")
    return tuple(sizes)


def _count(operator: Any, operator_type: str, result: Shape) -> int:
    """Return the number of multiplications of an operator that multiplies matrices or kernels."""
    first, second = (_read_shape(value) for value in operator.input_values()[:2])
    if operator_type == "MatMul":
        # The number of elements that are added for each number of the product.
        is_transposed = len(first) > 1 and operator.get_attributes()["transpose_a"]
        return prod(result) * first[-2 if is_transposed else -1]
    if operator_type == "Convolution":
        return prod(result) * prod(second[1:])
    if operator_type == "GroupConvolution":
        return prod(result) * prod(second[2:])
    return prod(first) * prod(second)
