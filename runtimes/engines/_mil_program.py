"""A Core ML package read as data: the operations of its program and their constants, through coremltools' protobuf classes.

Files come from strangers: sizes are bounded before anything of that size is made, and every declared shape must be
constant, so that what a run can take is known when the file is opened. Messages: coremltools' mlmodel/format/MIL.proto;
weights: its mlmodel/src/MILBlob/Blob/StorageFormat.hpp.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.manifest import TensorSpec
from tinyvit.output_capture import quiet_loggers
from tinyvit.runtimes.base import load_error, make_tensor_spec
from tinyvit.runtimes.formats.coreml import model_file

Array = npt.NDArray[Any]

MAX_ELEMENTS, MAX_TOTAL = 2**27, 2**32
"""Of one tensor, and of all that one run makes. TinyViT-21M at 512 pixels makes less than 2**28 in all."""
_MAX_MODEL_BYTES, _MAX_OPERATIONS = 2**28, 50_000

_DTYPES = {
    1: "bool",
    2: "str",
    10: "float16",
    11: "float32",
    12: "float64",
    21: "int8",
    22: "int16",
    23: "int32",
    24: "int64",
}
_DTYPES |= {31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64"}
"""MIL.proto's DataType -> numpy's name."""
_BLOB_SENTINEL, _BLOB_HEADER = 0xDEADBEEF, struct.Struct("<IIQQ")
_BLOB_DTYPES = {
    1: "float16",
    2: "float32",
    3: "uint8",
    4: "int8",
    6: "int16",
    7: "uint16",
    14: "int32",
    15: "uint32",
}
_RGB, _FLOAT32 = 20, 65568
"""Of FeatureTypes.proto: ImageFeatureType.ColorSpace and ArrayFeatureType.ArrayDataType."""


@dataclass(frozen=True)
class Operation:
    """kind: MIL's name. inputs: by parameter, a value's name; constants: by parameter, the value itself, an array or a text.

    output, shape, dtype: of the one value that it makes.
    """

    kind: str
    inputs: dict[str, str]
    constants: dict[str, Any]
    output: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Features:
    """The ends of a classifier. input: as this package feeds it, an image as uint8 NHWC. output: its logits."""

    input: TensorSpec
    output: TensorSpec
    is_image: bool


@dataclass(frozen=True)
class Program:
    """The operations that logits need, in an order in which they can run."""

    features: Features
    operations: tuple[Operation, ...]


def read_program(path: Path) -> Program:
    """The package's program; raises ArtifactError where it is damaged, hostile or no image classifier, MissingDependencyError."""
    file = model_file(path)
    try:
        model = _parsed(file)
        ends = features(model.description)
        return Program(ends, _Reader(model, file.parent, ends).operations())
    except (ValueError, OSError) as error:
        raise load_error(path, "the reference evaluator", error) from error


def features(description: Any) -> Features:
    """The ends that a ModelDescription tells; raises ArtifactError where they are no image classifier's with logits."""
    arrays = [one for one in description.output if one.type.WhichOneof("Type") == "multiArrayType"]
    logits = [
        one
        for one in arrays
        if len(one.type.multiArrayType.shape) == 2 and one.type.multiArrayType.dataType == _FLOAT32
    ]
    kind = description.input[0].type.WhichOneof("Type") if len(description.input) == 1 else None
    if len(logits) != 1 or kind not in ("imageType", "multiArrayType"):
        raise ArtifactError(
            "the model has not one input and one array of logits",
            "give an .mlpackage that tinyvit-export wrote",
        )
    given, output = description.input[0], logits[0]
    if kind == "imageType":
        image = given.type.imageType
        if image.colorSpace != _RGB:
            raise ArtifactError(
                "the model's image is not RGB", "give an .mlpackage that tinyvit-export wrote"
            )
        picture = make_tensor_spec(given.name, (1, image.height, image.width, 3), "uint8")
    else:
        if given.type.multiArrayType.dataType != _FLOAT32:
            raise ArtifactError(
                "the model's input is not float32", "give an .mlpackage that tinyvit-export wrote"
            )
        picture = make_tensor_spec(given.name, tuple(given.type.multiArrayType.shape), "float32")
    return Features(
        picture,
        make_tensor_spec(output.name, tuple(output.type.multiArrayType.shape), "float32"),
        kind == "imageType",
    )


def sdk() -> Any:
    """coremltools, which logs on import which of Apple's libraries are missing here."""
    try:
        with quiet_loggers("coremltools", "torchao", "torch", "torch.utils._pytree"):
            import coremltools
    except ImportError as error:
        raise MissingDependencyError.of("coremltools", "coreml") from error
    return coremltools


def _parsed(file: Path) -> Any:
    sdk()
    from coremltools.proto import Model_pb2

    if file.stat().st_size > _MAX_MODEL_BYTES:
        raise ValueError(f"{file.name} is larger than {_MAX_MODEL_BYTES >> 20} MiB")
    data = file.read_bytes()
    try:
        model = Model_pb2.Model.FromString(data)
    except Exception as error:  # protobuf's error is in a package without types
        raise ValueError(f"{file.name} is no message: {error}") from error
    if model.WhichOneof("Type") != "mlProgram":
        raise ValueError("it has no ML Program")
    return model


