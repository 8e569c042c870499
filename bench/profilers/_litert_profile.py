"""Profiles a .tflite file: lists the kernels that LiteRT executed, in the order of execution.

LiteRT's Python interface has no profiler, but the C library in the Python package has one (headers
litert/c/litert_profiler.h and litert/c/litert_compiled_model.h of google-ai-edge/LiteRT). The C
library is called in a separate process, because calls through ctypes are not checked and can crash
the process.
"""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench.profilers import RUNS
from tinyvit.bench.program_output import remove_long_lines
from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.processes.limited_program import ProcessLimitError, RunLimits, run_bounded
from tinyvit.processes.python_process import make_module_command

_CPU = 1
"""The C library's constant kLiteRtHwAcceleratorCpu."""
_FLOAT32, _UINT8 = 1, 3
"""Two values of the C library's enumeration LiteRtElementType."""
_MAX_RANK = 8
"""The C library's constant LITERT_TENSOR_MAX_RANK."""
_LIMITS = RunLimits(seconds=600, output_bytes=2**24)
"""Limits on the process that profiles. Ten runs take less than 30 s, and the summary of a TinyViT
has about 100 kB."""
_SUMMARY_ROW = re.compile(
    r"\s*(?:Delegate/)?(\S.*?)\s{2,}[\d.]+\s+[\d.]+\s+([\d.]+)\s+[\d.]+%.*?\s(\d+)\s+\["
)
"""A row of the first table in the profiler's summary.

The columns are: kernel, start, time of the first call, average time in milliseconds, two
percentages, memory, number of calls, and node. The groups of the pattern are the kernel, the
average time and the number of calls.
"""


@dataclass(frozen=True)
class LiteRtKernel:
    """One executed kernel.

    Attributes:
        name: XNNPACK's name of the kernel; for a kernel of LiteRT itself, the name of the operator.
        time_ms: Average time of one run in milliseconds.
    """

    name: str
    time_ms: float


