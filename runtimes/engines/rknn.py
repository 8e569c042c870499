"""The engine rknn: runs .rknn files on the NPU of a Rockchip board, with rknn-toolkit-lite2.

It was not run on a board yet. The engine rknn-simulator runs the same networks in Rockchip's
simulator on x86-64.
"""

from __future__ import annotations

import math
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import TensorSpec
from tinyvit.processes.output_capture import silence_file_descriptors
from tinyvit.runtimes.artifact import Artifact, content_sha256
from tinyvit.runtimes.base import Engine, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engine_helpers import (
    check_batch,
    closed_error,
    cpu_threads_error,
    import_library,
    read_stated_precision,
    run_error,
)
from tinyvit.runtimes.formats.rknn import RKNN

_DEVICE = "npu"
"""The only device."""
_DISTRIBUTION = "rknn-toolkit-lite2"
_CHANNELS_FIRST = "nchw"
"""The library's name of the layout of the input."""


class RknnEngine(Engine):
    """The NPU of this board."""

    name = "rknn"
    formats = (RKNN,)
    package = "rknnlite"
    extra = "rknn"
    default_device = _DEVICE

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open a file; see `Engine.open`."""
        if options.device != _DEVICE:
            raise RequestError(
                f"the engine rknn has no device {options.device!r}",
                "leave --device out; the .onnx file of the same model runs on the CPU",
            )
        if options.threads is not None:
            raise cpu_threads_error(_DEVICE)
        precision = read_stated_precision(artifact, options, self.name)
        manifest = read_checked_manifest(artifact)
        # The package exists only for the processors of boards.
        missing = MissingDependencyError(
            f"{_DISTRIBUTION} is not installed",
            f"run the file on a Rockchip board, after pip install {_DISTRIBUTION}, or check it here"
            " with --runtime rknn-simulator",
        )
        library = import_library("rknnlite.api", missing)
        with silence_file_descriptors():
            lite = library.RKNNLite()
        if not _load(lite, artifact.path):
            with silence_file_descriptors():
                lite.release()
            raise _make_refusal(artifact, manifest)
        info = RuntimeInfo(
            engine=self.name,
            version=f"{_DISTRIBUTION} {metadata.version(_DISTRIBUTION)}",
            device="Rockchip NPU",
            threads=None,
            precision=precision,
        )
        return _RknnRuntime(lite, manifest, info)


ENGINE = RknnEngine()


def read_checked_manifest(artifact: Artifact) -> Manifest:
    """Return the manifest of a file, which states its inputs and outputs.

    Args:
        artifact: The file. Rockchip's library may crash if it is damaged, so the hash in the
            manifest is compared.

    Returns:
        The manifest.

    Raises:
        ArtifactError: The file has no manifest, or was changed after the export, or the manifest
            states a tensor whose shape is not fixed.
    """
    manifest, name = artifact.manifest, artifact.path.name
    if manifest is None:
        raise ArtifactError(
            f"{name} has no manifest, so its inputs are not known",
            f"copy {name}.json beside it, or give a file that tinyvit-export wrote",
        )
    # Files that an export writes only to measure them have no hash yet.
    if manifest.content_sha256 and content_sha256(artifact.path) != manifest.content_sha256:
        raise ArtifactError(f"{name} was changed after the export", "copy or export the file again")
    for spec in (manifest.input, *manifest.outputs):
        if not all(isinstance(size, int) for size in spec.shape):
            raise ArtifactError(
                f"the manifest of {name} states a shape that is not fixed, {spec.shape}, but a"
                " compiled network has fixed shapes",
                "export the file again",
            )
    return manifest


def list_outputs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """Return the outputs that a manifest states, as an engine describes them.

    Args:
        manifest: The manifest of a file, which has a fixed batch.
    """
    return tuple(
        TensorSpec(spec.name, spec.shape, spec.dtype, spec.layout) for spec in manifest.outputs
    )


def list_output_shapes(outputs: tuple[TensorSpec, ...]) -> list[tuple[int, ...]]:
    """Return the shapes of outputs with a fixed batch.

    Args:
        outputs: The outputs.
    """
    return [tuple(int(size) for size in spec.shape) for spec in outputs]


def _load(lite: Any, path: Path) -> bool:
    """Load a file with Rockchip's library; return whether this board accepts it."""
    with silence_file_descriptors():
        try:
            return bool(lite.load_rknn(str(path)) == 0 and lite.init_runtime() == 0)
        except Exception:  # the library raises for some files, and returns a code for others
            return False


def _make_refusal(artifact: Artifact, manifest: Manifest) -> RequestError:
    """Return the error for a file that Rockchip's library does not accept."""
    compilation = manifest.compilation
    purpose = "another chip"
    if compilation is not None:
        purpose = f"{compilation.chip} with {compilation.compiler}"
    return RequestError(
        f"{artifact.path.name} is compiled for {purpose}, and this board does not accept it",
        "export it for the chip of this board (--soc), and install the same version of librknnrt",
    )


class _RknnRuntime(Runtime):
    """An opened file. A lock admits one thread at a time."""

    def __init__(self, lite: Any, manifest: Manifest, info: RuntimeInfo) -> None:
        self.inputs, self.outputs = (manifest.input,), list_outputs(manifest)
        self._lite, self._info = lite, info
        self._lock = threading.Lock()

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the network; see `Runtime.run_outputs`."""
        with self._lock:
            if self._lite is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            try:
                outputs = self._lite.inference(inputs=[batch], data_format=[_CHANNELS_FIRST])
            except Exception as error:  # the library's errors have no common base class
                raise run_error(self._info.engine, error) from error
            shapes = list_output_shapes(self.outputs)
            if outputs is None or [np.size(out) for out in outputs] != list(map(math.prod, shapes)):
                raise ArtifactError(
                    "Rockchip's library returned no output, or other outputs than the manifest"
                    " states",
                    "check the file with tinyvit-verify",
                )
            return tuple(
                np.array(output, np.float32).reshape(shape)
                for output, shape in zip(outputs, shapes)
            )

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """Release the NPU; see `Runtime.close`."""
        with self._lock:
            lite, self._lite = self._lite, None
            if lite is not None:
                with silence_file_descriptors():
                    lite.release()
