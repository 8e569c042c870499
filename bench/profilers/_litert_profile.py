"""LiteRT's profile of a file: every kernel that it ran, in order, by the names that XNNPACK gives them.

The Python package shows none, but the C library that it brings has a profiler (google-ai-edge/LiteRT, litert/c/litert_profiler.h,
litert_compiled_model.h). It runs in a process of its own: a library that is called through ctypes checks nothing.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tinyvit.bench.profilers import RUNS
from tinyvit.errors import ArtifactError, MissingDependencyError

_CPU, _FLOAT32, _UINT8, _MAX_RANK = 1, 1, 3, 8
_ROW = re.compile(
    r"\s*(?:Delegate/)?(\S.*?)\s{2,}[\d.]+\s+[\d.]+\s+([\d.]+)\s+[\d.]+%.*?\s(\d+)\s+\["
)
"""A line of the summary's first table: kind, start, first, average in milliseconds, two shares, memory, times called, name."""


class Kernel(NamedTuple):
    """One kernel that ran: XNNPACK's name of it, or the operator's where LiteRT's own ran, and milliseconds a run."""

    name: str
    ms: float


class _Layout(ctypes.Structure):
    _fields_ = [
        ("rank", ctypes.c_uint),
        ("sizes", ctypes.c_int32 * _MAX_RANK),
        ("strides", ctypes.c_uint32 * _MAX_RANK),
    ]


class _TensorType(ctypes.Structure):
    _fields_ = [("element", ctypes.c_int), ("layout", _Layout)]


def profile(
    path: Path, shapes: tuple[tuple[int, ...], tuple[int, ...]], pixels: bool
) -> list[Kernel]:
    """Run the file on one thread, on zeros. shapes: of its input and its output; pixels: the input is uint8. Raises ArtifactError."""
    sizes = [",".join(map(str, shape)) for shape in shapes]
    command = [
        sys.executable,
        "-m",
        "tinyvit.bench.profilers._litert_profile",
        str(path),
        *sizes,
        str(int(pixels)),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    table = done.stdout.partition("Run Order")[2].partition("\n\n")[0]
    kernels = [
        Kernel(found[1], float(found[2]))
        for line in table.splitlines()
        if (found := _ROW.match(line)) and int(found[3]) == RUNS
    ]
    if done.returncode or not kernels:
        raise ArtifactError(
            f"LiteRT does not profile {path.name}",
            "install the version that constraints.txt names, or report this",
        )
    return kernels


def _library() -> ctypes.CDLL:
    try:
        import ai_edge_litert
    except ImportError as error:
        raise MissingDependencyError.of("ai-edge-litert", "litert") from error
    return ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))


class _Session:
    """A compiled model with its profiler. Nothing is released: the process ends."""

    def __init__(self, path: str) -> None:
        self._library = _library()
        self._environment, model, options, profiling = (ctypes.c_void_p() for _ in range(4))
        self._model, self._profiler = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("CreateEnvironment", 0, None, ctypes.byref(self._environment))
        self.call("CreateModelFromFile", self._environment, path.encode(), ctypes.byref(model))
        self.call("CreateOptions", ctypes.byref(options))
        self.call("SetOptionsHardwareAccelerators", options, _CPU)
        c = ctypes.CDLL(None)
        c.strdup.restype = ctypes.c_void_p
        text = ctypes.c_void_p(c.strdup(b"enable_profiling = true\n"))
        self.call(
            "CreateOpaqueOptions",
            b"runtime_options_string",
            text,
            ctypes.cast(c.free, ctypes.c_void_p),
            ctypes.byref(profiling),
        )
        self.call("AddOpaqueOptions", options, profiling)
        self.call(
            "CreateCompiledModel", self._environment, model, options, ctypes.byref(self._model)
        )
        self.call("CompiledModelGetProfiler", self._model, ctypes.byref(self._profiler))

    def call(self, name: str, *values: object) -> None:
        status = getattr(self._library, f"LiteRt{name}")(*values)
        if status:
            raise RuntimeError(f"LiteRt{name} gives {status}")

    def summary(self, given: tuple[int, ...], made: tuple[int, ...], pixels: bool) -> str:
        one, first = ctypes.c_size_t(1), ctypes.c_size_t(0)
        ends = [
            self._buffer("Input", given, _UINT8 if pixels else _FLOAT32),
            self._buffer("Output", made, _FLOAT32),
        ]
        inputs, outputs = ((ctypes.c_void_p * 1)(end) for end in ends)
        for i in range(1 + RUNS):
            if i == 1:
                self.call("StartProfiler", self._profiler)
            self.call("RunCompiledModel", self._model, first, one, inputs, one, outputs)
        self.call("StopProfiler", self._profiler)
        text = ctypes.c_char_p()
        self.call("GetProfileSummary", self._profiler, self._model, ctypes.byref(text))
        return (text.value or b"").decode()

    def _buffer(self, end: str, shape: tuple[int, ...], element: int) -> ctypes.c_void_p:
        kind, needs, made = _TensorType(), ctypes.c_void_p(), ctypes.c_void_p()
        kind.element, kind.layout.rank = element, len(shape)
        kind.layout.sizes[: len(shape)] = shape
        at = ctypes.c_size_t(0), ctypes.c_size_t(0)
        self.call(f"GetCompiledModel{end}BufferRequirements", self._model, *at, ctypes.byref(needs))
        self.call(
            "CreateManagedTensorBufferFromRequirements",
            self._environment,
            ctypes.byref(kind),
            needs,
            ctypes.byref(made),
        )
        return made


def main(path: str, given: str, made: str, pixels: str) -> None:
    """In the process of its own: print the summary."""
    shapes = [tuple(map(int, sizes.split(","))) for sizes in (given, made)]
    print(_Session(path).summary(shapes[0], shapes[1], bool(int(pixels))))


if __name__ == "__main__":
    main(*sys.argv[1:])
