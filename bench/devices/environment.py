"""Prepares a Python environment with this package on a device, for example over ssh."""

from __future__ import annotations

import re

from tinyvit.bench.devices import bundle
from tinyvit.bench.devices.config import SessionConfig
from tinyvit.bench.devices.process import make_device_error
from tinyvit.bench.devices.transport import Transport
from tinyvit.errors import RequestError
from tinyvit.processes.python_process import make_options_for_code, make_options_for_module
from tinyvit.progress import Progress
from tinyvit.runtimes.artifact import detect_format
from tinyvit.runtimes.registry import engines_for_format, get_engine

_OLDEST_PYTHON = (3, 10)
_VERSION_TIMEOUT_S = 120
_ENVIRONMENT_TIMEOUT_S = 600


def prepare_python(
    transport: Transport,
    config: SessionConfig,
    folder: str,
    wheel_name: str,
    progress: Progress,
) -> str:
    """Return a Python on the device that has this package and the engines of the artifacts.

    This is the Python of `config.use_env`, or that of a new environment.

    Args:
        transport: Access to the device.
        config: The options of the measurement.
        folder: Folder on the device with the bundle (the files that were sent).
        wheel_name: File name of this package's wheel in the bundle.
        progress: Receives each step.

    Returns:
        Path of the Python program on the device.

    Raises:
        RequestError: Python is missing or too old, or the environment cannot be created.
    """
    if config.use_env:
        python = f"{config.use_env.rstrip('/')}/bin/python"
        _require_python(transport, python)
        return python
    _require_python(transport, config.python)
    progress.message(f"{transport.name}: creating an environment")
    _create_environment(transport, config.python, folder)
    _install_packages(transport, config, folder, wheel_name)
    return f"{folder}/venv/bin/python"


def _create_environment(transport: Transport, python: str, folder: str) -> None:
    """Create the virtual environment `venv` in the folder on the device."""
    command = [python, *make_options_for_module("venv"), "venv"]
    result = transport.run(command, _ENVIRONMENT_TIMEOUT_S, cwd=folder)
    if not result.exit_code:
        return
    if "ensurepip" in result.stdout + result.stderr or "No module named venv" in result.stderr:
        raise RequestError(
            f"{transport.name} cannot create an environment, because Python's venv is missing",
            "install it there: sudo apt-get install python3-venv",
        )
    raise make_device_error(transport.name, result, "an environment cannot be created")


def _install_packages(
    transport: Transport, config: SessionConfig, folder: str, wheel_name: str
) -> None:
    """Install this package's wheel and its engines in the environment on the device."""
    index_options = ["--no-index", "--find-links", bundle.WHEELS_FOLDER] if config.wheels else []
    pip = ["venv/bin/python", *make_options_for_module("pip")]
    pip += ["install", "-q", "--disable-pip-version-check"]
    packages = [f"./{wheel_name}", *_list_engine_packages(config)]
    result = transport.run([*pip, *index_options, *packages], config.timeout_s, cwd=folder)
    if result.exit_code:
        raise make_device_error(transport.name, result, "the package cannot be installed")


def _require_python(transport: Transport, python: str) -> None:
    """Raise RequestError unless `python` on the device is Python 3.10 or later."""
    options = make_options_for_code("print(*sys.version_info[:2])")
    result = transport.run([python, *options], _VERSION_TIMEOUT_S)
    if result.exit_code:
        raise RequestError(
            f"{python} cannot be run on {transport.name} ({result.last_line})",
            "install Python there, or name another one with --python or --use-env",
        )
    match = re.fullmatch(r"(\d{1,3}) (\d{1,3})", result.stdout.strip())
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < _OLDEST_PYTHON:
        found = f"is Python {version[0]}.{version[1]}" if match else "states no version of Python"
        raise RequestError(
            f"{python} on {transport.name} {found}",
            "name Python 3.10 or later with --python",
        )


def _list_engine_packages(config: SessionConfig) -> list[str]:
    """Return the packages that pip must install for engines outside the base install.

    The base install (tinyvit-edge without extras) contains onnxruntime; every other engine belongs
    to an extra.
    """
    names = {
        config.engine_name or engines_for_format(detect_format(path))[0] for path in config.paths
    }
    engines = [get_engine(name) for name in names]
    return sorted({engine.package.replace("_", "-") for engine in engines if engine.extra})
