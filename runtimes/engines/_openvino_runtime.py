"""Defines `OpenVINORuntime`, a model that OpenVINO has compiled and can run."""

from __future__ import annotations

import queue
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError
from tinyvit.manifest_parts import TensorSpec
from tinyvit.runtimes.base import Runtime, RuntimeInfo
from tinyvit.runtimes.engine_helpers import check_batch, closed_error, make_tensor_spec, run_error


class OpenVINORuntime(Runtime):
    """A compiled model, with one inference request for each thread that runs it.

    Attributes:
        loaded_from_cache: Whether OpenVINO loaded the compiled model from the cache folder; None
            without a cache folder.
    """

    def __init__(self, compiled_model: Any, info: RuntimeInfo, has_cache: bool = False) -> None:
        """Wrap a compiled model.

        Args:
            compiled_model: An openvino.CompiledModel.
            info: Engine, device, threads and precision in use.
            has_cache: Whether the model was compiled with a cache folder.
        """
        self.inputs = tuple(
            _read_tensor_spec(port, f"input{index}")
            for index, port in enumerate(compiled_model.inputs)
        )
        self.outputs = tuple(
            _read_tensor_spec(port, f"output{index}")
            for index, port in enumerate(compiled_model.outputs)
        )
        self.loaded_from_cache: bool | None = (
            bool(compiled_model.get_property("LOADED_FROM_CACHE")) if has_cache else None
        )
        self._compiled_model, self._info = compiled_model, info
        self._idle_requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the network; see `Runtime.run_outputs`."""
        compiled_model = self._compiled_model
        if compiled_model is None:
            raise closed_error()
        check_batch(batch, self.inputs)
        try:
            # A request has its own buffers, so two threads must not share one.
            request = self._idle_requests.get_nowait()
        except queue.Empty:
            request = compiled_model.create_infer_request()
        try:
            request.infer({0: np.ascontiguousarray(batch)})  # 0 is the index of the input.
            outputs = tuple(
                np.array(request.get_output_tensor(index).data, np.float32)
                for index in range(len(self.outputs))
            )
        except RuntimeError as error:
            raise run_error("OpenVINO", error) from error
        self._idle_requests.put(request)
        return outputs

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """Release the compiled model and its requests; see `Runtime.close`."""
        self._compiled_model = None
        self._idle_requests = queue.SimpleQueue()


def _read_tensor_spec(port: Any, default_name: str) -> TensorSpec:
    """Describe an input or output of a compiled model, which may have no name."""
    if port.partial_shape.rank.is_dynamic:
        raise ArtifactError(
            "the file has a tensor of unknown rank",
            "an image classifier or encoder with one input is expected",
        )
    shape = [
        f"dim{axis}" if size.is_dynamic else size.get_length()
        for axis, size in enumerate(port.partial_shape)
    ]
    # A port can have several names in a set; the smallest one is always the same.
    name = min(port.names, default=default_name)
    return make_tensor_spec(name, shape, np.dtype(port.element_type.to_dtype()).name)
