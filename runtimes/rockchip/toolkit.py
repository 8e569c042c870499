"""Compiles networks with rknn-toolkit2, in another process.

The process has the Python of the toolkit's environment and executes `worker.py`. The
exchange is a temporary folder with files. What the process writes is checked like any other file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.files.regular_files import read_bounded
from tinyvit.files.staging import temporary_folder
from tinyvit.processes.limited_program import (
    EndedProcess,
    ProcessLimitError,
    RunLimits,
    describe_crash,
    run_bounded,
)
from tinyvit.processes.python_process import make_options_for_code, read_last_line
from tinyvit.runtimes.formats import MAX_FILE_BYTES
from tinyvit.runtimes.formats.rknn import EXPORTER_NAME, RKNN
from tinyvit.runtimes.rockchip.chips import PYTHON_OPTION, Chip, make_missing_error
from tinyvit.runtimes.rockchip.log import Layer, find_toolkit_error, parse_layers
from tinyvit.serialization import parse_dataclass, parse_json

_WORKER_FILE, _RANGES_FILE = "worker.py", "ranges.py"
"""Files of this package that the other process executes."""
_ANSWER_FILE = "answer.json"
_NETWORK_FILE = "network.rknn"
_LAYER_FILE = "layers.txt"
_QUANTIZATION_FILE = "network.quantization.cfg"
_LOG_FILE = "log.txt"
_MAX_TEXT_BYTES = 2**24
"""Largest text file that the toolkit may write. For the demo model, the log has 0.4 MB."""
MAX_SECONDS = 3600
"""Longest time of a compilation, in seconds."""
_KEPT_VARIABLES = ("HOME", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "PATH", "TMPDIR")
"""Environment variables that the other process gets. Those of Python would make it look for modules
in the folders of this environment."""
_FIXED_VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
}
"""Environment variables that this module sets."""


@dataclass(frozen=True)
class ToolkitRequest:
    """A network to compile.

    Attributes:
        network: A serialized ONNX model whose opset is at most `MAX_OPSET`, float32.
        chip: The chip.
        analysis_image: A normalized image, float32 (1, 3, height, width), for which the error of
            each layer is measured in the simulator; None to measure nothing.
        ranges: Name of a tensor of the ONNX model -> the smallest and the largest value that its
            int8 values represent; None for a float16 network.
        range_images: Normalized images, from which the toolkit measures the ranges of other
            tensors; needed only with `ranges`.
        known_quantization: `CompiledNetwork.quantization` of an earlier compilation, which is used
            again; "" to make it from `ranges`.
        input_shape: Shape of the input; needed only with `known_quantization`.
    """

    network: bytes
    chip: Chip
    analysis_image: npt.NDArray[np.float32] | None = None
    ranges: Mapping[str, tuple[float, float]] | None = None
    range_images: Sequence[npt.NDArray[np.float32]] = ()
    known_quantization: str = ""
    input_shape: tuple[int, ...] = ()

    def write(self, folder: Path, simulates: bool) -> None:
        """Write the files that the worker reads.

        Args:
            folder: An empty folder.
            simulates: Whether the worker stays to simulate the network after it was compiled.
        """
        is_quantized = self.ranges is not None or bool(self.known_quantization)
        settings = self.chip.make_settings(is_quantized) | {"custom_string": EXPORTER_NAME}
        if self.analysis_image is not None:
            np.save(folder / "analysis.npy", self.analysis_image)
        range_images = list(self.range_images)
        if self.known_quantization:
            # The toolkit measures ranges, although they are known and replaced.
            range_images = [np.zeros(self.input_shape, np.float32)]
        for index, image in enumerate(range_images):
            np.save(folder / f"range_{index}.npy", image)
        request = {
            "settings": settings,
            "ranges": None if self.ranges is None else dict(self.ranges),
            "known_quantization": self.known_quantization,
            "range_inputs": [f"range_{index}.npy" for index in range(len(range_images))],
            "analysis_inputs": [] if self.analysis_image is None else ["analysis.npy"],
            "simulates": simulates,
        }
        (folder / "network.onnx").write_bytes(self.network)
        (folder / _RANGES_FILE).write_text(_read_source(_RANGES_FILE), encoding="utf-8")
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")


@dataclass(frozen=True)
class CompiledNetwork:
    """A compiled network.

    Attributes:
        data: The .rknn file.
        compiler: Name and version of the compiler.
        layers: The layers and where the chip computes them.
        layer_errors: The toolkit's table of the errors of all layers; "" if none was requested.
        quantization: The parameters with which the toolkit quantized the network, as its own
            configuration file; "" for float16.
        own_range_count: Number of tensors that have a range of the request.
        tensor_count: Number of tensors that are quantized.
    """

    data: bytes
    compiler: str
    layers: tuple[Layer, ...]
    layer_errors: str = ""
    quantization: str = ""
    own_range_count: int = 0
    tensor_count: int = 0


@dataclass(frozen=True)
class ToolkitAnswer:
    """The content of answer.json.

    Attributes:
        own_range_count: See `CompiledNetwork`.
        tensor_count: See `CompiledNetwork`.
        toolkit: Version of the toolkit; "" if it cannot be imported.
        error: What failed, as a clause; "" if nothing did.
    """

    toolkit: str
    error: str
    own_range_count: int = 0
    tensor_count: int = 0


def make_worker_command(python: str, folder: Path) -> list[str]:
    """Make the command that starts the worker.

    Args:
        python: Path of the Python that has the toolkit.
        folder: The folder with the request.
    """
    return [python, *make_options_for_code(_read_source(_WORKER_FILE)), str(folder)]


def make_worker_environment() -> dict[str, str]:
    """Return the environment variables of the worker."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | _FIXED_VARIABLES


