"""Measures artifacts (exported model files) on a device that has Python.

A session sends the bundle (this package, artifacts, images) to the device, creates a virtual
environment there, runs this package's normal commands in it, and reads their JSON output.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyvit.bench.devices import bundle
from tinyvit.bench.devices.config import SessionConfig
from tinyvit.bench.devices.environment import prepare_python
from tinyvit.bench.devices.process import CompletedCommand
from tinyvit.bench.devices.transport import Transport
from tinyvit.bench.record import Record
from tinyvit.errors import TinyViTError
from tinyvit.files.staging import temporary_folder
from tinyvit.processes.python_process import make_options_for_code, make_options_for_module
from tinyvit.progress import Progress
from tinyvit.serialization import parse_json

_VERIFY_CODE = "from tinyvit.runtimes.cli import verify; sys.exit(verify())"
"""Python code that does the same as the command tinyvit-verify, which may not be on PATH."""

_MAX_VERIFICATION_CHARACTERS = 2**20
"""Longest output of tinyvit-verify that is accepted. It prints a few kilobytes."""
_MAX_REASON_CHARACTERS = 2000
"""Number of characters to which the reasons are shortened why an artifact did not pass."""


@dataclass(frozen=True)
class DeviceResults:
    """The results of a measurement on a device, which are incomplete if something failed.

    Attributes:
        latency: The latency record; None if the measurement failed.
        accuracy: The accuracy record; None if the measurement failed or was not requested.
        verifications: File name of an artifact -> JSON output of tinyvit-verify.
        problems: One message per failure.
        remaining_folder: The temporary folder on the device, if it was kept or if its deletion may
            have failed; None if it was deleted.
    """

    latency: Record | None
    accuracy: Record | None
    verifications: dict[str, dict[str, Any]]
    problems: tuple[str, ...]
    remaining_folder: str | None


def measure_on_device(
    transport: Transport, config: SessionConfig, progress: Progress
) -> DeviceResults:
    """Send artifacts to a device, measure them there, and read the results.

    Args:
        transport: Access to the device.
        config: The options of the measurement.
        progress: Receives each step.

    Returns:
        The results. If something fails after the environment was created, the results until then
        are returned, and their `problems` state the failure.

    Raises:
        RequestError: The files cannot be sent or the environment cannot be created, so that nothing
            is measured.
    """
    with temporary_folder() as local_folder:
        wheel_name = _make_bundle(config, local_folder)
        problems: list[str] = []
        deletion_problems: list[str] = []
        with _temporary_folder(transport, config.keep_folder, deletion_problems) as folder:
            progress.message(f"{transport.name}: sending files to {folder}")
            transport.upload(local_folder, folder)
            python = prepare_python(transport, config, folder, wheel_name, progress)
            session = _Session(
                transport=transport,
                config=config,
                folder=folder,
                python=python,
                progress=progress,
                problems=problems,
            )
            session.measure()
    folder_remains = config.keep_folder or bool(deletion_problems)
    return DeviceResults(
        latency=session.latency,
        accuracy=session.accuracy,
        verifications=session.verifications,
        problems=(*problems, *deletion_problems),
        remaining_folder=folder if folder_remains else None,
    )


def _make_bundle(config: SessionConfig, folder: Path) -> str:
    """Fill an empty folder with the files for the device; return the file name of the wheel."""
    wheel = bundle.make_wheel(folder)
    bundle.copy_artifacts(config.paths, folder)
    if config.wheels is not None:
        bundle.copy_wheels(config.wheels, folder)
    if config.data is not None:
        bundle.copy_images(config.data, config.image_count, folder)
    return wheel.name


@contextmanager
def _temporary_folder(
    transport: Transport, keep_folder: bool, deletion_problems: list[str]
) -> Iterator[str]:
    """Create a folder on the device, and delete it at the end, even after an error.

    The folder is not deleted if `keep_folder` is set. If the deletion fails, a message about it is
    added to `deletion_problems`.
    """
    folder = transport.make_folder(keep_folder)
    try:
        yield folder
    finally:
        if not keep_folder:
            try:
                transport.remove_folder(folder)
            except TinyViTError as error:
                deletion_problems.append(
                    f"{folder} may be left on {transport.name} ({error.cause})"
                )


@dataclass
class _Session:
    """The measurements on a device whose environment is ready, and their results.

    Attributes:
        transport: Access to the device.
        config: The options of the measurement.
        folder: Folder on the device with the bundle.
        python: Path of the Python program on the device.
        progress: Receives each step.
        problems: Receives one message per failure.
        latency: The latency record; None until the latency is measured.
        accuracy: The accuracy record; None until the accuracy is measured.
        verifications: File name of an artifact -> JSON output of tinyvit-verify.
    """

    transport: Transport
    config: SessionConfig
    folder: str
    python: str
    progress: Progress
    problems: list[str]
    latency: Record | None = None
    accuracy: Record | None = None
    verifications: dict[str, dict[str, Any]] = field(default_factory=dict)

    def measure(self) -> None:
        """Verify and measure the artifacts.

        Every failure is added to `problems`. After a command that fails on the device, the next
        command still runs. If the transport raises an error, for example because the connection is
        lost or a command takes too long, no further command runs.
        """
        try:
            for path in self.config.paths:
                self._verify(path.name)
            self._report("measuring latency")
            self.latency = self._run_bench("latency", self.config.latency_arguments)
            if self.config.data is not None:
                self._report("measuring accuracy")
                self.accuracy = self._run_bench("accuracy", ("--data", bundle.IMAGES_FOLDER))
        except TinyViTError as error:
            self.problems.append(str(error))

    def _verify(self, name: str) -> None:
        """Run tinyvit-verify on the artifact with this file name, and read its output."""
        self._report(f"verifying {name}")
        options = [*self._list_engine_options(), "--json"]
        command = [*make_options_for_code(_VERIFY_CODE), _protect_hyphen(name), *options]
        result = self._run_python(command)
        try:
            output = parse_json(result.stdout, _MAX_VERIFICATION_CHARACTERS)
            if not isinstance(output, dict) or not isinstance(output.get("passed"), bool):
                raise ValueError("the output has no field 'passed'")
            # Other programs read the file of this output, and JSON has no NaN.
            json.dumps(output, allow_nan=False)
        except ValueError:
            self.problems.append(f"tinyvit-verify {name} failed: {result.last_line}")
            return
        self.verifications[name] = output
        if not output["passed"]:
            reasons = "; ".join(map(str, _to_list(output.get("reasons"))))
            shown_reasons = reasons[:_MAX_REASON_CHARACTERS]
            self.problems.append(f"tinyvit-verify {name} did not pass: {shown_reasons}")

    def _run_bench(self, kind: str, arguments: Sequence[str]) -> Record | None:
        """Run `tinyvit-bench latency` or `accuracy` on all artifacts, and parse the record."""
        files = [_protect_hyphen(path.name) for path in self.config.paths]
        options = [*self._list_engine_options(), *arguments, "--json"]
        program = make_options_for_module("tinyvit.bench.cli")
        result = self._run_python([*program, kind, *files, *options])
        try:
            record = Record.from_json(result.stdout.strip(), f"the output of {kind} on the device")
        except TinyViTError as error:
            reason = result.last_line if result.exit_code else str(error)
            self.problems.append(f"tinyvit-bench {kind} failed: {reason}")
            return None
        if record.kind != kind:
            self.problems.append(
                f"tinyvit-bench {kind} failed: it printed a record of {record.kind}"
            )
            return None
        return record

    def _run_python(self, arguments: Sequence[str]) -> CompletedCommand:
        """Run Python on the device, in the folder of the bundle."""
        command = [self.python, *arguments]
        return self.transport.run(command, self.config.timeout_s, cwd=self.folder)

    def _list_engine_options(self) -> list[str]:
        """Return the command-line options that choose the engine and its threads."""
        options = []
        if self.config.engine_name:
            options += ["--runtime", self.config.engine_name]
        if self.config.threads:
            options += ["--threads", str(self.config.threads)]
        return options

    def _report(self, step: str) -> None:
        """Show a step, together with the name of the device, as progress."""
        self.progress.message(f"{self.transport.name}: {step}")


def _to_list(value: object) -> list[object]:
    """Return a value from the output of a device if it is a list; otherwise an empty list."""
    return value if isinstance(value, list) else []


def _protect_hyphen(name: str) -> str:
    """Return a path of the file that no command parses as an option."""
    return f"./{name}" if name.startswith("-") else name
