"""Finds engines by name or file format, and opens artifacts with them.

An engine is an inference library that runs artifacts (exported files). Each module in the
folder `engines/` describes one engine; the library itself is imported only to open an artifact.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from tinyvit.discovery import list_plugins, load_plugin
from tinyvit.errors import RequestError
from tinyvit.runtimes import engines, processor
from tinyvit.runtimes.artifact import Artifact, read_artifact
from tinyvit.runtimes.base import AUTO_DEVICE, Engine, Runtime, RuntimeOptions
from tinyvit.runtimes.formats import Format


def engine_names() -> tuple[str, ...]:
    """Return the names of all engines, sorted, installed or not."""
    return list_plugins(engines)


def get_engine(name: str) -> Engine:
    """Return an engine without importing its library.

    Args:
        name: One of `engine_names()`.

    Returns:
        The engine.

    Raises:
        RequestError: If no engine has this name.
    """
    if name not in engine_names():
        raise RequestError(
            f"no engine is called {name!r}", f"choose one of {', '.join(engine_names())}"
        )
    engine: Engine = load_plugin(engines, name, "ENGINE")
    return engine


def is_installed(name: str) -> bool:
    """Return whether the engine's library can be found. It is not imported."""
    return find_spec(get_engine(name).package) is not None


def is_reference(name: str) -> bool:
    """Return whether the engine is a reference evaluator, which is not for measuring latency."""
    return get_engine(name).is_reference


def caching_engines() -> list[str]:
    """Return the names of the engines that support `RuntimeOptions.cache`."""
    return [name for name in engine_names() if get_engine(name).caches_compiled_files]


def engines_for_format(format: Format) -> list[str]:
    """Return the names of the engines that open a format, the best one first.

    Args:
        format: A format of `tinyvit.runtimes.artifact.known_formats()`.

    Returns:
        Engine names: installed engines before others; within each of the two, engines that list the
        format earlier in `Engine.formats` before others.
    """
    names = [name for name in engine_names() if format in get_engine(name).formats]
    return sorted(
        names, key=lambda name: (not is_installed(name), get_engine(name).formats.index(format))
    )


def open_runtime(
    artifact: Artifact | str | Path,
    runtime: str | None = None,
    options: RuntimeOptions | None = None,
) -> Runtime:
    """Open an artifact with an engine.

    Args:
        artifact: The artifact, or the path of its file.
        runtime: Name of the engine to use; None for the best installed one for the file's format.
        options: Device, threads and precision; None for the engine's default device.

    Returns:
        The opened artifact. The caller closes it.

    Raises:
        RequestError: If the engine does not exist or does not support the file or an option.
        MissingDependencyError: If the engine is not installed.
        ArtifactError: If the file is damaged or cannot be opened, or if this processor would
            compute its int8 sums wrongly.
    """
    if not isinstance(artifact, Artifact):
        artifact = read_artifact(artifact)
    format = artifact.format
    names = engines_for_format(format)
    if runtime is not None and format not in get_engine(runtime).formats:
        raise RequestError(
            f"{runtime} does not open {format.name} files", f"use --runtime {' or '.join(names)}"
        )
    engine = get_engine(runtime or names[0])
    options = options or RuntimeOptions(AUTO_DEVICE)
    if options.cache is not None and not engine.caches_compiled_files:
        raise RequestError(
            f"{engine.name} keeps no compiled files, so it does not support --cache",
            f"leave --cache out, or use --runtime {' or '.join(caching_engines())}",
        )
    if options.device == AUTO_DEVICE:
        options = replace(options, device=engine.default_device)
    if options.device == "cpu":
        # Refuses a file whose int8 sums this processor would compute wrongly.
        processor.check_manifest(artifact.manifest)
    return engine.open(artifact, options)
