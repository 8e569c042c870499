"""Checks how much memory and time a model that OpenVINO has read needs, before it is compiled.

OpenVINO computes the sizes of all tensors when it reads a model.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tinyvit.runtimes.inference_cost import ASSUMED_BATCH_SIZE, ASSUMED_SIDE, InferenceCost
from tinyvit.runtimes.shape_rules import Shape, UnknownCostError

_PASSIVE_TYPES = ("Constant", "Parameter", "Result")


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


def _add_operations(model: Any, cost: InferenceCost) -> None:
    """Add the results of all operators, in the order in which OpenVINO computes them."""
    operators = model.get_ordered_ops()
    last_uses: dict[tuple[str, int], int] = {}
    sources = []
    for position, operator in enumerate(operators):
        outputs = [value for value in operator.input_values()]
        sources.append([(value.get_node().get_name(), value.get_index()) for value in outputs])
        for source in sources[-1]:
            last_uses[source] = position
    results: dict[tuple[str, int], tuple[Shape, int, bool]] = {}
    for position, operator in enumerate(operators):
        operator_type, name = operator.get_type_name(), operator.get_name()
        inputs = [results[source] for source in sources[position]]
        is_constant = operator_type != "Parameter" and all(result[2] for result in inputs)
        for index, output in enumerate(operator.outputs()):
            shape = _read_shape(output)
            element_bytes = -(-output.get_element_type().bitwidth // 8)
            results[name, index] = (shape, element_bytes, is_constant)
            if operator_type not in _PASSIVE_TYPES:
                cost.add_result(shape, element_bytes)
        if operator_type not in _PASSIVE_TYPES and results.get((name, 0)):
            cost.add_operations(_count(operator_type, results[name, 0][0], inputs))
        for source in set(sources[position]):
            shape, element_bytes, source_is_constant = results[source]
            is_last = last_uses[source] == position
            if is_last and not source_is_constant and not source[0].startswith("Parameter"):
                cost.release(shape, element_bytes)


def _read_shape(output: Any) -> Shape:
    """Return the sizes of a result; where only the largest possible size is known, this one."""
    partial_shape = output.partial_shape
    if partial_shape.rank.is_dynamic:
        raise UnknownCostError("an operator")
    sizes = [size.get_max_length() for size in partial_shape]
    if any(size < 0 for size in sizes):
        raise UnknownCostError("an operator")
    return tuple(sizes)


def _count(operator_type: str, result: Shape, inputs: list[tuple[Shape, int, bool]]) -> int:
    """Return the number of multiplications of an operator that multiplies matrices or kernels."""
    if operator_type == "MatMul":
        return prod(result) * max(inputs[0][0][-2:], default=1)
    if operator_type == "Convolution":
        return prod(result) * prod(inputs[1][0][1:])
    if operator_type == "GroupConvolution":
        return prod(result) * prod(inputs[1][0][2:])
    if "Convolution" in operator_type:
        return prod(inputs[0][0]) * prod(inputs[1][0])
    return 0
