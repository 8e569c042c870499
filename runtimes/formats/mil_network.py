"""Reads the operations of a Core ML model (an ML Program), without coremltools.

The program is in MIL (model intermediate language), which states the type and the sizes of every
value. Operations that depend only on constants, such as the decompression of 8-bit weights, are
left out: Core ML computes them once, when it compiles the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from tinyvit.runtimes.formats.mil_messages import (
    MAX_NAME_LENGTH,
    MilFunction,
    MilOperation,
    MilValue,
    read_main_function,
)
from tinyvit.runtimes.formats.protobuf import Buffer
from tinyvit.runtimes.formats.quantized_tensors import (
    TensorRole,
    TensorUse,
    computes_in_floats,
    find_quantized_tensors,
)
from tinyvit.runtimes.formats.stated_operators import StatedNetwork, StatedOperator, find_depth

_PASSING_NAMES = """
concat expand_dims gather identity pad reshape slice_by_index slice_by_size split squeeze transpose
"""

_ROLES = {
    "quantize": TensorRole.QUANTIZES,
    "dequantize": TensorRole.DEQUANTIZES,
    **dict.fromkeys(_PASSING_NAMES.split(), TensorRole.PASSES),
}
"""Name of an operation -> what it does to its tensors; the others compute new values."""

_FIRST_PARAMETERS = frozenset(("x", "input", "values", "data"))
"""Names of the parameter that is the first input of an operation."""

_UNCOUNTED_PRODUCTS = frozenset(("einsum", "scaled_dot_product_attention"))
"""Operations that contain products whose number is not computed here."""

_RANDOM = "random_"
"""Beginning of the names of operations that compute new values although they take constants."""

Values = dict[str, MilValue]


def read_network(model: Buffer) -> StatedNetwork:
    """Read the operations of a model.

    Args:
        model: The model file, a serialized Model.

    Returns:
        The operations.

    Raises:
        ValueError: If the file is damaged, or larger than a limit.
    """
    function = read_main_function(model)
    values = dict(function.inputs)
    for operation in function.operations:
        values |= operation.outputs
    rows = list(_list_operators(function))
    quantized = find_quantized_tensors([use for _operation, use in rows])
    exact = quantized | {name for name, value in values.items() if not value.is_float}
    return StatedNetwork(
        "mil",
        tuple(
            StatedOperator(
                name=operation.kind[:MAX_NAME_LENGTH],
                output=next(iter(operation.outputs), "")[:MAX_NAME_LENGTH],
                max_rank=_find_max_rank(use, values),
                has_floats=computes_in_floats(use, exact),
                multiplications=_count_multiplications(operation, values),
            )
            for operation, use in rows
        ),
        is_quantized=bool(quantized),
        has_open_sizes=any(
            value.sizes is None or None in value.sizes[1:] for value in function.inputs.values()
        ),
    )


def _list_operators(function: MilFunction) -> Iterator[tuple[MilOperation, TensorUse]]:
    """Yield the operations that depend on an input of the network, with their tensors."""
    constants: set[str] = set()
    for operation in function.operations:
        arguments = [
            (parameter not in _FIRST_PARAMETERS, argument.name)
            for parameter, items in operation.inputs.items()
            for argument in items
            if argument.name and argument.name not in constants
        ]
        computes_new = operation.has_blocks or operation.kind.startswith(_RANDOM)
        if not arguments and not computes_new:
            constants.update(operation.outputs)
            continue
        # Parameters are stored in any order; the first input is moved to the front.
        inputs = tuple(name for _is_other, name in sorted(arguments, key=lambda item: item[0]))
        role = _ROLES.get(operation.kind, TensorRole.COMPUTES)
        yield operation, TensorUse(role, inputs, tuple(operation.outputs))


def _find_max_rank(use: TensorUse, values: Values) -> int:
    """Return the largest number of dimensions of the computed inputs and the outputs."""
    known = [values[name] for name in (*use.inputs, *use.outputs) if name in values]
    return max((len(value.sizes) for value in known if value.sizes is not None), default=0)


def _count_multiplications(operation: MilOperation, values: Values) -> int | None:
    """Count the multiplications of a product; 0 for other operations, None for unknown sizes."""
    if operation.kind in _UNCOUNTED_PRODUCTS:
        return None
    if operation.kind not in ("conv", "conv_transpose", "linear", "matmul"):
        return 0
    second = "y" if operation.kind == "matmul" else "weight"
    shapes = [_find_sizes(operation, parameter, values) for parameter in ("x", second)]
    shapes.append(next((value.sizes for value in operation.outputs.values()), None))
    if any(sizes is None or None in sizes for sizes in shapes):
        return None
    first, weight, result = ([size for size in sizes or () if size is not None] for sizes in shapes)
    if operation.kind == "matmul":
        return prod(result) * find_depth(first, result)
    elements = prod(first if operation.kind == "conv_transpose" else result)
    return elements * prod(weight[1:])


def _find_sizes(
    operation: MilOperation, parameter: str, values: Values
) -> tuple[int | None, ...] | None:
    """Return the sizes of what an operation takes as a parameter; None if they are not known."""
    arguments = operation.inputs.get(parameter)
    if not arguments:
        raise ValueError(f"a {operation.kind} has no {parameter}")
    value = arguments[0].constant or values.get(arguments[0].name)
    return value.sizes if value else None