class _Reader:
    """One program's values. Raises ValueError for all that is not as it should be."""

    def __init__(self, model: Any, folder: Path, ends: Features) -> None:
        self._folder, self._ends, self._total = folder, ends, 0
        self._blobs: dict[str, Array] = {}
        if "main" not in model.mlProgram.functions:
            raise ValueError("its program has no main function")
        function = model.mlProgram.functions["main"]
        if function.opset not in function.block_specializations or [
            one.name for one in function.inputs
        ] != [ends.input.name]:
            raise ValueError("its main function is not of the input that it describes")
        self._block = function.block_specializations[function.opset]

    def operations(self) -> tuple[Operation, ...]:
        """Of the block, those that the logits need."""
        if len(self._block.operations) > _MAX_OPERATIONS:
            raise ValueError(f"it has more than {_MAX_OPERATIONS} operations")
        needed, used = {self._ends.output.name}, []
        for operation in reversed(self._block.operations):
            made = [output.name for output in operation.outputs]
            if needed.intersection(made):
                if len(made) != 1 or len(operation.blocks):
                    raise ValueError(f"{operation.type} has several outputs, or blocks within")
                used.append(operation)
                needed.update(
                    one.name
                    for argument in operation.inputs.values()
                    for one in argument.arguments
                    if one.name
                )
        return self._in_order(reversed(used))

    def _in_order(self, used: Any) -> tuple[Operation, ...]:
        constants: dict[str, Any] = {}
        known, found = {self._ends.input.name}, []
        for operation in used:
            name = operation.outputs[0].name
            if name in known or name in constants:
                raise ValueError(f"two values are called {name}")
            if operation.type == "const":
                constants[name] = self._value(operation.attributes["val"])
                continue
            one = self._operation(operation, constants)
            if lost := set(one.inputs.values()) - known:
                raise ValueError(
                    f"{operation.type} wants {', '.join(sorted(lost))}, which nothing has made before it"
                )
            known.add(name)
            found.append(one)
        if self._ends.output.name not in known:
            raise ValueError(f"nothing makes {self._ends.output.name}")
        return tuple(found)

    def _operation(self, operation: Any, constants: dict[str, Any]) -> Operation:
        inputs, fixed = {}, {}
        for parameter, argument in operation.inputs.items():
            if len(argument.arguments) != 1:
                raise ValueError(f"{operation.type} takes several values as {parameter}")
            bound = argument.arguments[0]
            if bound.WhichOneof("binding") == "value":
                fixed[parameter] = self._value(bound.value)
            elif bound.name in constants:
                fixed[parameter] = constants[bound.name]
            else:
                inputs[parameter] = bound.name
        if operation.type.startswith(
            "constexpr_"
        ):  # before iOS 18 they have their operands as attributes
            fixed |= {
                key: self._value(value)
                for key, value in operation.attributes.items()
                if key != "name"
            }
        output = operation.outputs[0]
        shape, dtype = self._shape(output.type)
        return Operation(operation.type, inputs, fixed, output.name, shape, dtype)

    def _shape(self, kind: Any) -> tuple[tuple[int, ...], str]:
        if kind.WhichOneof("type") != "tensorType" or kind.tensorType.dataType not in _DTYPES:
            raise ValueError("a value is no tensor of a known type")
        dimensions = kind.tensorType.dimensions
        if any(one.WhichOneof("dimension") != "constant" for one in dimensions):
            raise ValueError("a tensor has no fixed shape")
        shape = tuple(int(one.constant.size) for one in dimensions)
        self._total += prod(shape)
        if prod(shape) > MAX_ELEMENTS or self._total > MAX_TOTAL:
            raise ValueError(f"a tensor of {shape} is too large")
        return shape, _DTYPES[kind.tensorType.dataType]

    def _value(self, value: Any) -> Any:
        """A constant: an array of the declared shape and type, read-only, or a text."""
        shape, dtype = self._shape(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            return self._stored(value.blobFileValue, shape, dtype)
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        values = getattr(tensor, kind).values if kind else b""
        if dtype == "str":
            if kind != "strings" or len(values) != 1:
                raise ValueError("a text is none")
            return str(values[0])
        array = (
            np.frombuffer(values, dtype) if kind == "bytes" or not kind else np.array(values, dtype)
        )
        if array.size != prod(shape):
            raise ValueError(f"a constant of {shape} has {array.size} numbers")
        return array.reshape(shape)

    def _stored(self, place: Any, shape: tuple[int, ...], dtype: str) -> Array:
        """A part of a file of weights: a header of 64 bytes at `offset` says which and of what type."""
        inside = PurePosixPath(place.fileName.removeprefix("@model_path/"))
        if place.fileName not in self._blobs:
            file = self._folder / inside
            if (
                inside.is_absolute()
                or ".." in inside.parts
                or not file.is_file()
                or self._folder.resolve() not in file.resolve().parents
            ):
                raise ValueError(f"there are no weights called {inside}")
            self._blobs[place.fileName] = np.memmap(file, np.uint8, "r")
        data = self._blobs[place.fileName]
        if place.offset + _BLOB_HEADER.size > data.size:
            raise ValueError(f"{inside} ends before its weights begin")
        sentinel, stored, size, start = _BLOB_HEADER.unpack(
            data[place.offset : place.offset + _BLOB_HEADER.size].tobytes()
        )
        if sentinel != _BLOB_SENTINEL or _BLOB_DTYPES.get(stored) != dtype:
            raise ValueError(f"{inside} has no {dtype} at byte {place.offset}")
        if size != prod(shape) * np.dtype(dtype).itemsize or start + size > data.size:
            raise ValueError(f"{inside} ends before its weights do")
        return data[start : start + size].view(dtype).reshape(shape)
