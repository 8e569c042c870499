"""A reference evaluator of Core ML packages, for systems that have no Core ML: the file's program, computed in numpy.

It answers what the file computes by Apple's specification of its operations, so that an export can be checked where it was
made. It is not what runs on a device: it says nothing of time, and a device may round in other places.
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
from tinyvit.runtimes.base import Runtime, RuntimeOptions, check_batch, closed_error
from tinyvit.runtimes.engines._mil_operations import RULES, compute, unknown
from tinyvit.runtimes.engines._mil_program import Operation, Program, read_program, sdk
from tinyvit.runtimes.formats import Format
from tinyvit.runtimes.formats.coreml import COREML

FORMATS: tuple[Format, ...] = (COREML,)
PACKAGE = "coremltools"
EXTRA = "coreml"
IS_REFERENCE = True

NAME = "coreml-reference"
_FROM_INTEGERS = ("dequantize", "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale")


def open_runtime(artifact: Artifact, options: RuntimeOptions) -> Runtime:
    """Open a package; raises RequestError for what an evaluator does not have, ArtifactError for a file that is not understood."""
    if options.device != "cpu":
        raise RequestError(
            f"the reference evaluator has no device {options.device!r}",
            "leave --device out: it has cpu",
        )
    if options.threads is not None:
        raise RequestError(
            "the reference evaluator's threads are numpy's",
            "leave --threads out; no time that it takes means anything",
        )
    version = str(sdk().__version__)
    evaluator = Evaluator(read_program(artifact.path))
    precision = "f16" if evaluator.rounds_to_half else "f32"
    if options.precision not in (None, precision):
        cause = f"{artifact.path.name} computes in {precision}, not {options.precision}"
        raise RequestError(cause, "leave --precision out: it runs what the file says")
    return _ReferenceRuntime(evaluator, precision, version)


class Evaluator:
    """A program made ready: constants in the type of the arithmetic, compressed weights restored as at a device's load time.

    arithmetic: float32, or float64 to see what the program stands for without rounding sums. Results that the program
    declares as float16 are rounded to that in either.
    """

    def __init__(self, program: Program, arithmetic: npt.DTypeLike = np.float32) -> None:
        self.features, self._float = program.features, np.dtype(arithmetic)
        self.rounds_to_half = any(one.dtype == "float16" for one in program.operations)
        self._constants: dict[str, Any] = {}
        self._steps: list[tuple[Operation, dict[str, Any]]] = []
        for operation in program.operations:
            if operation.kind not in RULES:
                raise unknown(f"the operation {operation.kind}")
            fixed = {key: self._ready(value) for key, value in operation.constants.items()}
            if set(operation.inputs.values()) <= self._constants.keys():
                self._constants[operation.output] = self._compute(operation, fixed, self._constants)
            else:
                self._steps.append((operation, fixed))
        self._uses = Counter(
            name for operation, _ in self._steps for name in operation.inputs.values()
        )
        self._uses[self.features.output.name] += 1

    def logits(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What features.input says -> (1, classes), of the arithmetic's type. Each value is dropped after its last use."""
        image = batch.transpose(0, 3, 1, 2) if self.features.is_image else batch
        values = {self.features.input.name: image.astype(self._float)}
        left = Counter(self._uses)
        for operation, fixed in self._steps:
            values[operation.output] = self._compute(
                operation, fixed, {**self._constants, **values}
            )
            for name in operation.inputs.values():
                left[name] -= 1
                if not left[name]:
                    values.pop(name, None)
        return values[self.features.output.name]

    def _compute(
        self, operation: Operation, fixed: dict[str, Any], values: dict[str, Any]
    ) -> npt.NDArray[Any]:
        return compute(
            operation,
            {**fixed, **{key: values[name] for key, name in operation.inputs.items()}},
            self._float,
        )

    def _ready(self, value: Any) -> Any:
        is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        return np.asarray(value, self._float) if is_float else value


class Product(NamedTuple):
    """A matrix product or convolution. is_integer: both operands are int8 in the file, so that a device can compute it in integers."""

    kind: str
    macs: int
    is_integer: bool


def products(program: Program) -> list[Product]:
    """What a device multiplies. What it computes in integers only it can tell: this is the most that the file lets it."""
    made = {operation.output: operation for operation in program.operations}
    found = []
    for operation in program.operations:
        if operation.kind not in ("conv", "linear", "matmul"):
            continue
        other = "y" if operation.kind == "matmul" else "weight"
        sources = [made.get(operation.inputs.get(one, "")) for one in ("x", other)]
        is_integer = [one is not None and one.kind in _FROM_INTEGERS for one in sources]
        second = (
            made[operation.inputs[other]].shape
            if other in operation.inputs
            else operation.constants[other].shape
        )
        depth = (
            second[-1 if operation.constants.get("transpose_y") else -2]
            if other == "y"
            else prod(second[1:])
        )
        found.append(Product(operation.kind, prod(operation.shape) * depth, all(is_integer)))
    return found


class _ReferenceRuntime(Runtime):
    def __init__(self, evaluator: Evaluator, precision: str, version: str) -> None:
        self.inputs, self.outputs = (evaluator.features.input,), (evaluator.features.output,)
        self._evaluator: Evaluator | None = evaluator
        self._lock = Lock()  # one at a time: its intermediate values are the most of its memory
        self._facts: dict[str, str | int] = {
            "engine": NAME,
            "version": f"coremltools {version}, numpy {np.__version__}",
            "device": "cpu",
            "threads": "numpy's",
            "precision": precision,
        }

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        evaluator = self._evaluator
        if evaluator is None:
            raise closed_error()
        check_batch(batch, self.inputs)
        with self._lock:
            return np.array(evaluator.logits(batch), np.float32)

    def describe(self) -> dict[str, str | int]:
        return dict(self._facts)

    def close(self) -> None:
        self._evaluator = None