def compile_network(request: ToolkitRequest, python: str) -> CompiledNetwork:
    """Compile a network in another process. This takes a minute.

    Args:
        request: The network.
        python: Path of the Python that has the toolkit.

    Returns:
        The compiled network.

    Raises:
        RequestError: The Python cannot be started, or cannot import the toolkit.
        ArtifactError: The toolkit failed, or wrote something else than it should.
    """
    limits = RunLimits(MAX_SECONDS, output_bytes=2**16, file_bytes=MAX_FILE_BYTES)
    with temporary_folder() as folder:
        request.write(folder, simulates=False)
        try:
            ended = run_bounded(
                make_worker_command(python, folder),
                limits,
                cwd=str(folder),
                environment=make_worker_environment(),
            )
        except OSError as error:
            raise RequestError(
                f"{python} cannot be started ({error})",
                f"give a Python that has rknn-toolkit2 with {PYTHON_OPTION}",
            ) from error
        except ProcessLimitError as error:
            raise ArtifactError(
                f"rknn-toolkit2 {error}", "use a smaller image size or another chip"
            ) from error
        return read_compiled_network(folder, ended, has_analysis=request.analysis_image is not None)


def read_compiled_network(
    folder: Path, ended: EndedProcess | None, has_analysis: bool
) -> CompiledNetwork:
    """Read what the worker wrote.

    Args:
        folder: The folder of the exchange.
        ended: The worker's process; None if it is still running.
        has_analysis: Whether the errors of the layers were requested.

    Returns:
        The compiled network.

    Raises:
        RequestError: The Python has no rknn-toolkit2.
        ArtifactError: The toolkit failed, or a file is missing or is not what it should be.
    """
    log = _read_text(folder / _LOG_FILE, is_required=False)
    answer = _read_answer(folder, ended)
    if answer.error.startswith("cannot import"):
        missing = make_missing_error()
        raise RequestError(f"the Python of {PYTHON_OPTION} {answer.error}", missing.remedy)
    if answer.error:
        reason = find_toolkit_error(log)
        raise ArtifactError(
            f"rknn-toolkit2 {answer.toolkit}: {answer.error}{f' ({reason})' if reason else ''}",
            "use another chip (--soc) or --float16, or report this",
        )
    path = folder / _NETWORK_FILE
    try:
        data = read_bounded(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise _make_answer_error(f"{_NETWORK_FILE} cannot be read: {error}") from error
    if not RKNN.recognizes(path, data):
        raise _make_answer_error(f"{_NETWORK_FILE} is not a compiled network")
    return CompiledNetwork(
        data=data,
        compiler=f"rknn-toolkit2 {answer.toolkit}",
        layers=parse_layers(log),
        layer_errors=_read_text(folder / _LAYER_FILE, is_required=True) if has_analysis else "",
        quantization=_read_text(folder / _QUANTIZATION_FILE, is_required=False),
        own_range_count=answer.own_range_count,
        tensor_count=answer.tensor_count,
    )


def _read_source(name: str) -> str:
    """Return the source code of a module of this folder."""
    return resources.files("tinyvit.runtimes.rockchip").joinpath(name).read_text(encoding="utf-8")


def _read_answer(folder: Path, ended: EndedProcess | None) -> ToolkitAnswer:
    """Read answer.json, which is missing if the process crashed or was no Python."""
    path = folder / _ANSWER_FILE
    if ended is not None and not path.exists():
        crash = describe_crash(ended.exit_code)
        reason = crash or read_last_line(ended.stderr, f"exit code {ended.exit_code}")
        raise ArtifactError(
            f"the Python of {PYTHON_OPTION} ended without an answer ({reason})",
            "check that it is a Python with rknn-toolkit2, or report this",
        )
    try:
        return parse_dataclass(ToolkitAnswer, parse_json(read_bounded(path, _MAX_TEXT_BYTES)))
    except (OSError, ValueError) as error:
        raise _make_answer_error(f"{_ANSWER_FILE} is not an answer: {error}") from error


def _read_text(path: Path, is_required: bool) -> str:
    """Read a text file; return "" for a missing one that is not required."""
    if not is_required and not os.path.lexists(path):
        return ""
    try:
        return read_bounded(path, _MAX_TEXT_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        raise _make_answer_error(f"{path.name} cannot be read: {error}") from error


def _make_answer_error(reason: str) -> ArtifactError:
    """Return the error for a file of the worker that is not what it should be."""
    return ArtifactError(
        f"the Python of {PYTHON_OPTION} did not answer as expected ({reason})",
        "check that it is a Python with rknn-toolkit2, or report this",
    )
