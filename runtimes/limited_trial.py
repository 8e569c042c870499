"""Runs a file once in another process with limits on memory and time.

This is for files whose cost `inference_cost` cannot compute, because they contain an operator whose
result has an unknown size. It takes about a second more than to open the file.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tinyvit.discovery import load_plugin
from tinyvit.errors import ArtifactError
from tinyvit.manifest_parts import TensorSpec
from tinyvit.processes.limited_function import ProcessLimits
from tinyvit.processes.output_capture import silence_file_descriptors
from tinyvit.runtimes import engines
from tinyvit.runtimes.artifact import Artifact, list_artifact_files
from tinyvit.runtimes.base import Runtime, RuntimeOptions
from tinyvit.runtimes.network_analysis.inference_cost import ASSUMED_BATCH_SIZE, ASSUMED_SIDE
from tinyvit.runtimes.tensor_limits import check_tensor_sizes
from tinyvit.runtimes.trial import TRIAL_REPORT, call_trial

TIMEOUT_S = 60
"""Longest time that the trial may take, in seconds, with the start of the process."""

MEMORY_BYTES = 3 * 2**30
"""Memory of the other process in bytes, in addition to three times the size of the file, because
engines copy weights. It is not limited for other devices than CPUs, whose drivers reserve addresses
without measure."""

_OTHER_SIDES = (384, 256, 224, 192, 160, 128, 96, 64, 32)
"""Heights and widths, in pixels, to try if a network that takes any does not run with
`ASSUMED_SIDE`."""

_WORDS_FOR_MEMORY = ("memory", "alloc")
"""Parts of the messages of engines that could not allocate memory."""


def run_limited_trial(artifact: Artifact, engine_name: str, options: RuntimeOptions) -> None:
    """Run a file once in another process, with an image of zeros.

    Args:
        artifact: The file.
        engine_name: Name of the engine.
        options: Options for the engine. A cache folder is not used.

    Raises:
        ArtifactError: If the engine does not open or run the file, or needs more than
            `MEMORY_BYTES` or `TIMEOUT_S`.
    """
    request = {
        "path": str(artifact.path.absolute()),
        "engine": engine_name,
        "device": options.device,
        "threads": options.threads or 1,
        "precision": options.precision,
    }
    memory_bytes: int | None = None
    if "cpu" in options.device.lower():
        file_bytes = sum(file.stat().st_size for file in list_artifact_files(artifact.path))
        memory_bytes = MEMORY_BYTES + 3 * file_bytes
    else:
        request["threads"] = None
    try:
        call_trial(run_once, json.dumps(request).encode(), ProcessLimits(memory_bytes, TIMEOUT_S))
    except ValueError as error:
        raise ArtifactError(
            f"{artifact.path.name} contains operators whose results have unknown sizes, and running"
            f" it in another process failed: {error}",
            "the file is damaged or hostile; if you trust it, use --allow-foreign-operators, in"
            " Python allow_foreign_operators=True",
        ) from error


def run_once(request: bytes) -> bytes:
    """Open a file and run it once; the other process calls this function.

    Args:
        request: What `run_limited_trial` sends, as JSON.

    Returns:
        TRIAL_REPORT.

    Raises:
        Exception: The engine cannot open or run the file.
    """
    values = json.loads(request)
    options = RuntimeOptions(
        values["device"],
        values["threads"],
        values["precision"],
        allow_foreign_operators=True,  # This is the check itself.
    )
    artifact = Artifact(Path(values["path"]), manifest=None)
    engine = load_plugin(engines, values["engine"], "ENGINE")
    with silence_file_descriptors(), engine.open(artifact, options) as runtime:
        check_tensor_sizes(runtime.inputs, runtime.outputs, artifact.path.name)
        _run_with_zeros(runtime)
    return TRIAL_REPORT


def _run_with_zeros(runtime: Runtime) -> None:
    """Run a network once, with an image of zeros of the first size that it takes.

    Nothing is raised if it takes none of the sizes: then it will not run later either, or the
    caller states the size of images.
    """
    spec = runtime.inputs[0]
    takes_any_size = not all(isinstance(size, int) for size in spec.shape[1:])
    for side in (ASSUMED_SIDE, *_OTHER_SIDES):
        try:
            runtime.run(_make_zeros(spec, side))
            return
        except ArtifactError as error:
            if not takes_any_size or any(word in str(error) for word in _WORDS_FOR_MEMORY):
                raise


def _make_zeros(spec: TensorSpec, side: int) -> np.ndarray:
    """Make an input of zeros with images of this height and width, if the network takes any."""
    sizes = [
        size if isinstance(size, int) else (side if axis else ASSUMED_BATCH_SIZE)
        for axis, size in enumerate(spec.shape)
    ]
    return np.zeros(sizes, spec.dtype)
