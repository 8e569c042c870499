"""The engine coreml-reference: evaluates Core ML packages in numpy, on systems without Core ML.

This reference evaluator executes the operations in a package as Apple specifies them, so that an
export can be checked on the machine that made it. Its latency says nothing about Core ML, and Core
ML may round intermediate results differently.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyvit.errors import RequestError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Engine, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engine_helpers import (
    check_batch,
    closed_error,
    refuse_reference_options,
)
from tinyvit.runtimes.engines._mil_cost import check_cost
from tinyvit.runtimes.engines._mil_operations import OPERATIONS, compute_operation
from tinyvit.runtimes.engines._mil_program import import_coremltools, read_mil_program
from tinyvit.runtimes.engines._mil_types import Array, MilProgram, Operation, unsupported_error
from tinyvit.runtimes.formats.coreml import COREML

_DEQUANTIZING_KINDS = (
    "dequantize",
    "constexpr_affine_dequantize",
    "constexpr_blockwise_shift_scale",
)
"""Kinds of operations that convert integers to floats."""


class CoreMLReferenceEngine(Engine):
    """The evaluator in numpy. It uses coremltools only to read the package."""

    name = "coreml-reference"
    formats = (COREML,)
    package = "coremltools"
    extra = "coreml"
    is_reference = True

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open a package; see `Engine.open`."""
        refuse_reference_options(
            options, "the reference evaluator", "uses numpy's threads, which cannot be set here"
        )
        coremltools = import_coremltools()
        evaluator = Evaluator(read_mil_program(artifact.path))
        precision = "float16" if evaluator.rounds_to_float16 else "float32"
        if options.precision not in (None, precision):
            raise RequestError(
                f"{artifact.path.name} computes in {precision}, not in {options.precision}",
                "leave --precision out; the precision is fixed in the file",
            )
        info = RuntimeInfo(
            engine=self.name,
            version=f"coremltools {coremltools.__version__}, numpy {np.__version__}",
            device="cpu",
            threads=None,
            precision=precision,
        )
        return _ReferenceRuntime(evaluator, info)


ENGINE = CoreMLReferenceEngine()


class Evaluator:
    """Executes a program. Operations that depend only on constants are executed once, at the start.

    Attributes:
        signature: The input and the outputs of the program.
        rounds_to_float16: Whether the program declares the result of any operation as float16.
    """

    def __init__(self, program: MilProgram, float_dtype: npt.DTypeLike = np.float32) -> None:
        """Prepare a program.

        Args:
            program: The program.
            float_dtype: Type of the arithmetic: float32, or float64 to make the rounding errors of
                sums negligible. With either type, results that the program declares as float16 are
                rounded to float16.

        Raises:
            ArtifactError: The program has an operation that is not supported, or costs too much.
        """
        check_cost(program)
        self.signature = program.signature
        self.rounds_to_float16 = any(
            operation.dtype == "float16" for operation in program.operations
        )
        self._float_dtype = np.dtype(float_dtype)
        self._constant_values: dict[str, Array] = {}
        # The operations to execute for each batch, each with its converted constants.
        self._steps: list[tuple[Operation, dict[str, Any]]] = []
        for operation in program.operations:
            if operation.kind not in OPERATIONS:
                raise unsupported_error(f"the operation {operation.kind}")
            constants = {
                parameter: self._convert_constant(value)
                for parameter, value in operation.constants.items()
            }
            depends_only_on_constants = (
                set(operation.inputs.values()) <= self._constant_values.keys()
            )
            if depends_only_on_constants:
                self._constant_values[operation.output] = self._compute(
                    operation, constants, self._constant_values
                )
            else:
                self._steps.append((operation, constants))
        self._use_counts = Counter(
            name for operation, _ in self._steps for name in operation.inputs.values()
        )
        # Counted as one more use, so that outputs are not freed before they are returned.
        self._use_counts.update(spec.name for spec in self.signature.outputs)

    def compute_outputs(self, batch: npt.NDArray[Any]) -> tuple[Array, ...]:
        """Compute the outputs for one batch.

        Args:
            batch: An input with the shape and dtype of `signature.input`.

        Returns:
            One array for each of `signature.outputs`, with the dtype `float_dtype`.
        """
        pixels = batch.transpose(0, 3, 1, 2) if self.signature.is_image else batch
        values: dict[str, Array] = {self.signature.input.name: pixels.astype(self._float_dtype)}
        remaining_uses = Counter(self._use_counts)
        for operation, constants in self._steps:
            values[operation.output] = self._compute(
                operation, constants, {**self._constant_values, **values}
            )
            for name in operation.inputs.values():
                remaining_uses[name] -= 1
                if not remaining_uses[name]:
                    values.pop(name, None)  # Frees the value's memory after its last use.
        return tuple(values[spec.name] for spec in self.signature.outputs)

    def _compute(
        self, operation: Operation, constants: dict[str, Any], values: dict[str, Array]
    ) -> Array:
        """Compute one operation whose inputs are among the named values."""
        inputs = {parameter: values[name] for parameter, name in operation.inputs.items()}
        return compute_operation(operation, {**constants, **inputs}, self._float_dtype)

    def _convert_constant(self, value: Any) -> Any:
        """Convert a float array to `float_dtype`; return any other value unchanged."""
        is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        return np.asarray(value, self._float_dtype) if is_float else value


