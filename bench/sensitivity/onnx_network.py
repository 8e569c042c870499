"""Runs an int8 .onnx artifact in onnxruntime with any of its units in float32."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.bench.sensitivity.inputs import NetworkInputs
from tinyvit.bench.sensitivity.measure import UnitOutput
from tinyvit.bench.sensitivity.onnx_models import Int8Model
from tinyvit.metrics import ApproximationError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.engine_helpers import load_error, run_error

_ENGINE = "onnxruntime"
_FATAL_MESSAGES_ONLY = 4
"""Value of SessionOptions.log_severity_level with which only fatal errors are logged."""


class OnnxNetwork:
    """An int8 .onnx artifact and images; a `measure.SwitchableNetwork`."""

    def __init__(
        self, artifact: Artifact, model: Int8Model, inputs: NetworkInputs, threads: int | None
    ) -> None:
        """Store the arguments. Nothing is run yet.

        Args:
            artifact: The artifact, which has been opened in onnxruntime without an error before.
            model: Its model, with the float32 weights.
            inputs: The images.
            threads: Number of CPU threads; None for onnxruntime's default.
        """
        self._artifact = artifact
        self._model = model
        self._inputs = inputs
        self._threads = threads

    @property
    def units(self) -> Sequence[str]:
        """The names of the units that are quantized."""
        return [unit.name for unit in self._model.units]

    @property
    def image_count(self) -> int:
        """The number of images."""
        return self._inputs.image_count

    def compute_logits(self, float_units: Collection[str]) -> npt.NDArray[np.float32]:
        """Compute the logits of all images; see `measure.SwitchableNetwork.compute_logits`."""
        session = self._open(self._model.restore(float_units))
        names = [output.name for output in session.get_outputs()]
        rows = []
        for batch in self._inputs.batches:
            outputs = self._run(session, names, batch)
            rows.append(np.concatenate([output.reshape(len(output), -1) for output in outputs], 1))
        return np.concatenate(rows)

    def compare_outputs(self) -> dict[str, UnitOutput]:
        """Compare the output of every unit; see `measure.SwitchableNetwork.compare_outputs`."""
        model, output_names = self._model.compare_outputs()
        session = self._open(model)
        errors = {name: ApproximationError() for name in output_names}
        value_counts = dict.fromkeys(output_names, 0)
        requested = [name for pair in output_names.values() for name in pair]
        for batch in self._inputs.batches:
            values = dict(zip(requested, self._run(session, requested, batch)))
            for unit, (exact, approximate) in output_names.items():
                errors[unit].add(values[exact], values[approximate])
                value_counts[unit] += values[exact].size
        input_count = sum(map(len, self._inputs.batches))
        return {
            unit.name: UnitOutput(
                errors[unit.name],
                macs=value_counts[unit.name] // input_count * self._model.count_weights(unit),
            )
            for unit in self._model.units
        }

    def _open(self, model: bytes) -> Any:
        """Open a model in an InferenceSession."""
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _FATAL_MESSAGES_ONLY
        if self._threads is not None:
            settings.intra_op_num_threads = self._threads
        try:
            return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base class
            raise load_error(self._artifact.path, _ENGINE, error) from error

    def _run(
        self, session: Any, outputs: Sequence[str], batch: npt.NDArray[Any]
    ) -> list[npt.NDArray[np.float32]]:
        """Run a session on one batch."""
        try:
            values: list[npt.NDArray[np.float32]] = session.run(
                outputs, {session.get_inputs()[0].name: batch}
            )
        except Exception as error:  # onnxruntime's errors have no common base class
            raise run_error(_ENGINE, error) from error
        return values
