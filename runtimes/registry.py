"""Finds engines by name or file format, and opens artifacts with them.

An engine is an inference library that runs artifacts (exported files). Each module in the
folder `engines/` describes one engine; the library itself is imported only to open an artifact.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from tinyvit.discovery import list_plugins, load_plugin
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.files.file_io import expand_home
from tinyvit.runtimes import engines
from tinyvit.runtimes.artifact import Artifact, read_artifact
from tinyvit.runtimes.base import AUTO_DEVICE, Engine, Runtime, RuntimeOptions
from tinyvit.runtimes.engine_helpers import foreign_operators_error
from tinyvit.runtimes.forking import protect_in_children
from tinyvit.runtimes.formats import Format
from tinyvit.runtimes.limited_trial import run_limited_trial
from tinyvit.runtimes.network_analysis.inference_cost import check_inference_cost
from tinyvit.runtimes.processor import check_this_processor_for_int8
from tinyvit.runtimes.stream_pool import StreamPool
from tinyvit.runtimes.tensor_limits import check_tensor_sizes


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
    """Return whether an engine's library is installed. The library is not imported."""
    return find_spec(get_engine(name).package) is not None


def is_reference(name: str) -> bool:
    """Return whether an engine is a reference evaluator, whose latency is meaningless."""
    return get_engine(name).is_reference


def caching_engines() -> list[str]:
    """Return the names of the engines that support `RuntimeOptions.cache`."""
    return [name for name in engine_names() if get_engine(name).caches_compiled_files]


def streaming_engines() -> list[str]:
    """Return the names of the engines that support `RuntimeOptions.streams`."""
    return [name for name in engine_names() if get_engine(name).supports_streams]


def engines_for_format(format: Format) -> list[str]:
    """Return the names of the engines that open a format, the best one first.

    Args:
        format: A format of `tinyvit.runtimes.artifact.known_formats()`.

    Returns:
        Names of engines: first those that are installed, then the others, and reference evaluators
        at the end. Within each of these groups, the engine whose `Engine.formats` has the format
        earlier comes first.
    """

    def rank(name: str) -> tuple[bool, bool, int]:
        return is_reference(name), not is_installed(name), get_engine(name).formats.index(format)

    return sorted((name for name in engine_names() if format in get_engine(name).formats), key=rank)


def open_runtime(
    artifact: Artifact | str | Path,
    engine_name: str | None = None,
    options: RuntimeOptions | None = None,
) -> Runtime:
    """Open an artifact with an engine.

    Args:
        artifact: The artifact, or the path of its file.
        engine_name: Name of the engine; None for the best installed one for the file's format.
        options: Device, threads, precision and cache folder; None for the engine's defaults.

    Returns:
        The opened artifact. The caller closes it.

    Raises:
        RequestError: If the engine does not exist or does not support the file or an option.
        MissingDependencyError: If the engine is not installed.
        ArtifactError: If the file is damaged or cannot be opened, if it contains operators that
            `RuntimeOptions.allow_foreign_operators` does not allow, if its input or output is too
            large (`tensor_limits`), if it needs too much memory or time (`inference_cost`), or if
            this processor would compute its int8 sums wrongly.
    """
    if not isinstance(artifact, Artifact):
        artifact = read_artifact(artifact)
    format = artifact.format
    matching_engines = engines_for_format(format)
    if engine_name is not None and format not in get_engine(engine_name).formats:
        raise RequestError(
            f"{engine_name} does not open {format.name} files",
            f"use --runtime {' or '.join(matching_engines)}",
        )
    options = options or RuntimeOptions(device=AUTO_DEVICE)
    engine = get_engine(engine_name or _choose_engine(artifact, matching_engines, options.device))
    if options.cache is not None and not engine.caches_compiled_files:
        raise RequestError(
            f"{engine.name} keeps no compiled files, so it does not support --cache",
            f"leave --cache out, or use --runtime {' or '.join(caching_engines())}",
        )
    if options.streams > 1 and not engine.supports_streams:
        others = [name for name in matching_engines if get_engine(name).supports_streams]
        raise RequestError(
            f"{engine.name} does not compute several batches at the same time",
            " or ".join(["leave --streams out", *(f"use --runtime {name}" for name in others)]),
        )
    if options.device == AUTO_DEVICE:
        options = replace(options, device=engine.default_device)
    if options.device == "cpu":
        check_this_processor_for_int8(artifact.manifest)
    if options.cache is not None:
        options = replace(options, cache=expand_home(options.cache))
    if options.streams > 1 and options.threads is None:
        options = replace(options, threads=1)
    _check_before_opening(artifact, engine, options)
    runtime = _open_streams(engine, artifact, options)
    try:
        check_tensor_sizes(runtime.inputs, runtime.outputs, artifact.path.name)
    except ArtifactError:
        runtime.close()
        raise
    protect_in_children(runtime)
    return runtime


def _choose_engine(artifact: Artifact, names: list[str], device: str) -> str:
    """Return the engine for a device: an installed one that is made for it, or the best of all.

    If the file was made for an engine of this device that is not installed, that engine is
    returned: its error says what to install.
    """
    made_for = [name for name in names if get_engine(name).default_device == device != "cpu"]
    for name in made_for:
        if is_installed(name):
            return name
    own_engine = find_own_engine(artifact, names)
    return own_engine if own_engine in made_for else names[0]


def find_own_engine(artifact: Artifact, names: list[str]) -> str | None:
    """Find the engine that has the name of an artifact's target, such as "qnn".

    Args:
        artifact: The artifact.
        names: The names of the engines that open it.

    Returns:
        The name of the engine; None if there is no such engine or no manifest.
    """
    target = None if artifact.manifest is None else artifact.manifest.target
    return target if target in names else None


def _open_streams(engine: Engine, artifact: Artifact, options: RuntimeOptions) -> Runtime:
    """Open an artifact that has been checked, once or several times."""
    if options.streams == 1:
        return engine.open(artifact, options)
    return StreamPool(lambda: engine.open(artifact, options), options.streams)


def _check_before_opening(artifact: Artifact, engine: Engine, options: RuntimeOptions) -> None:
    """Raise ArtifactError for a file whose operators, sizes or cost no engine should see."""
    manifest = artifact.manifest
    if manifest is not None:
        check_tensor_sizes((manifest.input,), manifest.outputs, artifact.path.name)
    if options.allow_foreign_operators:
        return
    graph = artifact.format.read_graph(artifact.path)
    if graph.foreign_operators:
        raise foreign_operators_error(artifact.path, sorted(graph.foreign_operators))
    if not check_inference_cost(graph, artifact.path.name):
        run_limited_trial(artifact, engine.name, options)
