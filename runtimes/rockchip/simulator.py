"""Runs Rockchip's simulator, which computes what an NPU computes, in another process.

The simulator of rknn-toolkit2 does not run .rknn files, but only a network that was compiled in the
same process. So the process compiles the network again, and then answers batches until it is
closed.
"""

from __future__ import annotations

import io
import os
import selectors
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.files.regular_files import read_bounded
from tinyvit.files.staging import temporary_folder
from tinyvit.processes.limited_program import EndedProcess
from tinyvit.runtimes.rockchip.chips import PYTHON_OPTION
from tinyvit.runtimes.rockchip.toolkit import (
    MAX_SECONDS,
    CompiledNetwork,
    ToolkitRequest,
    make_worker_command,
    make_worker_environment,
    read_compiled_network,
)

_READY, _ERROR = "ready", "error"
"""Lines that the process prints: the network is compiled; a batch could not be computed."""
_MAX_LINE_BYTES = 64
"""Longest line that the process may print."""
_MAX_BATCH_SECONDS = 600
"""Longest time for one batch, in seconds."""
_END_SECONDS = 10
"""Seconds to wait for the end of the process, after its standard input was closed."""
_HEADER_BYTES = 4096
"""Number of bytes that an .npy file may have besides its values."""


class Simulator:
    """A process that simulates one network.

    Attributes:
        compiled: The network, compiled again.
    """

    compiled: CompiledNetwork

    def __init__(self, request: ToolkitRequest, python: str) -> None:
        """Start the process, and wait until it has compiled the network. This takes a minute.

        Args:
            request: The network.
            python: Path of the Python that has the toolkit.

        Raises:
            RequestError: The Python cannot be started, or cannot import the toolkit.
            ArtifactError: The toolkit failed.
        """
        self._count = 0
        with ExitStack() as stack:
            self._folder = stack.enter_context(temporary_folder())
            request.write(self._folder, simulates=True)
            self._process = _start(python, self._folder)
            stack.callback(self._end_process)
            line = self._read_line(MAX_SECONDS)
            self.compiled = read_compiled_network(
                self._folder, None if line == _READY else self._ended(), has_analysis=False
            )
            if line != _READY:
                raise _make_end_error()
            self._resources = stack.pop_all()

    def run(
        self, batch: npt.NDArray[Any], shapes: list[tuple[int, ...]]
    ) -> list[npt.NDArray[np.float32]]:
        """Compute the outputs of the network.

        Args:
            batch: Normalized images, float32 (batch, 3, height, width).
            shapes: The shapes of the outputs.

        Returns:
            One array for each output.

        Raises:
            ArtifactError: The process failed, or returned other shapes.
        """
        assert self._process.stdin is not None  # it is a pipe
        self._count += 1
        number = str(self._count)
        np.save(self._folder / "input.npy", batch)
        try:
            self._process.stdin.write(f"{number}\n".encode())
            self._process.stdin.flush()
        except OSError as error:
            raise _make_end_error() from error
        if self._read_line(_MAX_BATCH_SECONDS) != number:
            raise _make_end_error()
        return [
            _read_array(self._folder / f"output_{index}.npy", shape)
            for index, shape in enumerate(shapes)
        ]

    def close(self) -> None:
        """End the process. Calling it again has no effect."""
        self._resources.close()

    def _read_line(self, seconds: float) -> str:
        """Return the next line that the process prints; "" if it ended or took too long."""
        assert self._process.stdout is not None  # it is a pipe
        line, end_s = b"", time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n") and len(line) < _MAX_LINE_BYTES:
                if not selector.select(max(0.0, end_s - time.monotonic())):
                    return ""
                byte = os.read(self._process.stdout.fileno(), 1)
                if not byte:
                    return ""
                line += byte
        return line.decode("ascii", "replace").strip()

    def _ended(self) -> EndedProcess:
        """Return how the process ended, which did not compile the network."""
        self._process.kill()
        return EndedProcess(self._process.wait(), b"", b"")

    def _end_process(self) -> None:
        """End the process by closing its standard input, and kill it if it does not end."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _start(python: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the process of the toolkit."""
    try:
        return subprocess.Popen(
            make_worker_command(python, folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=make_worker_environment(),
            bufsize=0,
        )
    except OSError as error:
        raise RequestError(
            f"{python} cannot be started ({error})",
            f"give a Python that has rknn-toolkit2 with {PYTHON_OPTION}",
        ) from error


def _read_array(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Read an output; refuse one with another shape or type."""
    count = int(np.prod(shape))
    try:
        data = read_bounded(path, count * np.dtype(np.float32).itemsize + _HEADER_BYTES)
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(
            f"the simulator's output cannot be read ({error})", "report this"
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.size != count:
        raise ArtifactError("the simulator's output has another shape than the file", "report this")
    return array.reshape(shape)


def _make_end_error() -> ArtifactError:
    """Return the error for a process that ended, or does not answer."""
    return ArtifactError(
        "the process of Rockchip's simulator ended or does not answer",
        "open the file again, or report this",
    )
