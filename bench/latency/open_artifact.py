"""Opens an artifact (an exported model file) in an inference engine, so that it can be timed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tinyvit.errors import RequestError
from tinyvit.runtimes.artifact import Artifact, read_artifact
from tinyvit.runtimes.base import Runtime, RuntimeOptions
from tinyvit.runtimes.registry import engines_for_format, is_reference, open_runtime


@dataclass(frozen=True)
class OpenArtifact:
    """An artifact that is open in an engine; a context manager that closes the engine.

    Attributes:
        path: Path of the artifact, as the user gave it; for messages and records.
        engine_name: Name of the engine.
        artifact: The artifact's manifest and its path, with "~" replaced by the home folder.
        runtime: The artifact as the engine opened it, ready to run.
        fixed_batch: Number of images that every run must have; None if any number is allowed.
        load_ms: Time that the engine took to open the artifact.
    """

    path: str
    engine_name: str
    artifact: Artifact
    runtime: Runtime
    fixed_batch: int | None
    load_ms: float

    def __enter__(self) -> OpenArtifact:
        """Return this object, which is open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine at the end of the block."""
        self.runtime.close()


def open_in_engine(path: str, engine_name: str | None, options: RuntimeOptions) -> OpenArtifact:
    """Open an artifact in an engine, and measure how long that takes.

    Args:
        path: Path of the artifact.
        engine_name: Name of the engine; None for the best installed one for the artifact's format.
        options: Device, threads and precision.

    Raises:
        RequestError: The engine cannot open the artifact as requested. Or the engine is a reference
            evaluator, which replaces the real engine to check outputs and is never timed.
        MissingDependencyError: The engine is not installed.
        ArtifactError: The artifact is damaged or cannot be run.
    """
    if engine_name and is_reference(engine_name):
        raise RequestError(
            f"{engine_name} only verifies the outputs of {path}, and its latency is not that of a"
            " device",
            "measure on the device, with the device's own engine",
        )
    artifact = read_artifact(path)
    engine_name = engine_name or engines_for_format(artifact.format)[0]
    start_s = time.perf_counter()
    runtime = open_runtime(artifact, engine_name, options)
    load_ms = (time.perf_counter() - start_s) * 1e3
    return OpenArtifact(
        path=path,
        engine_name=engine_name,
        artifact=artifact,
        runtime=runtime,
        fixed_batch=_find_fixed_batch(runtime),
        load_ms=load_ms,
    )


def _find_fixed_batch(runtime: Runtime) -> int | None:
    """Return the size of the first input's first axis; None if it is dynamic or missing."""
    if not runtime.inputs or not runtime.inputs[0].shape:
        return None
    batch = runtime.inputs[0].shape[0]
    return batch if isinstance(batch, int) else None  # a dynamic size is a name
