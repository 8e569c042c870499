"""Reads the ML Program (the network) in a Core ML package with coremltools' protobuf classes.

Files may be hostile. Sizes are checked before memory is allocated, and every declared shape must be
constant, so that the cost of a run is known when the file is opened.

Source: coremltools' mlmodel/format/MIL.proto, Model.proto and FeatureTypes.proto.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.manifest_limits import MAX_OUTPUTS
from tinyvit.manifest_parts import TensorSpec
from tinyvit.processes.output_capture import quiet_loggers
from tinyvit.runtimes.engine_helpers import import_library, load_error, make_tensor_spec
from tinyvit.runtimes.engines._mil_constants import ConstantReader
from tinyvit.runtimes.engines._mil_types import MilProgram, ModelSignature, Operation
from tinyvit.runtimes.formats.coreml import find_model_file

_MAX_MODEL_BYTES = 2**28
_MAX_OPERATIONS = 50_000

_RGB = 20
"""ImageFeatureType.ColorSpace.RGB of FeatureTypes.proto."""

_FLOAT32 = 65568
"""ArrayFeatureType.ArrayDataType.FLOAT32 of FeatureTypes.proto."""

_REMEDY = "give an .mlpackage that tinyvit-export wrote"


def read_mil_program(path: Path) -> MilProgram:
    """Read the program of a package.

    Args:
        path: The .mlpackage folder.

    Returns:
        The input, the outputs, and the operations that compute them.

    Raises:
        ArtifactError: The package is damaged or hostile, or does not take one image.
        MissingDependencyError: coremltools is not installed.
    """
    file = find_model_file(path)
    try:
        model = _parse_model(file)
        signature = read_signature(model.description)
        reader = _ProgramReader(model, file.parent, signature)
        return MilProgram(signature, reader.read_operations())
    except (ValueError, OSError) as error:
        raise load_error(path, "the reference evaluator", error) from error


def read_signature(description: Any) -> ModelSignature:
    """Read the input and the outputs from a model's description.

    Args:
        description: A ModelDescription message of Model.proto.

    Returns:
        The input, and the outputs in the order of the description.

    Raises:
        ArtifactError: The model does not have exactly one input (an RGB image or a float32 array),
            or it has no output that is a float32 matrix or feature map, too many, or two of the
            same name.
    """
    inputs = description.input
    outputs = [feature for feature in description.output if _is_batch_of_floats(feature)]
    kind = inputs[0].type.WhichOneof("Type") if len(inputs) == 1 else None
    has_different_names = len({output.name for output in outputs}) == len(outputs)
    is_count_allowed = 1 <= len(outputs) <= MAX_OUTPUTS
    takes_one_input = kind in ("imageType", "multiArrayType")
    if not (takes_one_input and is_count_allowed and has_different_names):
        raise ArtifactError(
            "the model does not have exactly one input, and one or a few float arrays with"
            " different names as outputs",
            _REMEDY,
        )
    is_image = kind == "imageType"
    input_spec = _make_image_spec(inputs[0]) if is_image else _make_array_spec(inputs[0])
    return ModelSignature(input_spec, tuple(map(_make_array_spec, outputs)), is_image)


def import_coremltools() -> Any:
    """Import coremltools without its log messages about missing Apple libraries.

    Returns:
        The module.

    Raises:
        MissingDependencyError: coremltools is not installed.
    """
    with quiet_loggers("coremltools", "torchao", "torch", "torch.utils._pytree"):
        return import_library(
            "coremltools", MissingDependencyError.for_engine("coremltools", extra="coreml")
        )


def _is_batch_of_floats(feature: Any) -> bool:
    """Return whether an output is a float32 matrix or feature map, such as logits."""
    if feature.type.WhichOneof("Type") != "multiArrayType":
        return False
    array_type = feature.type.multiArrayType
    return len(array_type.shape) in (2, 4) and array_type.dataType == _FLOAT32


def _make_image_spec(feature: Any) -> TensorSpec:
    """Describe an image input as uint8 (1, height, width, 3)."""
    image = feature.type.imageType
    if image.colorSpace != _RGB:
        raise ArtifactError("the model's input image is not RGB", _REMEDY)
    return make_tensor_spec(feature.name, (1, image.height, image.width, 3), "uint8")


def _make_array_spec(feature: Any) -> TensorSpec:
    """Describe an input or output that is a float32 array."""
    array_type = feature.type.multiArrayType
    if array_type.dataType != _FLOAT32:
        raise ArtifactError(f"{feature.name} is not float32", _REMEDY)
    return make_tensor_spec(feature.name, tuple(array_type.shape), "float32")


def _parse_model(file: Path) -> Any:
    """Parse the Model message in a package's model file; raise ValueError if it is damaged.

    "it" in an error message is the package, because load_error puts the package's name before it.
    """
    import_coremltools()  # Imported here first, to suppress its log messages.
    from coremltools.proto import Model_pb2

    if file.stat().st_size > _MAX_MODEL_BYTES:
        raise ValueError(f"{file.name} is larger than {_MAX_MODEL_BYTES >> 20} MiB")
    data = file.read_bytes()
    try:
        model = Model_pb2.Model.FromString(data)
    except Exception as error:  # protobuf's DecodeError has no type hints
        raise ValueError(f"{file.name} is not a Core ML model: {error}") from error
    if model.WhichOneof("Type") != "mlProgram":
        raise ValueError("it has no ML Program")
    return model


class _ProgramReader:
    """Reads the operations of a program. Its methods raise ValueError if the program is damaged.

    "it" and "its" in an error message are the package, because load_error puts the package's name
    before the message.
    """

    def __init__(self, model: Any, folder: Path, signature: ModelSignature) -> None:
        self._signature = signature
        self._constant_reader = ConstantReader(folder)
        if "main" not in model.mlProgram.functions:
            raise ValueError("its program has no main function")
        function = model.mlProgram.functions["main"]
        if function.opset not in function.block_specializations:
            raise ValueError(f"its main function has no code for its opset {function.opset}")
        if [parameter.name for parameter in function.inputs] != [signature.input.name]:
            raise ValueError("its main function does not take the input that the model describes")
        self._block = function.block_specializations[function.opset]

    def read_operations(self) -> tuple[Operation, ...]:
        """Read the operations that the outputs depend on, in the order of the file."""
        constants: dict[str, Any] = {}
        computed_names = {self._signature.input.name}
        operations = []
        for message in self._select_needed_messages():
            name = message.outputs[0].name
            if name in computed_names or name in constants:
                raise ValueError(f"two values are called {name}")
            if message.type == "const":
                constants[name] = self._constant_reader.read_value(message.attributes["val"])
                continue
            operation = self._read_operation(message, constants)
            if missing_names := set(operation.inputs.values()) - computed_names:
                raise ValueError(
                    f"{message.type} needs {', '.join(sorted(missing_names))}, "
                    "which no earlier operation computes"
                )
            computed_names.add(name)
            operations.append(operation)
        for spec in self._signature.outputs:
            if spec.name not in computed_names:
                raise ValueError(f"no operation computes {spec.name}")
        return tuple(operations)

    def _select_needed_messages(self) -> list[Any]:
        """Return the Operation messages that the outputs depend on, in the order of the file."""
        if len(self._block.operations) > _MAX_OPERATIONS:
            raise ValueError(f"it has more than {_MAX_OPERATIONS} operations")
        needed_names = {spec.name for spec in self._signature.outputs}
        reversed_messages: list[Any] = []
        for message in reversed(self._block.operations):
            output_names = [output.name for output in message.outputs]
            if not needed_names.intersection(output_names):
                continue
            if len(output_names) != 1 or len(message.blocks):
                raise ValueError(f"{message.type} has several outputs or nested blocks")
            reversed_messages.append(message)
            bindings = (
                binding for argument in message.inputs.values() for binding in argument.arguments
            )
            needed_names.update(binding.name for binding in bindings if binding.name)
        return reversed_messages[::-1]

    def _read_operation(self, message: Any, constants: dict[str, Any]) -> Operation:
        """Read one Operation message and replace the names of constants with their values."""
        inputs: dict[str, str] = {}
        operation_constants: dict[str, Any] = {}
        for parameter, argument in message.inputs.items():
            if len(argument.arguments) != 1:
                raise ValueError(f"{message.type} takes several values as {parameter}")
            binding = argument.arguments[0]
            if binding.WhichOneof("binding") == "value":
                operation_constants[parameter] = self._constant_reader.read_value(binding.value)
            elif binding.name in constants:
                operation_constants[parameter] = constants[binding.name]
            else:
                inputs[parameter] = binding.name
        if message.type.startswith("constexpr_"):
            # For targets before iOS 18, the operands of these operations are stored as attributes.
            operation_constants |= {
                key: self._constant_reader.read_value(value)
                for key, value in message.attributes.items()
                if key != "name"
            }
        output = message.outputs[0]
        shape, dtype = self._constant_reader.read_type(output.type)
        return Operation(message.type, inputs, operation_constants, output.name, shape, dtype)