@dataclass(frozen=True)
class InputOutputs:
    """The shapes of a model's only input and of its outputs, and the data type of the input.

    Attributes:
        input_shape: Shape of the input.
        output_shapes: Shapes of the float32 outputs, in the order of the file's signature.
        is_uint8: Whether the input is uint8; otherwise it is float32.
    """

    input_shape: tuple[int, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    is_uint8: bool


class _Layout(ctypes.Structure):
    """The structure LiteRtLayout of the C library."""

    _fields_ = [
        ("rank", ctypes.c_uint),
        ("sizes", ctypes.c_int32 * _MAX_RANK),
        ("strides", ctypes.c_uint32 * _MAX_RANK),
    ]


class _TensorType(ctypes.Structure):
    """The structure LiteRtRankedTensorType of the C library."""

    _fields_ = [("element", ctypes.c_int), ("layout", _Layout)]


def profile_file(path: Path, tensors: InputOutputs) -> list[LiteRtKernel]:
    """Profile a file in a separate process, on one thread and with zeros as input.

    Args:
        path: A .tflite file that `_tflite.read_checked_model` has accepted.
        tensors: The input and the outputs of the model.

    Returns:
        The kernels in the order of execution.

    Raises:
        ArtifactError: The process failed, reached a limit, or printed no profile.
    """
    command = make_module_command(
        "tinyvit.bench.profilers._litert_profile",
        str(path),
        ",".join(map(str, tensors.input_shape)),
        ";".join(",".join(map(str, shape)) for shape in tensors.output_shapes),
        str(int(tensors.is_uint8)),
    )
    try:
        process = run_bounded(command, _LIMITS)
    except ProcessLimitError as error:
        raise ArtifactError(
            f"the process that profiled {path.name} with LiteRT {error}",
            "check with tinyvit-verify whether the file is damaged; if it is, export it again",
        ) from error
    kernels = parse_summary(process.stdout.decode("utf-8", "replace"))
    if process.exit_code or not kernels:
        raise ArtifactError(
            f"LiteRT printed no profile of {path.name}",
            "install the version of ai-edge-litert that constraints.txt names",
        )
    return kernels


def parse_summary(output: str) -> list[LiteRtKernel]:
    """Parse the summary that LiteRT's profiler prints. It contains names from the file.

    Args:
        output: What the process that profiled printed.

    Returns:
        The kernels in the order of execution; none if the output contains no summary.
    """
    # The first table of the summary has the title "Run Order" and ends with an empty line.
    table = output.partition("Run Order")[2].partition("\n\n")[0]
    kernels = []
    for line in remove_long_lines(table).splitlines():
        row = _SUMMARY_ROW.match(line)
        # Every kernel is called once per run.
        if row and int(row[3]) == RUNS:
            kernels.append(LiteRtKernel(name=row[1], time_ms=float(row[2])))
    return kernels


class _ProfiledModel:
    """A compiled model with LiteRT's profiler. Its memory is released when the process ends."""

    def __init__(self, path: str) -> None:
        """Load and compile a file for the CPU, with profiling."""
        self._library = _load_library()
        self._environment, model, options, profiling_options = (ctypes.c_void_p() for _ in range(4))
        self._model, self._profiler = ctypes.c_void_p(), ctypes.c_void_p()
        # The arguments 0 and None are the number of environment options and the options.
        self._call("CreateEnvironment", 0, None, ctypes.byref(self._environment))
        self._call("CreateModelFromFile", self._environment, path.encode(), ctypes.byref(model))
        self._call("CreateOptions", ctypes.byref(options))
        self._call("SetOptionsHardwareAccelerators", options, _CPU)
        # LiteRT frees the text with the given function, so C's malloc must have allocated it.
        libc = ctypes.CDLL(None)
        libc.strdup.restype = ctypes.c_void_p
        text = ctypes.c_void_p(libc.strdup(b"enable_profiling = true\n"))
        self._call(
            "CreateOpaqueOptions",
            b"runtime_options_string",
            text,
            ctypes.cast(libc.free, ctypes.c_void_p),
            ctypes.byref(profiling_options),
        )
        self._call("AddOpaqueOptions", options, profiling_options)
        self._call(
            "CreateCompiledModel", self._environment, model, options, ctypes.byref(self._model)
        )
        self._call("CompiledModelGetProfiler", self._model, ctypes.byref(self._profiler))

    def summarize_runs(self, tensors: InputOutputs) -> str:
        """Run the model once as a warm-up, profile `RUNS` runs, and return the summary.

        Args:
            tensors: The input and the outputs of the model.
        """
        signature = ctypes.c_size_t(0)
        input_element = _UINT8 if tensors.is_uint8 else _FLOAT32
        input_buffer = self._create_buffer("Input", 0, tensors.input_shape, input_element)
        output_buffers = [
            self._create_buffer("Output", index, shape, _FLOAT32)
            for index, shape in enumerate(tensors.output_shapes)
        ]
        input_count, output_count = ctypes.c_size_t(1), ctypes.c_size_t(len(output_buffers))
        inputs = (ctypes.c_void_p * 1)(input_buffer)
        outputs = (ctypes.c_void_p * len(output_buffers))(*output_buffers)
        for run_index in range(1 + RUNS):
            if run_index == 1:
                self._call("StartProfiler", self._profiler)
            self._call(
                "RunCompiledModel",
                self._model,
                signature,
                input_count,
                inputs,
                output_count,
                outputs,
            )
        self._call("StopProfiler", self._profiler)
        text = ctypes.c_char_p()
        self._call("GetProfileSummary", self._profiler, self._model, ctypes.byref(text))
        return (text.value or b"").decode()

    def _call(self, name: str, *arguments: object) -> None:
        """Call a function of the library, and raise RuntimeError if it fails."""
        status = getattr(self._library, f"LiteRt{name}")(*arguments)
        if status:
            raise RuntimeError(f"LiteRt{name} returned the error code {status}")

    def _create_buffer(
        self, direction: str, position: int, shape: tuple[int, ...], element: int
    ) -> ctypes.c_void_p:
        """Create the buffer of an input or output of the model.

        Args:
            direction: "Input" or "Output".
            position: Position of the tensor in the signature, from 0.
            shape: Shape of the tensor.
            element: Data type of the tensor, `_FLOAT32` or `_UINT8`.
        """
        tensor_type, requirements, buffer = _TensorType(), ctypes.c_void_p(), ctypes.c_void_p()
        tensor_type.element, tensor_type.layout.rank = element, len(shape)
        tensor_type.layout.sizes[: len(shape)] = shape
        signature, index = ctypes.c_size_t(0), ctypes.c_size_t(position)
        self._call(
            f"GetCompiledModel{direction}BufferRequirements",
            self._model,
            signature,
            index,
            ctypes.byref(requirements),
        )
        self._call(
            "CreateManagedTensorBufferFromRequirements",
            self._environment,
            ctypes.byref(tensor_type),
            requirements,
            ctypes.byref(buffer),
        )
        return buffer


def _load_library() -> ctypes.CDLL:
    """Load the C library inside LiteRT's Python package."""
    try:
        import ai_edge_litert
    except ImportError as error:
        raise MissingDependencyError.for_package("ai-edge-litert", extra="litert") from error
    return ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))


def _parse_shape(sizes: str) -> tuple[int, ...]:
    return tuple(map(int, sizes.split(",")))


def main(path: str, input_sizes: str, output_sizes: str, is_uint8: str) -> None:
    """Print the profiler's summary of a file.

    Args:
        path: The .tflite file.
        input_sizes: Sizes of the input, separated by commas.
        output_sizes: Sizes of each output, separated by commas; semicolons separate the outputs.
        is_uint8: "1" if the input is uint8, "0" if it is float32.
    """
    tensors = InputOutputs(
        input_shape=_parse_shape(input_sizes),
        output_shapes=tuple(map(_parse_shape, output_sizes.split(";"))),
        is_uint8=is_uint8 == "1",
    )
    # The process that started this one parses the output, so that nothing is escaped here.
    sys.stdout.write(_ProfiledModel(path).summarize_runs(tensors) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
