"""The engine rknn-simulator: runs networks in Rockchip's simulator, on x86-64 Linux.

The simulator computes what the NPU computes, so that a network can be checked without a board. It
does not run the .rknn file, but compiles the network beside it again
(`tinyvit.runtimes.rockchip.simulator`), which takes a minute. Its time says nothing about the NPU's
latency, and float16 values that overflow on the chip do not overflow in it.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError
from tinyvit.files.regular_files import read_bounded
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import Compilation
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Engine, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engine_helpers import (
    check_batch,
    closed_error,
    read_stated_precision,
    refuse_reference_options,
)
from tinyvit.runtimes.engines.rknn import (
    list_output_shapes,
    list_outputs,
    read_checked_manifest,
)
from tinyvit.runtimes.formats import MAX_FILE_BYTES
from tinyvit.runtimes.formats.rknn import RKNN, network_path, quantization_path
from tinyvit.runtimes.rockchip.chips import CHIPS, find_python
from tinyvit.runtimes.rockchip.simulator import Simulator
from tinyvit.runtimes.rockchip.toolkit import ToolkitRequest


class RknnSimulatorEngine(Engine):
    """The simulator of rknn-toolkit2."""

    name = "rknn-simulator"
    formats = (RKNN,)
    package = "rknn"
    extra = "rknn"
    is_reference = True

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open a file; see `Engine.open`."""
        return open_in_simulator(artifact, options, python=None)


ENGINE = RknnSimulatorEngine()


def open_in_simulator(artifact: Artifact, options: RuntimeOptions, python: str | None) -> Runtime:
    """Open a file in the simulator.

    Args:
        artifact: The file, with the network that it was compiled from beside it.
        options: The options; none may be changed.
        python: Path of the Python that has the toolkit; None for that of the environment variable.

    Returns:
        The opened file.

    Raises:
        MissingDependencyError: No Python with the toolkit is known.
        RequestError: An option is not possible, or the Python cannot be started.
        ArtifactError: A file is missing or was changed, or the toolkit failed.
    """
    refuse_reference_options(options, "the simulator", "chooses its threads itself")
    precision = read_stated_precision(artifact, options, ENGINE.name)
    manifest = read_checked_manifest(artifact)
    compilation = manifest.compilation
    if compilation is None or compilation.chip not in CHIPS:
        raise ArtifactError(
            f"the manifest of {artifact.path.name} names no chip that is known here",
            f"export the file again with --soc {' or '.join(CHIPS)}",
        )
    program = find_python(python)
    request = _read_request(artifact.path, compilation)
    request = replace(request, input_shape=tuple(int(side) for side in manifest.input.shape))
    simulator = Simulator(request, program)
    info = RuntimeInfo(
        engine=ENGINE.name,
        version=simulator.compiled.compiler,
        device=f"simulated NPU of {compilation.chip}",
        threads=None,
        precision=precision,
    )
    return _SimulatorRuntime(simulator, manifest, info)


def hash_sources(network: bytes, quantization: str) -> str:
    """Return the hash of what a file was compiled from, `Compilation.source_sha256`.

    Args:
        network: The serialized ONNX model.
        quantization: The toolkit's configuration of the quantization; "" for float16.
    """
    digest = hashlib.sha256(network)
    digest.update(quantization.encode("utf-8"))
    return digest.hexdigest()


def _read_request(path: Path, compilation: Compilation) -> ToolkitRequest:
    """Read what a file was compiled from, and compare its hash."""
    source = network_path(path)
    try:
        network = read_bounded(source, MAX_FILE_BYTES)
        settings = quantization_path(path)
        quantization = ""
        if compilation.quantizer:
            quantization = read_bounded(settings, MAX_FILE_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"the simulator cannot read what {path.name} was compiled from ({error})",
            f"copy {source.name}, which tinyvit-export wrote beside it, into the same folder",
        ) from error
    if hash_sources(network, quantization) != compilation.source_sha256:
        raise ArtifactError(
            f"{source.name} is not the network that {path.name} was compiled from",
            "copy both files again, or export them again",
        )
    return ToolkitRequest(network, CHIPS[compilation.chip], known_quantization=quantization)


class _SimulatorRuntime(Runtime):
    """A simulated network. A lock admits one thread at a time."""

    def __init__(self, simulator: Simulator, manifest: Manifest, info: RuntimeInfo) -> None:
        self.inputs, self.outputs = (manifest.input,), list_outputs(manifest)
        self._simulator: Simulator | None = simulator
        self._info = info
        self._lock = threading.Lock()

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the network; see `Runtime.run_outputs`."""
        with self._lock:
            if self._simulator is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            return tuple(self._simulator.run(batch, list_output_shapes(self.outputs)))

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """End the simulator's process."""
        with self._lock:
            simulator, self._simulator = self._simulator, None
            if simulator is not None:
                simulator.close()
