"""Which engine opens a file: the one that is named, or the best that is installed.

Engines are the files of engines/, found by listing that folder and imported only to be asked.
"""

from __future__ import annotations

import pkgutil
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

from tinyvit.errors import RequestError
from tinyvit.runtimes import engines
from tinyvit.runtimes import processor as cpu
from tinyvit.runtimes.artifact import Artifact, open_artifact
from tinyvit.runtimes.base import AUTO_DEVICE, Runtime, RuntimeOptions
from tinyvit.runtimes.formats import Format


class Engine(Protocol):
    """What each module in engines/ has; see base.py."""

    FORMATS: tuple[Format, ...]
    PACKAGE: str
    EXTRA: str

    def open_runtime(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open a file of one of FORMATS, exactly as `options` ask."""
        ...


@cache
def engine_names() -> tuple[str, ...]:
    """Every engine's name, installed or not: its file's, with hyphens."""
    files = (
        module.name
        for module in pkgutil.iter_modules(engines.__path__)
        if not module.name.startswith("_")
    )
    return tuple(sorted(name.replace("_", "-") for name in files))


def get_engine(name: str) -> Engine:
    """The engine called `name`; raises RequestError with the names there are. Its SDK is not imported yet."""
    if name not in engine_names():
        raise RequestError(
            f"no runtime is called {name!r}", f"there are {', '.join(engine_names())}"
        )
    return cast(Engine, import_module(f"{engines.__name__}.{name.replace('-', '_')}"))


def is_installed(name: str) -> bool:
    """Whether the engine's SDK can be imported, by looking and not by importing."""
    return find_spec(get_engine(name).PACKAGE) is not None


def is_reference(name: str) -> bool:
    """Whether the engine only proves what a file computes, and its time means nothing."""
    return bool(getattr(get_engine(name), "IS_REFERENCE", False))


def caching_engines() -> list[str]:
    """The engines that can keep what they compiled."""
    return [name for name in engine_names() if getattr(get_engine(name), "CACHES", False)]


def engines_for_format(format: Format) -> list[str]:
    """The engines that open a format, those first whose own format it is, and installed before others."""
    able = [name for name in engine_names() if format in get_engine(name).FORMATS]
    return sorted(
        able, key=lambda name: (not is_installed(name), get_engine(name).FORMATS.index(format))
    )


def open_runtime(
    artifact: Artifact | str | Path,
    runtime: str | None = None,
    options: RuntimeOptions | None = None,
) -> Runtime:
    """Open a file with the engine called `runtime`, or with the best installed one for its format.

    Raises RequestError for an engine or option that is not possible, MissingDependencyError where no engine is
    installed, ArtifactError for a file that cannot be used, or whose int8 sums this processor would get wrong.
    """
    if not isinstance(artifact, Artifact):
        artifact = open_artifact(artifact)
    able = engines_for_format(artifact.format)
    if runtime is not None and artifact.format not in get_engine(runtime).FORMATS:
        raise RequestError(
            f"{runtime} does not open {artifact.format.name} files",
            f"use --runtime {' or '.join(able)}",
        )
    options = options or RuntimeOptions(AUTO_DEVICE)
    name = runtime or able[0]
    chosen = get_engine(name)
    if options.cache is not None and not getattr(chosen, "CACHES", False):
        raise RequestError(
            f"{name} keeps nothing that it compiled",
            f"leave out --cache, or take --runtime {' or '.join(caching_engines())}",
        )
    if options.device == AUTO_DEVICE:
        options = replace(options, device=getattr(chosen, "DEVICE", "cpu"))
    if options.device == "cpu":
        cpu.check(artifact.manifest)
    return chosen.open_runtime(artifact, options)
