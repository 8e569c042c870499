"""Defines `Engine` and `Runtime`, the interfaces that every engine implements, and their options.

An engine is a library that runs artifacts (exported files), such as ONNX Runtime. A runtime is one
artifact that an engine has opened. Each module in `engines/` defines `ENGINE`, an instance of a
subclass of `Engine`, and imports the engine's library only inside functions, so that listing the
engines needs none of the libraries. Other modules get engines from `tinyvit.runtimes.registry`.
Functions that several engines need are in `tinyvit.runtimes.engine_helpers`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from tinyvit.errors import RequestError
from tinyvit.manifest_parts import TensorSpec
from tinyvit.runtimes.formats import Format

if TYPE_CHECKING:
    from tinyvit.runtimes.artifact import Artifact

PRECISIONS = ("float32", "bfloat16", "float16")
"""Values of `RuntimeOptions.precision`."""

MAX_THREADS = 1024
MAX_STREAMS = 64

AUTO_DEVICE = "auto"
"""Value of `RuntimeOptions.device` that stands for the engine's `default_device`."""


@dataclass(frozen=True)
class RuntimeOptions:
    """Options for opening an artifact. An engine that cannot use exactly these raises RequestError.

    Attributes:
        device: "cpu", "gpu", "npu", or the engine's own name of a device, such as an ONNX Runtime
            provider or an OpenVINO device. "auto" means the engine's `default_device`.
        threads: CPU threads for one inference, 1 to 1024; None for the engine's default, or for 1
            if there are several streams.
        precision: Precision of the arithmetic: "float32", "bfloat16" or "float16"; None for the
            precision in the artifact's manifest. For a float16 artifact, None also allows bfloat16,
            which is faster on some processors.
        cache: Folder in which an engine keeps the files that it compiles for this device, so that
            the artifact opens faster the next time. The folder is created if it does not exist.
            Engines execute the files in it without a check, so no other user should be able to
            write to it.
        allow_foreign_operators: Whether a file may contain operators that image classifiers do not
            need, such as loops, which may never end, and operators of other libraries. Set it only
            for a file from someone you trust.
        skip_trial: Whether the engine opens a file that may crash it without running the file once
            in another process before (`tinyvit.runtimes.trial`). This saves 0.5 s for a .tflite
            file and 2.5 s for a .pte file. Set it only for a file that you made yourself: a hostile
            one can crash this process, or do more. All other checks are made.
        streams: Number of batches that can be computed at the same time, 1 to 64, for a higher
            throughput on many images. The artifact is opened once for each, so that the memory
            grows. Only for engines with `Engine.supports_streams`.

    Raises:
        RequestError: If a value is not allowed.
    """

    device: str = "cpu"
    threads: int | None = None
    precision: str | None = None
    cache: str | Path | None = None
    allow_foreign_operators: bool = False
    skip_trial: bool = False
    streams: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.threads, np.integer):
            object.__setattr__(self, "threads", int(self.threads))
        is_thread_count = isinstance(self.threads, int) and 1 <= self.threads <= MAX_THREADS
        if self.threads is not None and not is_thread_count:
            raise RequestError(
                f"threads={self.threads!r} is not allowed",
                f"give a whole number from 1 to {MAX_THREADS}, or leave it out",
            )
        if not isinstance(self.streams, int) or not 1 <= self.streams <= MAX_STREAMS:
            raise RequestError(
                f"streams={self.streams!r} is not allowed",
                f"give a whole number from 1 to {MAX_STREAMS}, or leave it out",
            )
        if self.precision not in (None, *PRECISIONS):
            raise RequestError(
                f"precision={self.precision!r} is not known",
                f"give one of {', '.join(PRECISIONS)}, or leave it out",
            )
        if not isinstance(self.device, str) or not self.device:
            raise RequestError(
                f"device={self.device!r} is not known",
                'give "cpu", "gpu", "npu", or the engine\'s own name of a device',
            )


@dataclass(frozen=True)
class RuntimeInfo:
    """The engine in use and its actual options, as the engine itself reports them.

    Attributes:
        engine: Name of the engine, such as "onnxruntime".
        version: Version of the engine's library.
        device: Device that computes, by the engine's own name, such as "CPUExecutionProvider".
        threads: CPU threads for one inference; None if the engine chooses the number itself or does
            not compute on the CPU.
        precision: Precision of the network, such as "float32", "int8" or "int8, the rest bfloat16";
            "unstated (float32 output)" if neither a manifest nor the engine states it.
    """

    engine: str
    version: str
    device: str
    threads: int | None
    precision: str


class Runtime(Protocol):
    """An artifact that an engine has opened; a context manager that closes it.

    Several threads may call `run` at the same time.

    Attributes:
        inputs: Inputs of the network as the engine reports them; an artifact has one.
        outputs: Outputs of the network as the engine reports them, in the order of the manifest.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the network on one batch of images.

        Args:
            batch: Network input with the shape and dtype of `inputs[0]`. It is not checked for NaN
                values.

        Returns:
            One array for each of `outputs`, float32 (batch, ...). The caller may keep and change
            the arrays.

        Raises:
            ArtifactError: If the shape or dtype is wrong, if the runtime is closed, or if the
                engine fails.
        """
        ...

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Run the network on one batch of images, and return its first output.

        Args:
            batch: As for `run_outputs`.

        Returns:
            For a classifier, the logits, float32 (batch, classes).

        Raises:
            ArtifactError: As for `run_outputs`.
        """
        return self.run_outputs(batch)[0]

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use."""
        ...

    def close(self) -> None:
        """Release the engine's memory. Calling it again has no effect."""
        ...

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Engine(ABC):
    """A library that runs artifacts. Creating an instance does not import the library.

    Attributes:
        name: Name for `--runtime`: the module's name, with hyphens instead of underscores.
        formats: File formats that the engine opens, its own format first.
        package: Name of the Python module that the engine is imported from.
        extra: Extra of tinyvit-edge (as in `pip install tinyvit-edge[extra]`) that installs the
            engine; "" if every installation has the engine.
        default_device: Device to use if `RuntimeOptions.device` is "auto".
        is_reference: True for a reference evaluator, which computes the correct logits on machines
            where the real engine cannot run. Its latency is meaningless.
        caches_compiled_files: True if the engine compiles an artifact when it opens it, and can
            keep the compiled file in a folder (`RuntimeOptions.cache`).
        supports_streams: True if an artifact that is opened several times can compute several
            batches at the same time on the CPU (`RuntimeOptions.streams`).
    """

    name: str
    formats: tuple[Format, ...]
    package: str
    extra: str
    default_device: str = "cpu"
    is_reference: bool = False
    caches_compiled_files: bool = False
    supports_streams: bool = False

    @abstractmethod
    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open an artifact of one of `formats` with exactly the given options.

        Args:
            artifact: The artifact to open.
            options: Device, threads and precision. The device is never "auto", because
                `registry.open_runtime` replaces it with `default_device`.

        Returns:
            The opened artifact. The caller closes it.

        Raises:
            RequestError: If the engine cannot run the artifact with these options.
            ArtifactError: If the file is damaged, or the engine does not accept it.
            MissingDependencyError: If the engine is not installed.
        """
