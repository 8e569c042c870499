"""Reads the messages of an ML Program, the network in a Core ML model, without coremltools.

Only names, types and sizes are read, no weights. Files may be hostile: the number of fields in all
messages together is limited, and nested blocks are not entered.

The field numbers come from mlmodel/format/Model.proto and MIL.proto in
https://github.com/apple/coremltools.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tinyvit.runtimes.formats.network_graph import check_rank
from tinyvit.runtimes.formats.protobuf import (
    BYTES,
    VARINT,
    Buffer,
    FieldBudget,
    iterate_fields,
    read_varint,
)

# Field numbers of Model, Program, Function, Block, the entries of a map, and NamedValueType.
_MODEL_PROGRAM, _PROGRAM_FUNCTIONS = 502, 2
_FUNCTION_INPUTS, _FUNCTION_OPSET, _FUNCTION_BLOCKS = 1, 2, 3
_BLOCK_OPERATIONS = 3
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VALUE_NAME, _VALUE_TYPE = 1, 2
# Field numbers of Operation, Argument, Binding and Value.
_OPERATION_KIND, _OPERATION_INPUTS, _OPERATION_OUTPUTS, _OPERATION_BLOCKS = 1, 2, 3, 4
_ARGUMENT_BINDINGS, _BINDING_NAME, _BINDING_VALUE, _CONSTANT_TYPE = 1, 1, 2, 2
# Field numbers of ValueType, TensorType, Dimension and ConstantDimension.
_TYPE_TENSOR, _TENSOR_TYPE, _TENSOR_RANK, _TENSOR_DIMENSIONS = 1, 1, 2, 3
_DIMENSION_CONSTANT, _CONSTANT_SIZE = 1, 1

_FLOAT_TYPES = frozenset((10, 11, 12, 13, 40, 41))
"""Values of DataType for float16, float32, float64, bfloat16 and float8."""

_MAIN = "main"
"""Name of the function that runs the network."""
_MAX_PROGRAM_BYTES = 2**26
"""Largest size of a program, without the weights, which are in another file. A TinyViT's has fewer
than 2**20."""
MAX_NAME_LENGTH = 200
"""Number of characters of a name that are shown."""


@dataclass(frozen=True)
class MilValue:
    """The type of a value.

    Attributes:
        sizes: Sizes of a tensor, None for one that is only known at run time; () for a value that
            is no tensor; None if the number of dimensions is not known.
        is_float: Whether it is a tensor of floats.
    """

    sizes: tuple[int | None, ...] | None
    is_float: bool


@dataclass(frozen=True)
class MilArgument:
    """What an operation takes as a parameter.

    Attributes:
        name: Name of the value; "" for a constant that the operation states itself.
        constant: Type of this constant; None for a named value.
    """

    name: str
    constant: MilValue | None


@dataclass
class MilOperation:
    """An operation.

    Attributes:
        kind: MIL's name of the operation, such as "conv".
        inputs: Parameter -> what the operation takes as this parameter.
        outputs: Name of each value that it computes -> type of the value.
        has_blocks: Whether it contains other operations, as a loop does.
    """

    kind: str = ""
    inputs: dict[str, list[MilArgument]] = field(default_factory=dict)
    outputs: dict[str, MilValue] = field(default_factory=dict)
    has_blocks: bool = False


@dataclass
class MilFunction:
    """The function that runs the network.

    Attributes:
        inputs: Name of each input -> its type.
        operations: The operations, in execution order.
    """

    inputs: dict[str, MilValue]
    operations: list[MilOperation]


def read_main_function(model: Buffer) -> MilFunction:
    """Read the function that runs the network.

    Args:
        model: The model file, a serialized Model.

    Returns:
        The function.

    Raises:
        ValueError: If the bytes are not a model, if it has no ML Program or exceeds a limit. The
            message is a clause, in which "it" is the model.
    """
    budget = FieldBudget()
    programs = [
        (field.value_start, field.end)
        for field in iterate_fields(model, budget)
        if (field.number, field.wire_type) == (_MODEL_PROGRAM, BYTES)
    ]
    if len(programs) != 1:
        raise ValueError(f"it has {len(programs)} ML Programs instead of one")
    start, end = programs[0]
    if end - start > _MAX_PROGRAM_BYTES:
        raise ValueError(f"its program is larger than {_MAX_PROGRAM_BYTES >> 20} MiB")
    program = memoryview(bytes(model[start:end]))
    functions = _read_map(program, _PROGRAM_FUNCTIONS, budget)
    if _MAIN not in functions:
        raise ValueError(f"its program has no function {_MAIN}")
    return _read_function(functions[_MAIN], budget)


def _read_function(message: memoryview, budget: FieldBudget) -> MilFunction:
    opsets = [bytes(part) for part in _list_parts(message, _FUNCTION_OPSET, budget)]
    opset = _decode(opsets[-1]) if opsets else ""
    blocks = _read_map(message, _FUNCTION_BLOCKS, budget)
    if opset not in blocks:
        raise ValueError(f"its function {_MAIN} has no code for its opset")
    inputs = dict(
        _read_named_type(part, budget) for part in _list_parts(message, _FUNCTION_INPUTS, budget)
    )
    operations = [
        _read_operation(bytes(part), budget)
        for part in _list_parts(blocks[opset], _BLOCK_OPERATIONS, budget)
    ]
    return MilFunction(inputs, operations)


def _read_operation(message: bytes, budget: FieldBudget) -> MilOperation:
    operation = MilOperation()
    for number, wire_type, _start, value_start, end in iterate_fields(message, budget):
        if wire_type != BYTES:
            continue
        if number == _OPERATION_KIND:
            operation.kind = _decode(message[value_start:end])
        elif number == _OPERATION_INPUTS:
            parameter, argument = _read_entry(message[value_start:end], budget)
            operation.inputs[parameter] = list(_read_bindings(argument, budget))
        elif number == _OPERATION_OUTPUTS:
            name, value = _read_named_type(message[value_start:end], budget)
            operation.outputs[name] = value
        elif number == _OPERATION_BLOCKS:
            operation.has_blocks = True
    return operation


def _read_bindings(argument: Buffer, budget: FieldBudget) -> Iterator[MilArgument]:
    """Yield what an operation takes as one parameter: usually one value."""
    for binding in _list_parts(argument, _ARGUMENT_BINDINGS, budget):
        for part in _list_parts(binding, _BINDING_NAME, budget):
            yield MilArgument(_decode(part), None)
        for part in _list_parts(binding, _BINDING_VALUE, budget):
            for value_type in _list_parts(part, _CONSTANT_TYPE, budget):
                yield MilArgument("", _read_type(value_type, budget))


def _read_named_type(message: Buffer, budget: FieldBudget) -> tuple[str, MilValue]:
    """Read name and type of a value (NamedValueType)."""
    name, value = "", MilValue((), False)
    for part in _list_parts(message, _VALUE_NAME, budget):
        name = _decode(part)
    for part in _list_parts(message, _VALUE_TYPE, budget):
        value = _read_type(part, budget)
    return name, value


def _read_type(message: Buffer, budget: FieldBudget) -> MilValue:
    """Read a type (ValueType); one that is no tensor has no sizes."""
    value = MilValue((), False)
    for tensor in _list_parts(message, _TYPE_TENSOR, budget):
        data_type = rank = 0
        sizes: list[int | None] = []
        for part in iterate_fields(tensor, budget):
            if (part.number, part.wire_type) == (_TENSOR_DIMENSIONS, BYTES):
                check_rank([*sizes, None])
                sizes.append(_read_dimension(tensor[part.value_start : part.end], budget))
            elif part.wire_type == VARINT:
                number, _position = read_varint(tensor, part.value_start, part.end)
                data_type = number if part.number == _TENSOR_TYPE else data_type
                rank = number if part.number == _TENSOR_RANK else rank
        is_rank_known = rank == len(sizes)
        value = MilValue(tuple(sizes) if is_rank_known else None, data_type in _FLOAT_TYPES)
    return value


def _read_dimension(message: Buffer, budget: FieldBudget) -> int | None:
    """Read a size (Dimension); None if it is only known at run time."""
    for constant in _list_parts(message, _DIMENSION_CONSTANT, budget):
        for part in iterate_fields(constant, budget):
            if (part.number, part.wire_type) == (_CONSTANT_SIZE, VARINT):
                return read_varint(constant, part.value_start, part.end)[0]
        return 0
    return None


def _read_map(message: Buffer, number: int, budget: FieldBudget) -> dict[str, memoryview]:
    """Read the entries of a map from strings to messages."""
    return dict(_read_entry(part, budget) for part in _list_parts(message, number, budget))


def _read_entry(message: Buffer, budget: FieldBudget) -> tuple[str, memoryview]:
    """Read key and value of an entry of a map; if a field is repeated, the last one counts."""
    key, value = "", memoryview(b"")
    for part in _list_parts(message, _ENTRY_KEY, budget):
        key = _decode(part)
    for part in _list_parts(message, _ENTRY_VALUE, budget):
        value = part
    return key, value


def _list_parts(message: Buffer, number: int, budget: FieldBudget) -> Iterator[memoryview]:
    """Yield the strings or messages in the fields of a message that have a number."""
    view = message if isinstance(message, memoryview) else memoryview(bytes(message[:]))
    for part in iterate_fields(view, budget):
        if (part.number, part.wire_type) == (number, BYTES):
            yield view[part.value_start : part.end]


def _decode(text: Buffer) -> str:
    return bytes(text[:]).decode("utf-8", "replace")
