"""Measures artifacts on a device that has Python.

A session sends the bundle (this package, artifacts, images), creates an environment, runs the
normal commands of this package there, and reads their JSON output.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyvit.bench.devices import bundle
from tinyvit.bench.devices.process import CompletedCommand, device_error
from tinyvit.bench.devices.transport import Transport
from tinyvit.bench.record import Record
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.progress import Progress
from tinyvit.runtimes.artifact import detect_format
from tinyvit.runtimes.registry import engines_for_format, get_engine
from tinyvit.serialization import parse_json

_OLDEST_PYTHON = (3, 10)
_VERIFY_CODE = "import sys; from tinyvit.runtimes.cli import verify; sys.exit(verify())"
_SHORT_TIMEOUT_S = 120
_ENVIRONMENT_TIMEOUT_S = 600


@dataclass(frozen=True)
class RemoteMeasurement:
    """The settings of a measurement on another device.

    Attributes:
        paths: The artifacts on this machine.
        data: Folder on this machine with one folder of images per class, to measure accuracy; None
            to measure only latency.
        image_count: Number of images of `data` to send, drawn evenly from the classes.
        python: Python on the device with which the environment is created.
        use_env: Environment on the device that has this package, to use instead of a new one.
        wheels: Folder on this machine with the wheels of all dependencies, for a device without a
            network.
        runtime: Name of the engine; None for the best one for each artifact.
        threads: CPU threads; None for the engine's default.
        arguments: Further arguments of `tinyvit-bench latency`.
        timeout_s: Time limit of each command on the device.
        keep: Whether to keep the folder on the device.
    """

    paths: tuple[Path, ...]
    data: Path | None = None
    image_count: int = 500
    python: str = "python3"
    use_env: str | None = None
    wheels: Path | None = None
    runtime: str | None = None
    threads: int | None = None
    arguments: tuple[str, ...] = ()
    timeout_s: float = 3600
    keep: bool = False


@dataclass(frozen=True)
class DeviceResults:
    """The results that a device returned; incomplete if something failed.

    Attributes:
        latency: The latency record; None if the measurement failed.
        accuracy: The accuracy record; None if the measurement failed or was not requested.
        verifications: Name of an artifact -> JSON output of tinyvit-verify.
        problems: One message per failure.
        remaining_folder: Folder on the device that was kept or may not have been deleted; None if
            it was deleted.
    """

    latency: Record | None
    accuracy: Record | None
    verifications: dict[str, dict[str, Any]]
    problems: tuple[str, ...]
    remaining_folder: str | None


def measure_on_device(
    transport: Transport, measurement: RemoteMeasurement, progress: Progress
) -> DeviceResults:
    """Send artifacts to a device, measure them there, and read the results.

    Args:
        transport: Access to the device.
        measurement: The settings of the measurement.
        progress: Receives each step.

    Returns:
        The results. If something fails after the environment was created, its `problems` states
        that, and the results until then are returned.

    Raises:
        RequestError: The environment cannot be created, so that nothing was measured.
    """
    with tempfile.TemporaryDirectory() as local_folder:
        wheel = _make_bundle(measurement, Path(local_folder))
        problems: list[str] = []
        with _temporary_folder(transport, measurement.keep, problems) as folder:
            progress.message(f"{transport.name}: sending files to {folder}")
            transport.upload(Path(local_folder), folder)
            python = _prepare_python(transport, measurement, folder, wheel, progress)
            session = _Session(transport, measurement, folder, python, progress, problems)
            session.measure()
    remains = measurement.keep or any(folder in problem for problem in problems)
    return DeviceResults(
        session.latency,
        session.accuracy,
        session.verifications,
        tuple(problems),
        folder if remains else None,
    )


def _make_bundle(measurement: RemoteMeasurement, folder: Path) -> str:
    """Fill an empty folder with the files for the device; return the name of the wheel."""
    wheel = bundle.make_wheel(folder)
    bundle.copy_artifacts(measurement.paths, folder)
    if measurement.wheels is not None:
        bundle.copy_wheels(measurement.wheels, folder)
    if measurement.data is not None:
        bundle.copy_images(measurement.data, measurement.image_count, folder)
    return wheel.name


@contextmanager
def _temporary_folder(transport: Transport, keep: bool, problems: list[str]) -> Iterator[str]:
    """Create a folder on the device; unless `keep` is set, delete it, even after an error."""
    folder = transport.make_folder()
    try:
        yield folder
    finally:
        if not keep:
            try:
                transport.remove_folder(folder)
            except TinyViTError as error:
                problems.append(f"{folder} may be left on {transport.name} ({error.cause})")


def _prepare_python(
    transport: Transport,
    measurement: RemoteMeasurement,
    folder: str,
    wheel: str,
    progress: Progress,
) -> str:
    """Return the path of a Python on the device that has this package and its engines."""
    if measurement.use_env:
        python = f"{measurement.use_env.rstrip('/')}/bin/python"
        _require_python(transport, python)
        return python
    python = measurement.python
    _require_python(transport, python)
    progress.message(f"{transport.name}: creating an environment")
    result = transport.run([python, "-m", "venv", "venv"], _ENVIRONMENT_TIMEOUT_S, folder)
    if result.exit_code:
        if "ensurepip" in result.stdout + result.stderr or "No module named venv" in result.stderr:
            raise RequestError(
                f"{transport.name} cannot create an environment, because Python's venv is missing",
                "install it there: sudo apt-get install python3-venv",
            )
        raise device_error(transport.name, result, "an environment cannot be created")
    index_options = (
        ["--no-index", "--find-links", bundle.WHEELS_FOLDER] if measurement.wheels else []
    )
    pip = ["venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    packages = [f"./{wheel}", *_list_engine_packages(measurement)]
    result = transport.run([*pip, *index_options, *packages], measurement.timeout_s, folder)
    if result.exit_code:
        raise device_error(transport.name, result, "the package cannot be installed")
    return f"{folder}/venv/bin/python"


def _require_python(transport: Transport, python: str) -> None:
    """Raise RequestError unless `python` on the device is Python 3.10 or later."""
    code = "import sys; print(*sys.version_info[:2])"
    result = transport.run([python, "-c", code], _SHORT_TIMEOUT_S)
    if result.exit_code:
        raise RequestError(
            f"{python} cannot be run on {transport.name} ({result.last_line})",
            "install Python there, or name another one with --python or --use-env",
        )
    version = tuple(map(int, re.findall(r"\d+", result.stdout)[:2]))
    if version < _OLDEST_PYTHON:
        raise RequestError(
            f"{python} on {transport.name} is Python {'.'.join(map(str, version))}",
            "name Python 3.10 or later with --python",
        )


def _list_engine_packages(measurement: RemoteMeasurement) -> list[str]:
    """Return the packages that pip must install for engines outside the base install."""
    names = {
        measurement.runtime or engines_for_format(detect_format(path))[0]
        for path in measurement.paths
    }
    engines = [get_engine(name) for name in names]
    return sorted({engine.package.replace("_", "-") for engine in engines if engine.extra})


@dataclass
class _Session:
    """The measurements on a device with a ready environment, and their results.

    Attributes:
        transport: Access to the device.
        measurement: The settings of the measurement.
        folder: Folder on the device with the bundle.
        python: Python on the device.
        progress: Receives each step.
        problems: Receives one message per failure.
        latency: The latency record; None before it was measured.
        accuracy: The accuracy record; None before it was measured.
        verifications: Name of an artifact -> JSON output of tinyvit-verify.
    """

    transport: Transport
    measurement: RemoteMeasurement
    folder: str
    python: str
    progress: Progress
    problems: list[str]
    latency: Record | None = None
    accuracy: Record | None = None
    verifications: dict[str, dict[str, Any]] = field(default_factory=dict)

    def measure(self) -> None:
        """Verify and measure the artifacts until an error occurs, which is added to `problems`."""
        try:
            for path in self.measurement.paths:
                self._verify(path.name)
            self._report("measuring latency")
            self.latency = self._run_bench("latency", self.measurement.arguments)
            if self.measurement.data is not None:
                self._report("measuring accuracy")
                self.accuracy = self._run_bench("accuracy", ("--data", bundle.IMAGES_FOLDER))
        except TinyViTError as error:
            self.problems.append(str(error))

    def _verify(self, name: str) -> None:
        """Run tinyvit-verify on an artifact."""
        self._report(f"verifying {name}")
        command = ["-c", _VERIFY_CODE, _file_argument(name), *self._engine_options(), "--json"]
        result = self._run_python(command)
        try:
            output = parse_json(result.stdout)
            if not isinstance(output, dict) or not isinstance(output.get("passed"), bool):
                raise ValueError("it has no field 'passed'")
        except ValueError:
            self.problems.append(f"tinyvit-verify {name} failed: {result.last_line}")
            return
        self.verifications[name] = output
        if not output["passed"]:
            reasons = "; ".join(map(str, output.get("reasons", [])))
            self.problems.append(f"tinyvit-verify {name} did not pass: {reasons}")

    def _run_bench(self, kind: str, arguments: Sequence[str]) -> Record | None:
        """Run `tinyvit-bench latency` or `accuracy` on all artifacts, and parse the record."""
        files = [_file_argument(path.name) for path in self.measurement.paths]
        options = [*self._engine_options(), *arguments, "--json"]
        result = self._run_python(["-m", "tinyvit.bench.cli", kind, *files, *options])
        try:
            return Record.from_json(result.stdout.strip(), f"the output of {kind} on the device")
        except TinyViTError as error:
            reason = result.last_line if result.exit_code else str(error)
            self.problems.append(f"tinyvit-bench {kind} failed: {reason}")
            return None

    def _run_python(self, arguments: Sequence[str]) -> CompletedCommand:
        """Run Python on the device, in the folder of the bundle."""
        command = [self.python, *arguments]
        return self.transport.run(command, self.measurement.timeout_s, self.folder)

    def _engine_options(self) -> list[str]:
        """Return the options that choose the engine and its threads."""
        runtime, threads = self.measurement.runtime, self.measurement.threads
        return [
            *(["--runtime", runtime] if runtime else []),
            *(["--threads", str(threads)] if threads else []),
        ]

    def _report(self, step: str) -> None:
        self.progress.message(f"{self.transport.name}: {step}")


def _file_argument(name: str) -> str:
    """Return a file name that no command parses as an option."""
    return f"./{name}" if name.startswith("-") else name
