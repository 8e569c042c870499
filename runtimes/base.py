"""What an engine is to the rest of the package: the `Runtime` protocol and the options it is opened with.

Each file in engines/ is one engine, named as the file. It imports its SDK inside functions only, and has, at module level:

    FORMATS: the file formats it opens (see formats/), its own one first
    PACKAGE: the module that must be importable for it
    EXTRA: the extra of tinyvit-edge that installs it, "" where the base install does
    DEVICE: what "auto" means for it, where that is not "cpu"
    IS_REFERENCE: True where it computes what a file says, but is not what runs on a device, so that its time means nothing
    CACHES: True where it compiles a file when it opens it, and can keep what it compiled in a folder
    open_runtime(artifact: Artifact, options: Options) -> Runtime
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.manifest import TensorSpec

if TYPE_CHECKING:
    from tinyvit.runtimes.artifact import Artifact

PRECISIONS = ("f32", "bf16", "f16")
MAX_THREADS = 1024
AUTO_DEVICE = "auto"


@dataclass(frozen=True)
class RuntimeOptions:
    """How an engine is asked to run. It does exactly this, or refuses with a RequestError.

    device: "cpu", "gpu", "npu", or a name of the engine's own (a provider of onnxruntime, a device of OpenVINO); "auto" is the device
    that the engine is for, its DEVICE: the CPU where it names none.
    threads: CPU threads for one inference, 1 to 1024, or None for the engine's default.
    precision: of the arithmetic, "f32", "bf16" or "f16"; None means what the file says.
    cache: a folder in which an engine that compiles keeps what it compiled for this device, so that the file opens faster the next time;
    made where there is none. What lies there is run unchecked: it must be nobody's to write but the user's.
    """

    device: str = "cpu"
    threads: int | None = None
    precision: str | None = None
    cache: str | Path | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and (
            not isinstance(self.threads, int) or not 1 <= self.threads <= MAX_THREADS
        ):
            raise RequestError(
                f"threads={self.threads!r} is not possible",
                f"give a whole number from 1 to {MAX_THREADS}, or nothing",
            )
        if self.precision not in (None, *PRECISIONS):
            raise RequestError(
                f"precision={self.precision!r} is not known",
                f"give one of {', '.join(PRECISIONS)}, or nothing",
            )
        if not isinstance(self.device, str) or not self.device:
            raise RequestError(
                f"device={self.device!r} is not known",
                'give "cpu", "gpu", "npu", or a name of the engine\'s own',
            )


@dataclass(frozen=True)
class RuntimeInfo:
    """What really runs, as the engine itself reports it.

    Attributes:
        engine: Name of the engine, such as "onnxruntime".
        version: Version of the engine's library.
        device: Where the engine computes, in the engine's own words, such as "CPUExecutionProvider".
        threads: CPU threads for one inference; None if the engine chooses or does not use them.
        precision: "float32", "bfloat16", "float16" or "int8"; "unstated (float32 output)" for a
            file without a manifest whose arithmetic the engine does not report.
    """

    engine: str
    version: str
    device: str
    threads: int | None
    precision: str


class Runtime(Protocol):
    """An opened artifact. Safe to call from several threads; closing twice is harmless; a context manager that closes."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The one input, of the shape and dtype that `inputs[0]` states -> logits, float32 (batch, classes), the caller's to keep.

        Raises ArtifactError on another shape or dtype, after `close`, and where the engine fails. NaN is let through.
        """
        ...

    def describe(self) -> dict[str, str | int]:
        """What really runs: at least engine, version, device, threads, precision."""
        ...

    def close(self) -> None:
        """Release the engine."""
        ...

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def make_tensor_spec(name: str, shape: Sequence[int | str], dtype: str) -> TensorSpec:
    """A tensor as an engine reports it; the layout is read off the shape: "NC", "NCHW", "NHWC", or "" for any other."""
    layout = "NC" if len(shape) == 2 else ""
    if len(shape) == 4:
        layout = "NHWC" if shape[3] == 3 and shape[1] != 3 else "NCHW"
    return TensorSpec(name, tuple(shape), dtype, layout)


def stated_precision(artifact: Artifact, options: RuntimeOptions, engine: str) -> str:
    """What the file says that it runs in, "" of one without a manifest; raises RequestError where an engine that runs just that is asked
    for another precision."""
    stated = artifact.manifest.precision if artifact.manifest else ""
    if options.precision and (options.precision != "f32" or stated not in ("", "float32")):
        cause = f"{engine} cannot run {artifact.path.name} in {options.precision}"
        raise RequestError(
            cause,
            "leave --precision out: it runs what the file says" + (f", {stated}" if stated else ""),
        )
    return stated


def check_batch(batch: npt.NDArray[Any], inputs: tuple[TensorSpec, ...]) -> None:
    """Raise ArtifactError where `batch` is not what the one input takes: engines differ in what they do then, some crash."""
    if len(inputs) != 1:
        raise ArtifactError(
            f"the file has {len(inputs)} inputs", "one is expected: an image classifier"
        )
    want = inputs[0]
    same = len(batch.shape) == len(want.shape) and all(
        isinstance(b, str) or a == b for a, b in zip(batch.shape, want.shape)
    )
    if not same or batch.dtype != np.dtype(want.dtype) or batch.size == 0:
        expected = f"{want.dtype} of ({', '.join(map(str, want.shape))}), {want.layout}"
        raise ArtifactError(
            f"the input is {batch.dtype} of {batch.shape}", f"the file takes {expected}"
        )


def physical_cores() -> int:
    """Cores that this process may use, counting those that share their arithmetic (hyper-threads) once."""
    allowed = (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else range(os.cpu_count() or 1)
    )
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:
        return len({Path(topology.format(cpu)).read_text() for cpu in allowed})
    except OSError:
        return len(allowed)  # not Linux, or not told


def run_in_batches(
    runtime: Runtime, images: npt.NDArray[np.float32], batch: int | str
) -> npt.NDArray[np.float32]:
    """Any number of images, (n, ...) -> logits (n, classes): a fixed batch (a number) is filled up with the last one, and cut off."""
    if not isinstance(batch, int):
        return runtime.run(images)
    filled = np.concatenate([images, np.repeat(images[-1:], -len(images) % batch, axis=0)])
    return np.concatenate(
        [runtime.run(filled[i : i + batch]) for i in range(0, len(filled), batch)]
    )[: len(images)]


def closed_error() -> ArtifactError:
    """For a call after `close`."""
    return ArtifactError("the file was closed", "open it again")


def load_error(path: Path, engine: str, error: Exception) -> ArtifactError:
    """For a file that an engine refuses; the engine's last line says the most."""
    return ArtifactError(
        f"{engine} cannot open {path.name} ({shorten_message(error)})",
        "the file is damaged or of another kind: export it again",
    )


def run_error(engine: str, error: Exception) -> ArtifactError:
    """For an inference that failed."""
    return ArtifactError(
        f"{engine} failed ({shorten_message(error)})",
        "check the file with tinyvit-verify, or try another --runtime or --device",
    )


def shorten_message(error: Exception) -> str:
    """The telling end of an engine's message, at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [
        type(error).__name__
    ]
    return lines[-1].rsplit(" : ", 1)[-1][:200]
