"""A session of ONNX Runtime as a `Runtime`, for the engines that use ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError
from tinyvit.manifest_parts import TensorSpec
from tinyvit.runtimes.base import Runtime, RuntimeInfo
from tinyvit.runtimes.engine_helpers import (
    check_batch,
    closed_error,
    make_tensor_spec,
    run_error,
)

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
"""Maps ONNX Runtime's name of a float type to numpy's. Integer types have the same name in both."""


class OnnxSession(Runtime):
    """A session of ONNX Runtime, which several threads may run at the same time."""

    def __init__(
        self,
        session: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        info: RuntimeInfo,
    ) -> None:
        """Take over a session.

        Args:
            session: An InferenceSession.
            inputs: Its inputs.
            outputs: Its outputs.
            info: What `describe` returns.
        """
        self.inputs, self.outputs = inputs, outputs
        self._session, self._info = session, info

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the network; see `Runtime.run_outputs`."""
        session = self._session
        if session is None:
            raise closed_error()
        check_batch(batch, self.inputs)
        try:
            outputs = session.run(
                [spec.name for spec in self.outputs],
                {self.inputs[0].name: np.ascontiguousarray(batch)},
            )
        except Exception as error:  # onnxruntime's errors have no common base class
            raise run_error("onnxruntime", error) from error
        return tuple(np.asarray(output, np.float32) for output in outputs)

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """Release the session; see `Runtime.close`."""
        self._session = None


def read_tensor_spec(tensor: Any) -> TensorSpec:
    """Describe an input or output of a session.

    Args:
        tensor: What onnxruntime reports, whose type is a string like "tensor(float)".

    Raises:
        ArtifactError: The type is not that of a tensor.
    """
    dtype = _DTYPES.get(tensor.type, tensor.type.removeprefix("tensor(").removesuffix(")"))
    try:
        np.dtype(dtype)
    except TypeError as error:
        raise ArtifactError(
            f"the tensor {tensor.name} has the type {tensor.type}",
            "an image classifier with float32 or uint8 images is expected",
        ) from error
    shape = [
        size if isinstance(size, (int, str)) else f"dim{axis}"
        for axis, size in enumerate(tensor.shape)
    ]
    return make_tensor_spec(tensor.name, shape, dtype)
