"""Runs a measurement program with the code of one state, and reads the numbers that it prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tinyvit.errors import ArtifactError
from tinyvit.processes.python_process import MAX_LINE_CHARACTERS, read_last_line
from tinyvit.serialization import parse_json

PROGRAMS = Path(__file__).parent / "programs"
"""Folder of the measurement programs."""
_LIMIT_S = 4 * 3600.0
"""Longest time of one run."""
_MAX_OUTPUT_BYTES = 2**16
"""Largest output of a program; it prints one line."""
_LARGEST_VALUE = 1e9
"""A number above this is no measurement in milliseconds, seconds, MiB or images per second."""
_POLL_S = 0.05
_END_S = 10.0
"""Seconds after which processes that were asked to end are killed."""


@dataclass(frozen=True)
class Measurement:
    """One run of a program.

    Attributes:
        program: File name of the program in the folder `PROGRAMS`, or an absolute path.
        tree: Folder of the state of the repository that is measured.
        arguments: Arguments of the program.
        quantities: Names of the numbers that the program prints.
        threads: Number of threads of OpenMP, with which torch computes.
    """

    program: str
    tree: Path
    arguments: Sequence[str]
    quantities: Sequence[str]
    threads: int


def run_measurement(measurement: Measurement, limit_s: float = _LIMIT_S) -> dict[str, float]:
    """Run a measurement program in a new process.

    Args:
        measurement: What is run.
        limit_s: Longest time of the run in seconds.

    Returns:
        Name of the quantity -> value.

    Raises:
        ArtifactError: The program fails, takes too long, or does not print what it should.
    """
    program = PROGRAMS / measurement.program
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        output_path = Path(folder) / "output"
        working_folder = Path(folder) / "empty"
        working_folder.mkdir()
        with output_path.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(program), *measurement.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=working_folder,
                env=_make_environment(measurement, Path(folder)),
                start_new_session=True,
            )
            try:
                reason = _wait(process, output_path, limit_s)
            finally:
                _end_group(process)
        if reason is None and process.returncode:
            reason = _read_last_error(errors, process.returncode)
        if reason is not None:
            raise ArtifactError(f"{program.name} failed", reason)
        content = output_path.read_bytes()
    return read_output(content, measurement)


def read_output(content: bytes, measurement: Measurement) -> dict[str, float]:
    """Read the JSON object in the last line that a program printed.

    Args:
        content: What it printed.
        measurement: What was run.

    Returns:
        Name of the quantity -> value.

    Raises:
        ArtifactError: The line is not a JSON object with all quantities, a quantity is not a
            positive number, or the program measured the code of another state.
    """
    name = Path(measurement.program).name
    try:
        data = parse_json((content.strip().splitlines() or [b""])[-1], _MAX_OUTPUT_BYTES)
    except ValueError as error:
        raise _refuse(name, "printed no JSON object in its last line") from error
    if not isinstance(data, dict):
        raise _refuse(name, "printed no JSON object in its last line")
    package = data.get("package")
    if package is not None:
        source = measurement.tree / "src"
        is_path = isinstance(package, str) and "\0" not in package
        if not is_path or not Path(package).resolve().is_relative_to(source.resolve()):
            raise _refuse(name, "imported tinyvit from another folder than that of its state")
    values = {}
    for quantity in measurement.quantities:
        value = data.get(quantity)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _refuse(name, f"printed no number {quantity}")
        if not 0 < value < _LARGEST_VALUE:  # False for NaN, too
            raise _refuse(name, f"printed an impossible number {quantity}")
        values[quantity] = float(value)
    return values


def _refuse(program: str, what: str) -> ArtifactError:
    return ArtifactError(f"{program} {what}", "run it alone to see what it prints")


def _make_environment(measurement: Measurement, folder: Path) -> Mapping[str, str]:
    """Return the variables of a process: this state, few threads, an empty cache."""
    cache = str(folder / "cache")
    return {
        **os.environ,
        "PYTHONPATH": str(measurement.tree / "src"),
        "OMP_NUM_THREADS": str(measurement.threads),
        "OMP_WAIT_POLICY": "passive",
        "TINYVIT_CACHE": cache,
        "XDG_CACHE_HOME": cache,
        "TMPDIR": str(folder),
        "ORT_DISABLE_TELEMETRY": "1",
    }


def _wait(process: subprocess.Popen[bytes], output: Path, limit_s: float) -> str | None:
    """Wait for the end of a process; return which limit it exceeded, if any."""
    end_s = time.monotonic() + limit_s
    while process.poll() is None:
        if output.stat().st_size > _MAX_OUTPUT_BYTES:
            break
        if time.monotonic() > end_s:
            return f"it took more than {limit_s:g} s"
        time.sleep(_POLL_S)
    if output.stat().st_size > _MAX_OUTPUT_BYTES:
        return f"it printed more than {_MAX_OUTPUT_BYTES} bytes"
    return None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that is still running, and all processes that it has started.

    They have a process group of their own, so that Ctrl-C does not reach them by itself.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None or number == signal.SIGKILL:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)


def _read_last_error(errors: IO[bytes], exit_code: int) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 4000))
    if_empty = f"exit code {exit_code}"
    line = read_last_line(errors.read(), if_empty=if_empty, max_characters=MAX_LINE_CHARACTERS)
    return line.removeprefix("error: ")