class MatrixProduct(NamedTuple):
    """A matrix product or convolution of a program.

    Attributes:
        kind: "conv", "linear" or "matmul".
        macs: Number of multiply-accumulates.
        is_integer: Whether both operands are dequantized integers. A device can then compute the
            product in integers, but may use floats nevertheless.
    """

    kind: str
    macs: int
    is_integer: bool


def list_matrix_products(program: MilProgram) -> list[MatrixProduct]:
    """List the matrix products and convolutions of a program.

    Args:
        program: The program.

    Returns:
        The products, in the order of the program.
    """
    operations = {operation.output: operation for operation in program.operations}
    products = []
    for operation in program.operations:
        if operation.kind not in ("conv", "linear", "matmul"):
            continue
        second_parameter = "y" if operation.kind == "matmul" else "weight"
        macs = prod(operation.shape) * _macs_per_element(operation, second_parameter, operations)
        is_integer = all(
            _is_dequantized(operation.inputs.get(parameter, ""), operations)
            for parameter in ("x", second_parameter)
        )
        products.append(MatrixProduct(operation.kind, macs, is_integer))
    return products


def _is_dequantized(name: str, operations: dict[str, Operation]) -> bool:
    """Return whether a value is the output of a dequantize operation."""
    return name in operations and operations[name].kind in _DEQUANTIZING_KINDS


def _macs_per_element(
    operation: Operation, second_parameter: str, operations: dict[str, Operation]
) -> int:
    """Return the number of multiply-accumulates for one element of the result.

    `operations` maps the name of a value to the operation that computes it.
    """
    if second_parameter in operation.inputs:
        shape = operations[operation.inputs[second_parameter]].shape
    else:
        shape = operation.constants[second_parameter].shape
    if second_parameter == "weight":
        return prod(shape[1:])  # The first axis of a weight is that of the output channels.
    summed_axis = -1 if operation.constants.get("transpose_y") else -2
    return int(shape[summed_axis])


class _ReferenceRuntime(Runtime):
    """An evaluator. A lock admits one thread at a time, to limit memory for intermediate values."""

    def __init__(self, evaluator: Evaluator, info: RuntimeInfo) -> None:
        self.inputs, self.outputs = (evaluator.signature.input,), evaluator.signature.outputs
        self._evaluator: Evaluator | None = evaluator
        self._info = info
        self._lock = Lock()

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the network; see `Runtime.run_outputs`."""
        evaluator = self._evaluator
        if evaluator is None:
            raise closed_error()
        check_batch(batch, self.inputs)
        with self._lock:
            outputs = evaluator.compute_outputs(batch)
        return tuple(np.array(output, np.float32) for output in outputs)

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """Release the program's constants; see `Runtime.close`."""
        self._evaluator = None
